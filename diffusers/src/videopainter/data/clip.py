"""What travels from a file or a record to the result: frames, masks, prompts.

Sources are read by ranges, so that a video of any length needs no more memory than the range asked for.
A mask is True where pixels are to be painted (the hole), everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from videopainter.errors import InputError


class FrameSource(Protocol):
    """Random access to the frames of a video; memory does not grow with what was read.

    `fps` is exact (24000/1001 for "23.976"); `height` and `width` are pixels as displayed.
    """

    @property
    def fps(self) -> Fraction: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def __len__(self) -> int: ...
    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop` (exclusive) as uint8 RGB (stop - start, height, width, 3)."""
        ...


class MaskSource(Protocol):
    """Random access to the mask of every frame."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def __len__(self) -> int: ...
    def read(self, start: int, stop: int) -> np.ndarray:
        """Masks `start` to `stop` (exclusive) as bool (stop - start, height, width), True = hole."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Where the sound of a clip comes from: `duration` seconds of `file`, from second `start` on."""

    file: Path
    start: Fraction
    duration: Fraction

    def part(self, offset: Fraction, duration: Fraction) -> Sound:
        """The sound of a part that begins `offset` seconds after this one and lasts `duration` at most."""
        left = max(Fraction(0), self.duration - offset)
        return replace(self, start=self.start + offset, duration=min(duration, left))


@dataclass(frozen=True, kw_only=True)
class VideoTags:
    """What a player has to know to show stored pixels as the source showed them.

    `color` is the matrix between RGB and the stored YUV: "bt709", "smpte170m" (BT.601) or "unspecified".
    `pixel_aspect` is a pixel's width divided by its height. `primaries` and `transfer` are codes of H.273 where they
    are others than those that go with the matrix (0).
    """

    color: str = "bt709"
    pixel_aspect: Fraction = Fraction(1)
    primaries: int = 0
    transfer: int = 0


def tags_of(frames: FrameSource) -> VideoTags:
    """The source's own tags where it is a video file, otherwise the defaults."""
    return getattr(frames, "tags", VideoTags())


def times_of(frames: FrameSource) -> np.ndarray | None:
    """Seconds from the first frame to each, float64 (T,), where frames do not come evenly; None where they do."""
    return getattr(frames, "times", None)


def duration_of(frames: FrameSource) -> Fraction:
    """Seconds from the first frame to the end of the last."""
    times = times_of(frames)
    if times is None:
        return len(frames) / frames.fps
    return Fraction(float(times[-1])).limit_denominator(10**6) + 1 / frames.fps


