"""What a language model is asked: the questions, their words, and what an answer must look like.

A back end sees a question as text and pictures; `facts` say the same to those that read no prose (`template`,
`replay`). The words of a kind carry a version, which is recorded with every answer.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from videopainter.errors import InputError

QuestionKind = Literal["hole", "video", "object", "rewrite", "region", "instruction", "verdict", "things"]
INSTRUCTION_KINDS = ("add", "remove", "swap", "change")
# Of the wording of all questions: raised when one changes, so that old answers are not taken for its own.
WORDING_VERSION = 1
_SYSTEM = (
    "You write captions for a video editing tool. Write plain English in the present tense. Describe only what can be "
    "seen. Do not speak of masks, outlines, grey areas, frames or of the tool. Give the caption alone."
)
_JUDGE = "You judge edited videos for a data set. Be strict, and answer in plain English."
_TAGGER = "You name what is seen in videos, for an object detector. Answer in plain English, with the names alone."
# What is answered where there is none.
NO_THINGS = "nothing"
_OUTLINED = "The pictures are frames of one video, in order; the region in question is outlined in red."


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question: its kind, what is known (`facts`), the whole text, pictures (uint8 RGB (H, W, 3)), and how long
    an answer may be (words)."""

    kind: QuestionKind
    facts: Mapping[str, str]
    text: str
    most_words: int
    pictures: Sequence[np.ndarray] = ()
    system: str = field(default=_SYSTEM)


def ask_for_hole(pictures: Sequence[np.ndarray], caption: str) -> Question:
    """What belongs in the outlined hole of the first frame, for the image model that fills it."""
    known = f'The finished video is described as: "{caption}"\n' if caption else ""
    return _question(
        "hole",
        f"""
        {_OUTLINED} It will be painted anew.
        {known}Say what is to be seen in that region in the finished video, and what surrounds it: one or two sentences.
        """,
        facts={"caption": caption},
        pictures=pictures,
        most_words=80,
    )


def ask_for_video(pictures: Sequence[np.ndarray], measured: str = "") -> Question:
    """A caption of the whole video; `measured`: what is known of it without seeing, for `template`."""
    return _question(
        "video",
        f"""
        The pictures are frames of one video, in order.{_measured(measured)}
        Describe the video in three to six sentences: subjects and what they do, background, light, and the camera's
        motion.
        """,
        facts={"measured": measured} if measured else {},
        pictures=pictures,
        most_words=220,
    )


def ask_for_object(pictures: Sequence[np.ndarray], caption: str, measured: str = "") -> Question:
    """What is outlined, as it is; `measured`: what is known of it without seeing, for `template`."""
    return _question(
        "object",
        f"""
        {_OUTLINED}{_measured(measured)}
        The video is described as: "{caption}"
        Describe what is inside the outlined region: what it is, how it looks and what it does, in fewer than 40 words.
        """,
        facts={"caption": caption, **({"measured": measured} if measured else {})},
        pictures=pictures,
        most_words=39,
    )


def ask_for_rewrite(pictures: Sequence[np.ndarray], caption: str, instruction: str) -> Question:
    """The video's caption as it reads once the instruction is carried out."""
    return _question(
        "rewrite",
        f"""
        {_OUTLINED}
        The video is described as: "{caption}"
        This instruction will be carried out in the outlined region: "{instruction}"
        Write the description of the edited video. Change what the instruction changes and keep the rest as it is.
        """,
        facts={"caption": caption, "instruction": instruction},
        pictures=pictures,
        most_words=260,
    )


def ask_for_region(pictures: Sequence[np.ndarray], edited_caption: str, instruction: str) -> Question:
    """The edited region in under 20 words, for the image model that fills the first frame."""
    return _question(
        "region",
        f"""
        {_OUTLINED}
        This instruction will be carried out there: "{instruction}"
        The edited video is described as: "{edited_caption}"
        Describe what will be seen inside the outlined region, in fewer than 20 words.
        """,
        facts={"caption": edited_caption, "instruction": instruction},
        pictures=pictures,
        most_words=19,
    )


def ask_for_instruction(pictures: Sequence[np.ndarray], caption: str, kind: str) -> Question:
    """An editing instruction of a kind (add, remove, swap, change) for the outlined object.

    Raises:
        InputError: no such kind.
    """
    if kind not in INSTRUCTION_KINDS:
        raise InputError(f"instruction kind: expected {', '.join(INSTRUCTION_KINDS)}, got {kind}")
    wanted = {
        "add": "adds one new thing to or beside what is outlined, which fits the scene",
        "remove": "removes what is outlined, and names it",
        "swap": "replaces what is outlined by something else of about its size, and names both",
        "change": "changes one property of what is outlined (colour, material, clothing, age, weather) and names it",
    }
    return _question(
        "instruction",
        f"""
        {_OUTLINED}
        The video is described as: "{caption}"
        Invent one instruction for an editor, in the imperative, that {wanted[kind]}. At most 20 words.
        """,
        facts={"caption": caption, "kind": kind},
        pictures=pictures,
        most_words=24,
    )


def ask_for_verdict(before: Sequence[np.ndarray], after: Sequence[np.ndarray], instruction: str) -> Question:
    """Whether an edit shows: the same frames `before` and `after` it, with the region outlined."""
    return _question(
        "verdict",
        f"""
        The first {len(before)} pictures are frames of a video, the other {len(after)} the same frames after an edit.
        The edited region is outlined in red.
        The instruction was: "{instruction}"
        Does the edited video show what the instruction asks for, without remains of what was there? Answer "yes", or
        "no:" and what is wrong, in at most 15 words.
        """,
        facts={"instruction": instruction},
        pictures=(*before, *after),
        most_words=24,
        system=_JUDGE,
    )


def ask_for_things(pictures: Sequence[np.ndarray], most: int) -> Question:
    """What separate things a video shows, at most so many, for a detector; see `answers.things_of`."""
    return _question(
        "things",
        f"""
        The pictures are frames of one video, in order.
        Name the separate things (people, animals, vehicles, objects) that could be cut out of it, the most prominent
        first: at most {most}, each once, as a short noun of one to three words. No backgrounds such as sky, ground
        or walls. Answer in one line with commas between, as "dog, red car"; "{NO_THINGS}" where there is none.
        """,
        facts={"most": str(most)},
        pictures=pictures,
        most_words=3 * most,
        system=_TAGGER,
    )


def _measured(words: str) -> str:
    return f" Measured: {words}" if words else ""


def _question(
    kind: QuestionKind,
    text: str,
    *,
    facts: Mapping[str, str],
    pictures: Sequence[np.ndarray],
    most_words: int,
    system: str = _SYSTEM,
) -> Question:
    lines = "\n".join(line.strip() for line in textwrap.dedent(text).strip().splitlines())
    return Question(kind=kind, facts=facts, text=lines, pictures=tuple(pictures), most_words=most_words, system=system)
