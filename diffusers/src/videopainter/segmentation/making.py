"""From flags to masks: prompts checked, objects solved and tracked, in a session's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from videopainter.data.clip import FrameSource
from videopainter.errors import InputError
from videopainter.files import remove_folder
from videopainter.locks import held
from videopainter.segmentation.choosing import SegmenterChoice, SegmenterOptions, choose_segmenter
from videopainter.segmentation.prompts import (
    FrameRange,
    ObjectOptions,
    TextPrompt,
    TrackedObject,
    check_objects,
    parse_objects,
)
from videopainter.segmentation.session import Session

# (frames done, frames to do)
OnFrames = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class MaskRequest:
    """What is to be masked in frames `span` of a video, and by whom."""

    objects: tuple[TrackedObject, ...]
    candidate: int
    span: FrameRange
    choice: SegmenterChoice


def mask_request(
    what: ObjectOptions, who: SegmenterOptions, *, frames: FrameSource, span: FrameRange, video: Path | str
) -> MaskRequest:
    """The flags, checked against a video. InputError for what does not fit, before anything is written or loaded."""
    objects = parse_objects(what, span.start)
    check_objects(objects, width=frames.width, height=frames.height, frames=span, video=video)
    words = has_words(objects)
    if who.text_model is not None and not words:
        raise InputError(f"--text_model: expected --text with it, or words of an --object, got none: {who.text_model}")
    choice = choose_segmenter(who, words=words)
    return MaskRequest(objects=tuple(objects), candidate=what.candidate, span=span, choice=choice)


def has_words(objects: Sequence[TrackedObject]) -> bool:
    return any(isinstance(prompt, TextPrompt) for thing in objects for prompt in thing.prompts)


def make_masks(
    request: MaskRequest,
    folder: Path,
    frames: FrameSource,
    video: Path | str,
    *,
    device: str | None = None,
    patience: float | None = None,
    anew: bool = False,
    progress: OnFrames | None = None,
) -> Session:
    """The session in `folder` with all masks that are asked for; what it has already is not made again.

    Args:
        device: For models; None: a GPU if there is one.
        patience: As for `held`, where another process works on the session.
        anew: Something else in the folder, or a session that cannot be read, is removed.

    Raises:
        InputError: prompts that point at nothing (a new folder is removed again), or another video's session.
    """
    with held(folder, patience=patience):
        if anew and folder.is_dir() and not Session.fits(folder, video, frames):
            remove_folder(folder)
        is_new = not folder.exists()
        segmenter, finder = request.choice.load(device)
        session = Session.open(folder, video, frames, span=request.span, segmenter=segmenter, find_text=finder)
        try:
            session.keep_only(request.objects, candidate=request.candidate)
            for thing in request.objects:
                session.prepare(thing.id)
        except InputError:
            if is_new:
                remove_folder(folder)
            raise
        each = len(request.span)
        for done, thing in enumerate(request.objects):

            def show(count: int, total: int, frame: int, done: int = done) -> None:
                if progress is not None:
                    progress(done * each + min(count, each), each * len(request.objects))

            session.track(thing.id, progress=show)
    return session