def notes_of(frames: FrameSource) -> list[str]:
    """What reading changes in a video file, a line each."""
    return getattr(frames, "notes", [])


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip to inpaint.

    `prompt` describes the whole (resulting) video, `image_prompt` what belongs in the hole of the first frame.
    `sound` is None where none is wanted or known. `files` is what the clip was made from.
    `details` holds what else a record knows (captions, editing instruction, mask id, ...).
    Raises InputError where masks and frames differ in number or size.
    """

    name: str
    frames: FrameSource
    masks: MaskSource
    prompt: str = ""
    image_prompt: str = ""
    sound: Sound | None = None
    files: tuple[Path, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        f, m = self.frames, self.masks
        if len(f) != len(m):
            raise InputError(f"{self.name}: expected {len(f)} masks, one for each frame, got {len(m)}")
        if (f.height, f.width) != (m.height, m.width):
            raise InputError(
                f"{self.name}: expected masks of {f.width}x{f.height} pixels, as the frames, got {m.width}x{m.height}"
            )

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def fps(self) -> Fraction:
        return self.frames.fps

    def with_masks(self, masks: MaskSource) -> Clip:
        """The same clip with other masks (dilated, inverted, ...)."""
        return replace(self, masks=masks)

    def pick(self, indices: np.ndarray, fps: Fraction) -> Clip:
        """The clip made of frames `indices` (rising), shown at `fps`; sound is kept from the first one's time on.

        Uneven frames keep their times, so that they stay in step with it.
        """
        frames = PickedFrames(self.frames, indices, fps)
        sound = self.sound
        if sound is not None and len(indices):
            times = times_of(self.frames)
            begin = int(indices[0]) / self.fps if times is None else Fraction(float(times[indices[0]]))
            sound = sound.part(begin.limit_denominator(10**6), duration_of(frames))
        return replace(self, frames=frames, masks=PickedMasks(self.masks, indices), sound=sound)

    def cut(self, start: int, stop: int) -> Clip:
        """Frames `start` to `stop` (exclusive) of this clip, with their sound. InputError where that is empty."""
        if not 0 <= start < stop <= len(self):
            raise InputError(f"{self.name}: expected frames within 0 to {len(self)} (exclusive), got {start} to {stop}")
        return self.pick(np.arange(start, stop), self.fps)


class ArrayFrames:
    """Frames that are in memory already: uint8 (T, H, W, 3)."""

    def __init__(self, frames: np.ndarray, fps: Fraction | int = 8) -> None:
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise InputError(f"frames: expected uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")
        self.frames = frames
        self.fps = Fraction(fps)
        self.height, self.width = int(frames.shape[1]), int(frames.shape[2])

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self))
        return self.frames[start:stop]


class ArrayMasks:
    """Masks that are in memory already: bool (T, H, W), True = hole."""

    def __init__(self, masks: np.ndarray) -> None:
        if masks.ndim != 3 or masks.dtype != np.bool_:
            raise InputError(f"masks: expected bool (T, H, W), got {masks.dtype} {masks.shape}")
        self.masks = masks
        self.height, self.width = int(masks.shape[1]), int(masks.shape[2])

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self))
        return self.masks[start:stop]


class FramesView:
    """Frames made of a source's, one of each: what the source tells beside its pixels holds for them, too."""

    def __init__(self, source: FrameSource) -> None:
        self.source = source
        self.fps, self.height, self.width = source.fps, source.height, source.width

    @property
    def tags(self) -> VideoTags:
        return tags_of(self.source)

    @property
    def times(self) -> np.ndarray | None:
        return times_of(self.source)

    @property
    def notes(self) -> list[str]:
        return notes_of(self.source)

    def __len__(self) -> int:
        return len(self.source)


class PickedFrames(FramesView):
    """A view of other frames: frame k is the source's frame `indices[k]`; `fps` None keeps the source's."""

    def __init__(self, source: FrameSource, indices: np.ndarray, fps: Fraction | None = None) -> None:
        super().__init__(source)
        self.indices = _checked_indices(indices, len(source))
        self.fps = source.fps if fps is None else Fraction(fps)

    @property
    def times(self) -> np.ndarray | None:
        """The source's, counted from the first frame picked."""
        times = times_of(self.source)
        if times is None or not len(self.indices):
            return None
        return times[self.indices] - times[self.indices[0]]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self))
        return _read_picked(self.source, self.indices[start:stop], (self.height, self.width, 3))


class PickedMasks:
    """A view of other masks: mask k is the source's mask `indices[k]`."""

    def __init__(self, source: MaskSource, indices: np.ndarray) -> None:
        self.source = source
        self.indices = _checked_indices(indices, len(source))
        self.height, self.width = source.height, source.width

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, start: int, stop: int) -> np.ndarray:
        check_range(start, stop, len(self))
        return _read_picked(self.source, self.indices[start:stop], (self.height, self.width))


def check_range(start: int, stop: int, length: int) -> None:
    """IndexError where [start, stop) does not lie inside a source of `length` frames (a caller's bug)."""
    if not 0 <= start <= stop <= length:
        raise IndexError(f"frames {start} to {stop} of {length}")


def _checked_indices(indices: np.ndarray, length: int) -> np.ndarray:
    indices = np.asarray(indices, dtype=np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= length):
        raise IndexError(f"frames {indices.min()} to {indices.max()} of {length}")
    return indices


def _read_picked(source: FrameSource | MaskSource, indices: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Reads run by run of neighbouring frames: what lies between the runs is never held."""
    if not len(indices):
        return source.read(0, 0)
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    runs = np.split(indices, breaks)
    if len(runs) == 1:
        return source.read(int(indices[0]), int(indices[-1]) + 1)
    first = source.read(int(runs[0][0]), int(runs[0][-1]) + 1)
    out = np.empty((len(indices), *shape), first.dtype)
    done = len(first)
    out[:done] = first
    for run in runs[1:]:
        out[done : done + len(run)] = source.read(int(run[0]), int(run[-1]) + 1)
        done += len(run)
    return out
