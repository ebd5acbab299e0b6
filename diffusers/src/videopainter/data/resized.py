"""A clip at another size: views that resize what they read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from videopainter.data.clip import Clip, FrameSource, FramesView, VideoTags, tags_of
from videopainter.data.masks.views import ResizedMasks
from videopainter.data.reshape import resize_frames
from videopainter.errors import InputError
from videopainter.flags import check_size, shown


class ResizedFrames(FramesView):
    """A view of other frames at `height` x `width` pixels (Lanczos)."""

    def __init__(self, source: FrameSource, height: int, width: int) -> None:
        super().__init__(source)
        self.height, self.width = height, width

    @property
    def tags(self) -> VideoTags:
        """Of the source; the pixels become square."""
        return replace(tags_of(self.source), pixel_aspect=VideoTags().pixel_aspect)

    def read(self, start: int, stop: int) -> np.ndarray:
        return resize_frames(self.source.read(start, stop), self.height, self.width)


def resized(clip: Clip, height: int, width: int) -> Clip:
    """The clip at `height` x `width` pixels, whatever its shape was; a clip of that size comes back as it is."""
    if (clip.frames.height, clip.frames.width) == (height, width):
        return clip
    return replace(
        clip, frames=ResizedFrames(clip.frames, height, width), masks=ResizedMasks(clip.masks, height, width)
    )


def parse_size(text: str, flag: str) -> tuple[int, int]:
    """(height, width) from "480x720"; InputError, naming `flag`, for anything else."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{flag}: expected HEIGHTxWIDTH in pixels (480x720), got {shown(repr(text))}")
    height, width = int(parts[0]), int(parts[1])
    check_size(flag, height, width)
    return height, width
