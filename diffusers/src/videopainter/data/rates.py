"""Frame rates, exactly: which source frames make a video of another rate."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from videopainter.data.clip import Clip, duration_of, times_of
from videopainter.errors import InputError
from videopainter.flags import MAX_FPS, shown

DEFAULT_FPS = 24  # of what has no rate of its own: that of DAVIS
# Rates of the NTSC family, which people and files round to three digits.
_NTSC = tuple(Fraction(n * 1000, 1001) for n in (24, 30, 48, 60, 120))


def parse_fps(value: str | float | Fraction, name: str = "frame rate", where: object = "") -> Fraction:
    """A frame rate from "24", "24000/1001", 23.976, ...: the NTSC rates are taken exactly.

    InputError, naming `name` (and the file `where`), for what is no number, below 0, or so high or low that no video
    has it (0 is taken).
    """
    try:
        fps = value if isinstance(value, Fraction) else Fraction(_plain(str(value)))
    except (ValueError, OverflowError, ZeroDivisionError, TypeError):
        fps = Fraction(-1)
    if fps and not Fraction(1, MAX_FPS) <= fps <= MAX_FPS:
        place = f", in {where}" if where else ""
        raise InputError(
            f"{name}: expected frames per second, a number or a fraction like 24000/1001, "
            f"got {shown(repr(value))}{place}"
        )
    for exact in _NTSC:
        if fps.denominator != 1 and abs(fps - exact) < Fraction(1, 100):
            return exact
    return fps


def _plain(text: str) -> str:
    # As a fraction "1e-999999999" would be computed to its last digit.
    return repr(float(text)) if "e" in text.lower() else text


def frame_offsets(count: int, fps: Fraction, target_fps: Fraction) -> np.ndarray:
    """Where the `count` frames of a clip at `target_fps` lie in a source of `fps`, from the first on: int64 (count,).

    Output frame k is the source frame nearest to the time k / target (the earlier one of two equally near), in exact
    rational arithmetic; a target of 0, or at or above the source's rate, takes every frame.
    """
    if target_fps == 0 or target_fps >= fps:
        return np.arange(count)
    step, half = fps / target_fps, Fraction(1, 2)
    # ceil(x - 1/2) rounds to the nearest, halves down.
    return np.array([math.ceil(k * step - half) for k in range(count)], dtype=np.int64)


def resample_indices(num_frames: int, fps: Fraction, target_fps: str | float | Fraction) -> tuple[np.ndarray, Fraction]:
    """Which frames of a video of `num_frames` at `fps` show it at `target_fps`.

    Those of `frame_offsets`, as many as have a nearest frame in the source, so that the duration stays within one
    frame. 0, or a target at or above the source's rate, keeps every frame and the source's own rate: no frame is
    invented or shown twice.

    Returns (indices, int64 and rising; the rate that they are to be shown at).
    """
    target = parse_fps(target_fps)
    if target == 0 or target >= fps:
        return np.arange(num_frames), fps
    count = math.floor((num_frames - Fraction(1, 2)) / (fps / target)) + 1
    return frame_offsets(count, fps, target), target


def resample(clip: Clip, target_fps: str | float | Fraction) -> Clip:
    """The clip at another frame rate (see `resample_indices`): one index array for frames and masks.

    Where frames do not come evenly, the nearest are found by their times, which they keep; each is taken once.
    """
    indices, fps = resample_indices(len(clip), clip.fps, target_fps)
    if fps == clip.fps:
        return clip
    times = times_of(clip.frames)
    return clip.pick(indices if times is None else _nearest(times, duration_of(clip.frames), fps), fps)


def _nearest(times: np.ndarray, duration: Fraction, fps: Fraction) -> np.ndarray:
    """Numbers of the frames nearest to the times k / fps, each once."""
    wanted = np.arange(max(1, math.floor(duration * fps + Fraction(1, 2)))) / float(fps)
    after = np.searchsorted(times, wanted).clip(1, max(1, len(times) - 1))
    before = after - 1
    nearest = np.where(wanted - times[before] <= times[after.clip(max=len(times) - 1)] - wanted, before, after)
    return np.unique(nearest.clip(max=len(times) - 1))
