"""From an instruction to the captions of the edited video and of the edited region."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from videopainter.captions.answers import Answer, NobodyAnswers
from videopainter.captions.captioner import Captioner
from videopainter.captions.pictures import shown_frames, shown_regions
from videopainter.captions.template import kind_of
from videopainter.data.clip import Clip
from videopainter.errors import InputError

INSTRUCTION = "Editing_instruction"
_CAPTIONS = ("Original_video_caption", "caption", "Video_Caption")
NO_WRITER = "expected a caption of the edited video (--prompt), or somebody who writes it (--llm_model), got neither"
# Of a removal that nobody worded.
_EMPTY = "The empty background of the scene, with nothing in front of it."


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What is made of a clip: captions, where they are from, and whether the edit takes something away. `kind`: of an
    invented one."""

    instruction: str
    original: str
    video: str
    region: str
    answers: tuple[Answer, ...] = ()
    kind: str | None = None

    @property
    def removes(self) -> bool:
        """Whether what the mask covers only goes."""
        return (self.kind or kind_of(self.instruction)) == "remove"

    def apply(self, clip: Clip) -> Clip:
        """The clip as it is to be painted."""
        return replace(clip, prompt=self.video, image_prompt=self.region)

    def record(self) -> dict[str, Any]:
        """The public release's keys, and who said what."""
        return {
            "Original_video_caption": self.original,
            "Edited_video_caption": self.video,
            "Edited_image_caption": self.region,
            INSTRUCTION: self.instruction,
            "captions": [answer.note() for answer in self.answers],
        }


def instruction_of(clip: Clip, given: str | None) -> str:
    """The instruction: as given, else that of the clip's row.

    Raises:
        InputError: there is none.
    """
    instruction = " ".join((given or clip.details.get(INSTRUCTION) or "").split())
    if not instruction:
        raise InputError(f"--video_editing_instruction: expected what to change, got nothing, for {clip.name}")
    return instruction


def invented_edit(clip: Clip, kind: str, captioner: Captioner) -> Edit:
    """An edit of a kind (add, remove, swap, change) that a language model thinks of; see `read_edit`."""
    original, answers = original_caption(clip), []
    if not original:
        answers.append(captioner.video(shown_frames(clip, outlined=False)))
        original = answers[-1].text
    answers.append(captioner.instruction(shown_frames(clip), original, kind))
    # A removal, too, is described here: the pair's captions are to say what each of its videos shows.
    described = replace(clip, details={"caption": original})
    edit = read_edit(described, answers[-1].text, lambda: captioner)
    return replace(edit, answers=(*answers, *edit.answers), kind=kind)


def original_caption(clip: Clip) -> str:
    """What the clip's row says of the video as it is; empty where it says nothing."""
    return next((clip.details[key] for key in _CAPTIONS if clip.details.get(key)), "")


def read_edit(
    clip: Clip,
    instruction: str,
    ask: Callable[[], Captioner] | None,
    *,
    video: str | None = None,
    region: str | None = None,
) -> Edit:
    """The captions of an edit: `video` and `region` where they are given, else what the clip's row has for this very
    instruction, else what a language model says.

    Args:
        ask: Gives the one to ask; called only where something is missing. None: nobody is asked.

    Raises:
        InputError: something is missing and no usable answer came. NobodyAnswers: and nobody is asked.
    """
    is_rows = instruction == " ".join(clip.details.get(INSTRUCTION, "").split())
    if is_rows:
        video = video or clip.details.get("Edited_video_caption")
        region = region or clip.details.get("Edited_image_caption")
    original = original_caption(clip)
    if not (video or original) and kind_of(instruction) == "remove":
        video = _EMPTY  # what is behind it needs no words
        region = region or _EMPTY
    answers: list[Answer] = []
    if ask is not None and not (video and region):
        captioner = ask()
        frames = shown_frames(clip)
        if not video:
            if not original:
                answers.append(captioner.video(shown_frames(clip, outlined=False)))
                original = answers[-1].text
            answers.append(captioner.rewrite(frames, original, instruction))
            video = answers[-1].text
        if not region:
            answers.append(captioner.region(shown_regions(clip), video, instruction))
            region = answers[-1].text
    if not video and kind_of(instruction) == "remove":
        video = _EMPTY  # nobody is asked
    if not video:
        raise NobodyAnswers(NO_WRITER)
    return Edit(instruction=instruction, original=original, video=video, region=region or video, answers=tuple(answers))
