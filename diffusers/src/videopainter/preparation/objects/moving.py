"""What moves by itself in a frame: a start for the tracker where nobody points at anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.clip import FrameSource, PickedFrames
from videopainter.data.masks.views import PlacedMasks
from videopainter.propagation.footage import Footage
from videopainter.propagation.settings import PropagationSettings
from videopainter.segmentation.tracker.alarm import grabcut
from videopainter.segmentation.tracker.labelling import filled, opened

# Shares of the picture: less is a speck, more is a camera that is not understood.
_LEAST, _MOST = 0.004, 0.4
# Of a mask's outline along the picture's border: such things are seen better in another frame.
_BORDER = 0.3
# Frames a second at which motion is looked for: training's rate.
_RATE = 8
# Parts of one thing are as near as this share of the picture's height.
_GAP = 1 / 14
# How well colours have to agree with motion (intersection over union) about what the thing is.
_AGREE = 0.55


@dataclass(frozen=True, kw_only=True)
class MovingThing:
    """`mask` bool (H, W) at the video's size, in frame `frame`; of two the one with the higher score is likelier."""

    frame: int
    mask: np.ndarray
    score: float


def moving_things(frames: FrameSource, numbers: Sequence[int]) -> list[MovingThing]:
    """What, in some frames, neither earlier nor later ones show once the camera's motion is taken out; likeliest first.

    A thing counts where colours agree with motion about its outline.
    """
    found: list[MovingThing] = []
    for number, picture, moves in _own_motion(frames, numbers):
        if _LEAST < moves.mean() < _MOST:
            size = frames.width, frames.height
            for mask, score in _things(picture, moves):
                large = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
                found.append(MovingThing(frame=number, mask=large, score=score))
    return sorted(found, key=lambda thing: -thing.score)


def moving_shares(frames: FrameSource, numbers: Sequence[int], masks: Callable[[int], np.ndarray]) -> np.ndarray:
    """What share of each object moves by itself, float (N,): the median over those frames that show it.

    `masks(k)`: bool (N, H, W), the objects in frame k. Where the camera is not understood nothing moves.
    """
    shares: list[np.ndarray] = []
    for number, _, moves in _own_motion(frames, numbers):
        joined = _joined(moves) if moves.mean() < _MOST else np.zeros_like(moves)
        large = cv2.resize(joined.astype(np.uint8), (frames.width, frames.height), interpolation=cv2.INTER_NEAREST)
        objects = masks(number)
        areas = objects.sum(axis=(1, 2))
        shares.append(np.where(areas > 0, (objects & (large > 0)).sum(axis=(1, 2)) / np.maximum(areas, 1), np.nan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what none of the frames shows
        return np.nan_to_num(np.nanmedian(np.stack(shares), axis=0))


def _own_motion(frames: FrameSource, numbers: Sequence[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(number, picture uint8 (h, w, 3), what moves by itself bool (h, w)) of frames `numbers`, in any order.

    Frames between are left out down to `_RATE`: what is gone half a second later moves; a sixtieth later it is there.
    """
    step = max(1, int(frames.fps / _RATE))
    with ThreadPoolExecutor(1) as pool:
        for first in range(step):
            wanted = sorted(number for number in numbers if number % step == first)
            if not wanted:
                continue
            fewer = PickedFrames(frames, np.arange(first, len(frames), step))
            nothing = PlacedMasks(_Empty(frames), 0, len(fewer))
            footage = Footage(fewer, nothing, PropagationSettings(reach=1))
            for number in wanted:
                at = number // step
                footage.move_to(at, at + 1, pool)
                yield number, footage.view(at).picture, footage.own_motion(at) > 128


def _joined(moves: np.ndarray) -> np.ndarray:
    """`moves` bool (h, w) with its gaps closed."""
    gap = _gap(moves)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (gap, gap))
    around = cv2.copyMakeBorder(moves.astype(np.uint8), gap, gap, gap, gap, cv2.BORDER_CONSTANT)
    return cv2.morphologyEx(around, cv2.MORPH_CLOSE, kernel)[gap:-gap, gap:-gap] > 0


def _gap(moves: np.ndarray) -> int:
    return max(3, round(moves.shape[0] * _GAP)) | 1


def _things(picture: np.ndarray, moves: np.ndarray) -> list[tuple[np.ndarray, float]]:
    """(mask bool (h, w), score) of the connected things in `moves` bool (h, w) of a picture uint8 RGB."""
    count, labels = cv2.connectedComponents(_joined(moves).astype(np.uint8))
    found = []
    for k in range(1, count):
        part = filled(labels == k, 0.3)
        if part.mean() < _LEAST:
            continue
        mask = _outlined(picture, part, _gap(moves))
        agree = (mask & part).sum() / max(1, (mask | part).sum())
        if mask.mean() > _LEAST and agree > _AGREE and _along_border(mask) < _BORDER:
            found.append((mask, float(agree)))
    return found


def _outlined(picture: np.ndarray, part: np.ndarray, gap: int) -> np.ndarray:
    """A region's outline where the colours change: what is far out is background, what is deep inside is not."""
    inside = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    outside = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 3)
    labels = np.full(part.shape, cv2.GC_BGD, np.uint8)
    labels[outside < gap] = cv2.GC_PR_BGD
    labels[part] = cv2.GC_PR_FGD
    labels[inside > 0.6 * inside.max()] = cv2.GC_FGD
    mask = filled(opened(grabcut(picture, labels, rounds=4)), 0.1)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return parts == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()) if count > 1 else mask


def _along_border(mask: np.ndarray) -> float:
    """What share of a mask's outline lies along the picture's border."""
    outline = mask & ~cv2.erode(np.pad(mask, 1).astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1].astype(bool)
    inner = np.zeros_like(mask)
    inner[2:-2, 2:-2] = True
    return float((outline & ~inner).sum() / max(1, outline.sum()))


class _Empty:
    """Masks of no frame at all, of a video's size."""

    def __init__(self, frames: FrameSource) -> None:
        self.height, self.width = frames.height, frames.width

    def __len__(self) -> int:
        return 0

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.zeros((0, self.height, self.width), bool)
