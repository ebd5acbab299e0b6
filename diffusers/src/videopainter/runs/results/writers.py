"""The files of one result: the video, and beside it the comparison and the contact sheet."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from videopainter.data.clip import Clip, MaskSource, tags_of, times_of
from videopainter.data.panels import contact_sheet, no_wider, side_by_side, tinted
from videopainter.data.video.pictures import image_name_of, open_writer
from videopainter.data.video.reader import VideoWriter, open_video
from videopainter.runs.options import OutputOptions
from videopainter.runs.results.outputs import companion

_CHUNK = 16  # frames of a finished result that are read at once
_WIDEST = 8192  # pixels of a line that graphics cards decode; libx264 takes 16384, and five panels of 4K are more
SHEET_ROWS = 6
SHEET_HEIGHT = 240  # pixels of one picture


class ResultWriter:
    """Takes the result's frames in order; all files appear when the `with` block ends well, the video last."""

    def __init__(self, path: Path, clip: Clip, options: OutputOptions, rest: MaskSource | None = None) -> None:
        self.video = open_writer(
            path,
            image_name=image_name_of(options.output_path or ""),
            fps=clip.fps,
            tags=tags_of(clip.frames),
            times=times_of(clip.frames),
            sound=clip.sound,
            lossless=options.lossless,
        )
        self.beside = BesideWriter(path, clip, options, rest)

    def __enter__(self) -> ResultWriter:
        # Closed from last to first: an error beside drops the video too.
        self._stack = ExitStack()
        self._stack.enter_context(self.video)
        self._stack.enter_context(self.beside)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frames: np.ndarray) -> None:
        """The next frames of the result, uint8 (t, H, W, 3)."""
        self.video.write(frames)
        self.beside.write(frames)


class BesideWriter:
    """The comparison and the contact sheet of a result, where they are asked for.

    `rest` is the part of the hole that was not copied from other frames, where any was.
    """

    def __init__(self, path: Path, clip: Clip, options: OutputOptions, rest: MaskSource | None = None) -> None:
        self.clip, self.rest, self.done = clip, rest, 0
        wanted = beside_paths(path, options)
        self.comparison = self.sheet = None
        if "comparison" in wanted:
            tags, times = tags_of(clip.frames), times_of(clip.frames)
            self.comparison = VideoWriter(wanted["comparison"], fps=clip.fps, tags=tags, times=times)
        if "contact_sheet" in wanted:
            self.sheet = Sheet(wanted["contact_sheet"], len(clip))

    def __enter__(self) -> BesideWriter:
        self._stack = ExitStack()
        for part in (self.comparison, self.sheet):
            if part is not None:
                self._stack.enter_context(part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, frames: np.ndarray) -> None:
        """The next frames of the result, uint8 (t, H, W, 3)."""
        start, self.done = self.done, self.done + len(frames)
        if self.comparison is None and self.sheet is None:
            return
        originals, masks = self.clip.frames.read(start, self.done), self.clip.masks.read(start, self.done)
        rest = None if self.rest is None else self.rest.read(start, self.done)
        if self.comparison is not None:
            self.comparison.write(no_wider(side_by_side(originals, masks, frames, rest=rest), _WIDEST))
        if self.sheet is not None:
            self.sheet.add(start, originals, masks, frames, rest)


def beside_paths(path: Path, options: OutputOptions) -> dict[str, Path]:
    """The files wanted beside a result, by kind."""
    paths = {}
    if options.save_comparison:
        paths["comparison"] = companion(path, "comparison", ".mp4")
    if options.contact_sheet:
        paths["contact_sheet"] = companion(path, "contact_sheet", ".png")
    return paths


def missing_beside(path: Path, options: OutputOptions) -> dict[str, Path]:
    """The files wanted beside a result that are not there, by kind."""
    return {kind: file for kind, file in beside_paths(path, options).items() if not file.exists()}


def write_missing_beside(path: Path, clip: Clip, options: OutputOptions, rest: MaskSource | None = None) -> list[Path]:
    """What is asked for beside a finished result and not there is made from the result itself; returns those files.

    `rest`: see `BesideWriter`.
    """
    missing = missing_beside(path, options)
    if not missing:
        return []
    only = replace(options, save_comparison="comparison" in missing, contact_sheet="contact_sheet" in missing)
    result = open_video(path)
    with BesideWriter(path, clip, only, rest) as writer:
        for start in range(0, len(result), _CHUNK):
            writer.write(result.read(start, min(start + _CHUNK, len(result))))
    return list(missing.values())


class Sheet:
    """A few frames, evenly spread over the clip, of original, masked, mask and result."""

    def __init__(self, path: Path, length: int) -> None:
        self.path = path
        self.wanted = set(np.linspace(0, length - 1, min(SHEET_ROWS, length)).round().astype(int).tolist())
        self.columns: dict[str, list[np.ndarray]] = {"original": [], "masked": [], "mask": [], "result": []}

    def add(
        self,
        start: int,
        originals: np.ndarray,
        masks: np.ndarray,
        results: np.ndarray,
        rest: np.ndarray | None = None,
    ) -> None:
        """Keep the wanted ones of the frames from `start` on; with `rest` there is a column of what was copied."""
        for at in sorted(self.wanted & set(range(start, start + len(results)))):
            original, mask, result = originals[at - start], masks[at - start], results[at - start]
            masked = np.where(mask[..., None], np.uint8(0), original)
            pictures = {"original": original, "masked": masked, "mask": mask, "result": result}
            if rest is not None:
                pictures["copied"] = tinted(result, mask & ~rest[at - start], rest[at - start])
            for name, picture in pictures.items():
                self.columns.setdefault(name, []).append(
                    sheet_picture(picture.astype(np.uint8) * 255 if picture.dtype == np.bool_ else picture)
                )

    def __enter__(self) -> Sheet:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            contact_sheet(self.columns, self.path)


def sheet_picture(picture: np.ndarray) -> np.ndarray:
    """A copy no higher than `SHEET_HEIGHT`."""
    height, width = picture.shape[:2]
    if height <= SHEET_HEIGHT:
        return picture.copy()
    size = (max(1, round(width * SHEET_HEIGHT / height)), SHEET_HEIGHT)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
