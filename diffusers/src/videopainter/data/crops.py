"""A crop around a small hole: a rectangle of one size that lies still where it can and follows the hole where it must.

Where it lies is a function of the frame, not of the window: windows that share frames see them alike, so that latents
blend, an image condition fits, and identity tokens are of one size. A model sees the hole as a camera that follows it
does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from videopainter.data.clip import MaskSource
from videopainter.data.reshape import Box, is_same_shape

# Raised when the same masks would give another crop than before.
CROP_VERSION = 1
READ_AT_ONCE = 8  # frames of a large video that are held together
# Around the hole, of its longer side, and at least so many tokens.
_MARGIN, _MARGIN_TOKENS = 0.5, 2
# A crop is worth less context, and a moving one its movement, if it shows the hole so many times as large.
_WORTH = 1.25
_ASPECT = 2.0  # of a crop that is not of the size a model was trained on: at most 2:1, at least 1:2

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class CropPath:
    """`height` x `width` pixels of every frame: of frame t those from row `tops[t]` and column `lefts[t]` on."""

    height: int
    width: int
    tops: np.ndarray  # int64 (T,)
    lefts: np.ndarray  # int64 (T,)

    @classmethod
    def whole(cls, height: int, width: int, frames: int) -> Self:
        """All of frames of this size."""
        return cls(height, width, np.zeros(frames, np.int64), np.zeros(frames, np.int64))

    def covers(self, height: int, width: int) -> bool:
        """Whether it is all of frames of this size."""
        return (self.height, self.width) == (height, width)

    def box(self, frame: int) -> Box:
        """The crop of a frame."""
        top, left = int(self.tops[frame]), int(self.lefts[frame])
        return Box(top, top + self.height, left, left + self.width)

    def cut(self, frames: np.ndarray, start: int) -> np.ndarray:
        """The crops of frames or masks (T, H, W, ...), the first of which is frame `start`."""
        return np.stack([frame[self.box(start + k).slices] for k, frame in enumerate(frames)])

    def put(self, frames: np.ndarray, parts: np.ndarray, start: int) -> None:
        """Put crops back into the frames (T, H, W, ...) that `cut` took them from."""
        for k, part in enumerate(parts):
            frames[k][self.box(start + k).slices] = part

    @property
    def moves(self) -> bool:
        """Whether it follows the hole."""
        return bool(np.ptp(self.tops) or np.ptp(self.lefts))

    def summary(self) -> dict[str, Any]:
        """For the record of a result: size, and first and last row and column that it begins on."""
        places = {"top": self.tops, "left": self.lefts}
        return {
            "height": self.height,
            "width": self.width,
            **{k: [int(v.min()), int(v.max())] for k, v in places.items()},
        }

    def to_json(self) -> dict[str, Any]:
        return {"height": self.height, "width": self.width, "tops": self.tops.tolist(), "lefts": self.lefts.tolist()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From `to_json`."""
        tops, lefts = (np.array(values[name], np.int64) for name in ("tops", "lefts"))
        return cls(values["height"], values["width"], tops, lefts)


def hole_boxes(masks: MaskSource) -> np.ndarray:
    """Top, bottom, left and right (exclusive) of each mask's hole, int64 (T, 4); zeros where there is none.

    A few masks are held at a time.
    """
    boxes = np.zeros((len(masks), 4), np.int64)
    for start in range(0, len(masks), READ_AT_ONCE):
        for k, mask in enumerate(masks.read(start, min(start + READ_AT_ONCE, len(masks)))):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                boxes[start + k] = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    return boxes


