"""Asks, checks, asks again, remembers: the one way to a caption."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.captions.answers import Answer, NobodyAnswers, UnusableAnswer, check_answer, plain
from videopainter.captions.backends import CaptionBackend
from videopainter.captions.questions import (
    WORDING_VERSION,
    Question,
    ask_for_hole,
    ask_for_instruction,
    ask_for_region,
    ask_for_rewrite,
    ask_for_verdict,
    ask_for_video,
)
from videopainter.errors import InputError
from videopainter.files import WriteError, fingerprint, read_json, write_json
from videopainter.locks import held

_TRIES = 3  # of answers that cannot be used; what the network does is the back end's affair


class Captioner:
    """What a language model does here. Answers are kept on disk by what was asked and by whom, so that a run that is
    killed and started again asks nothing twice.

    Args:
        backend: Who answers.
        cache: Folder of the answers; by default `videopainter/captions` in the user's cache.

    Raises (all questions):
        InputError: in one line, where no usable answer came. NobodyAnswers: to this and any other question, without
            asking again.
    """

    def __init__(self, backend: CaptionBackend, cache: Path | None = None) -> None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._backend, self._cache = backend, cache or root / "videopainter" / "captions"
        self._recalled: Sequence[Mapping[str, Any]] = ()
        self._gone: str | None = None

    @property
    def name(self) -> str:
        """Who answers, as it stands in answers."""
        return self._backend.name

    def recall(self, result: Path) -> None:
        """Take what a result's JSON says was answered for it, where the same is asked now; nothing where there is none.

        So a result is found finished on any machine, whatever became of the answers kept on disk.
        """
        try:
            notes = read_json(result.with_suffix(".json")).get("captions")
        except (InputError, AttributeError):
            notes = None
        self._recalled = [note for note in notes if isinstance(note, Mapping)] if isinstance(notes, list) else ()

    def hole(self, pictures: Sequence[np.ndarray], caption: str) -> Answer:
        """What belongs in the outlined hole of the first frame of a video with this caption (may be empty)."""
        return self.answer(ask_for_hole(pictures, caption))

    def video(self, pictures: Sequence[np.ndarray]) -> Answer:
        """A caption of the whole video."""
        return self.answer(ask_for_video(pictures))

    def rewrite(self, pictures: Sequence[np.ndarray], caption: str, instruction: str) -> Answer:
        """The caption once the instruction is carried out in the outlined region."""
        return self.answer(ask_for_rewrite(pictures, caption, instruction))

    def region(self, pictures: Sequence[np.ndarray], edited_caption: str, instruction: str) -> Answer:
        """The edited region in under 20 words."""
        return self.answer(ask_for_region(pictures, edited_caption, instruction))

    def instruction(self, pictures: Sequence[np.ndarray], caption: str, kind: str) -> Answer:
        """An instruction of a kind (add, remove, swap, change) for what is outlined."""
        return self.answer(ask_for_instruction(pictures, caption, kind))

    def verdict(self, before: Sequence[np.ndarray], after: Sequence[np.ndarray], instruction: str) -> Answer:
        """Whether the frames after an edit show what the instruction asks for; see `answers.verdict_of`."""
        return self.answer(ask_for_verdict(before, after, instruction))

    def answer(self, question: Question) -> Answer:
        """A usable answer, from the disk or from the back end."""
        key = self._key(question)
        file = self._cache / key[:2] / f"{key}.json"
        known = self._known(file, key, question)
        if known is not None:
            return known
        if self._gone is not None:
            raise NobodyAnswers(self._gone)
        with self._turn(file):
            known = self._known(file, key, question)
            if known is not None:
                return known
            text = self._usable(question)
            answer = self._answer(key, question, text, cached=False)
            with suppress(WriteError):  # a read-only home costs questions, nothing else
                write_json(file, answer.note())
        return answer

    def close(self) -> None:
        """Let go what the back end holds."""
        self._backend.close()

    @contextmanager
    def _turn(self, file: Path) -> Iterator[None]:
        """Of several processes that ask the same, one is answered and the others take over what it got."""
        with ExitStack() as stack:
            with suppress(OSError, WriteError):
                file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(file, patience=math.inf))
            yield

    def _usable(self, question: Question) -> str:
        complaint: str | None = None
        for _ in range(_TRIES):
            try:
                text = plain(self._backend.ask(question, complaint), listed=question.kind == "things")
                check_answer(question, text)
                return text
            except UnusableAnswer as error:
                complaint = str(error)
            except NobodyAnswers as error:
                self._gone = str(error)
                raise
        raise InputError(
            f"{self._backend.name}: expected a usable answer to `{question.kind}`, got {_TRIES} of which none was; "
            f"of the last, {complaint}"
        )

    def _key(self, question: Question) -> str:
        return fingerprint(
            {
                "model": self._backend.name,
                "wording": WORDING_VERSION,
                "kind": question.kind,
                "system": question.system,
                "text": question.text,
                "pictures": [_digest(picture) for picture in question.pictures],
            }
        )

    def _known(self, file: Path, key: str, question: Question) -> Answer | None:
        try:
            # A note without a key may be of other pictures.
            recalled = next((note for note in self._recalled if note.get("key") == key), None)
            note: Any = recalled or read_json(file)
            text = note["text"]
            check_answer(question, text)
        except (InputError, UnusableAnswer, KeyError, TypeError, AttributeError):
            return None  # not there, or not ours: ask
        return self._answer(key, question, text, cached=True)

    def _answer(self, key: str, question: Question, text: str, *, cached: bool) -> Answer:
        name = self._backend.name
        return Answer(kind=question.kind, facts=question.facts, text=text, model=name, key=key, cached=cached)


def _digest(picture: np.ndarray) -> str:
    shape = "x".join(map(str, picture.shape))
    return hashlib.sha256(shape.encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()