def crop_path(
    boxes: np.ndarray, frame: Size, working_size: Callable[[int, int], Size], trained: Size, token: int
) -> CropPath:
    """The crop of a video whose holes lie in `boxes` (see `hole_boxes`), and all of it where no crop is worth it.

    Its size is that of the largest hole with a margin, at least the size that the model works at; it stays where all
    holes can be seen from one place nearly as large as from a moving one.

    Args:
        working_size: What a model works at on frames of a height and width.
        trained: The height and width that the model does best at.
        token: Pixels across a token, at the model's size.
    """
    whole = CropPath.whole(*frame, len(boxes))
    seen = boxes[boxes[:, 1] > 0]
    if not len(seen):
        return whole
    holes = (seen[:, 1] - seen[:, 0]).max(), (seen[:, 3] - seen[:, 2]).max()
    margin = max(math.ceil(_MARGIN * max(holes)), _MARGIN_TOKENS * token)
    spread = seen[:, 1].max() - seen[:, 0].min(), seen[:, 3].max() - seen[:, 2].min()
    follow, stay = (
        _size_around((int(rows) + 2 * margin, int(columns) + 2 * margin), frame, working_size, trained)
        for rows, columns in (holes, spread)
    )
    size = follow if follow.shrinks * _WORTH < stay.shrinks else stay
    if size.shrinks * _WORTH > _Sized.of(frame, working_size).shrinks:
        return whole
    height, width = size.crop
    # Half of the margin is play, so that a mask's trembling does not move the crop.
    tops = _places(boxes[:, 0], boxes[:, 1], height, frame[0], margin // 2)
    lefts = _places(boxes[:, 2], boxes[:, 3], width, frame[1], margin // 2)
    return CropPath(height, width, tops, lefts)


@dataclass(frozen=True)
class _Sized:
    """The size of a crop, and how many times smaller than it a model works at."""

    crop: Size
    shrinks: float

    @classmethod
    def of(cls, crop: Size, working_size: Callable[[int, int], Size]) -> Self:
        return cls(crop, math.sqrt(math.prod(crop) / math.prod(working_size(*crop))))


def _size_around(needed: Size, frame: Size, working_size: Callable[[int, int], Size], trained: Size) -> _Sized:
    """The crop that holds `needed` and is shrunk the least, never enlarged; else the frame."""
    rows, columns = (min(side, most) for side, most in zip(needed, frame))
    own = max(rows, round(columns / _ASPECT)), max(columns, round(rows / _ASPECT))
    sizes = [_Sized.of(frame, working_size)]
    for shape in (_settled(own, working_size), trained):
        scale = max(1.0, rows / shape[0], columns / shape[1])
        # Rounding may make it a few pixels larger than the frame.
        height, width = (min(most, round(side * scale)) for side, most in zip(shape, frame))
        works = working_size(height, width)
        if height < max(rows, works[0]) or width < max(columns, works[1]):
            continue
        if is_same_shape(height, width, *shape):
            sizes.append(_Sized.of((height, width), working_size))
    # Of two alike the last: the size the model was trained on.
    return min(reversed(sizes), key=lambda size: round(size.shrinks, 2))


def _settled(size: Size, working_size: Callable[[int, int], Size]) -> Size:
    """The working size in the aspect of `size`, which is its own working size."""
    for _ in range(8):
        size, before = working_size(*size), size
        if size == before:
            break
    return size


def _places(first: np.ndarray, last: np.ndarray, length: int, most: int, margin: int) -> np.ndarray:
    """Where a crop of `length` pixels begins on an axis of `most`, so that [first, last) lies `margin` inside it."""
    hole = last > 0
    lows = np.where(hole, np.clip(last + margin - length, 0, most - length), 0)
    highs = np.where(hole, np.clip(first - margin, 0, most - length), most - length)
    return steadiest(lows, highs)


def steadiest(lows: np.ndarray, highs: np.ndarray) -> np.ndarray:
    """The path x of least movement with lows ≤ x ≤ highs: a string pulled taut between them, with loose ends.

    It has the least total variation and the least sum of squared steps at once (Davies, Kovac, "Local extremes, runs,
    strings and multiresolution", Annals of Statistics 2001), up to rounding: it rests as long as it can and goes on
    evenly where it must.

    Args:
        lows, highs: int64 (T,), lows ≤ highs.

    Returns:
        int64 (T,).
    """
    assert len(lows) == len(highs) and (lows <= highs).all()
    if lows.max() <= highs.min():
        return np.full(len(lows), (lows.max() + highs.min()) // 2, np.int64)
    corners = [(0, float(_first_rest(lows, highs)))]
    while corners[-1][0] < len(lows) - 1:
        corners.append(_next_corner(lows, highs, *corners[-1]))
    path = np.empty(len(lows))
    for (start, value), (stop, end) in pairwise(corners):
        path[start : stop + 1] = np.linspace(value, end, stop - start + 1)
    return np.rint(path).astype(np.int64)


def _first_rest(lows: np.ndarray, highs: np.ndarray) -> int:
    """Where the string begins: at the bound that holds it until it has to leave."""
    low, high = np.maximum.accumulate(lows), np.minimum.accumulate(highs)
    leaves = int(np.argmax(low > high))
    return int(high[leaves - 1] if lows[leaves] > high[leaves - 1] else low[leaves - 1])


def _next_corner(lows: np.ndarray, highs: np.ndarray, at: int, value: float) -> tuple[int, float]:
    """Where the string that is at `value` in frame `at` bends next: the funnel of slopes that are free closes there."""
    ahead = 64
    while True:
        stop = min(len(lows), at + 1 + ahead)
        steps = np.arange(1, stop - at)
        down, up = (lows[at + 1 : stop] - value) / steps, (highs[at + 1 : stop] - value) / steps
        least, most = np.maximum.accumulate(down), np.minimum.accumulate(up)
        closed = np.flatnonzero(least > most)
        if len(closed):
            end = int(closed[0])
            over = bool(down[end] > most[end - 1])
            break
        if stop == len(lows):
            if least[-1] <= 0 <= most[-1]:
                return len(lows) - 1, value  # a loose end rests
            end, over = len(steps), bool(most[-1] < 0)
            break
        ahead *= 2
    # Around the upper bound or the lower one, in the frame that left the fewest slopes; the last of several in a line.
    bound, tightest = (highs, np.argmin(up[:end][::-1])) if over else (lows, np.argmax(down[:end][::-1]))
    bend = at + end - int(tightest)
    return bend, float(bound[bend])
