"""One object carried from frame to frame: flow, remembered cells, colours, background, and what they agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.segmentation.segmenter import State
from videopainter.segmentation.tracker.alarm import Cues, confidence, second_opinion
from videopainter.segmentation.tracker.backdrop import Backdrop, background_flow
from videopainter.segmentation.tracker.labelling import logit, mean_field, sigmoid
from videopainter.segmentation.tracker.memory import Memory
from videopainter.segmentation.tracker.picture import Picture, PictureWindow, grown
from videopainter.vision.flow import DenseFlow, round_trip_error, warp

# Weights of the cues: log odds add up.
_FLOW, _CELLS, _COLOUR, _MOTION, _BACKDROP = 1.5, 3.5, 0.5, 0.8, 1.2
_FAR = 0.25  # against what is far from the carried mask, per pixel
_REACH = 24  # pixels round the carried mask that are looked at
_SOFT = 1.5  # how far the carried edge may be off
_LEARN_EVERY = 3
# Sure enough to learn from; below the second number a frame is flagged.
_LEARN, SURE = 0.6, 0.5
# An area that changes by more than this factor against the last frames is no object's: the carried mask stays.
_WILD = 2.5
_GONE, _SMALLEST = 0.12, 20  # share of the anchor's area, pixels: less is no object
_FOUND = 0.8  # likeness that ends an absence


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Where the object is in one frame.

    `prob` float32 (H, W) at working size; `confidence` 0 to 1. "unsure": there is a mask that may be wrong (look at
    it, correct it); "absent": the object is hidden or out of the picture, and the mask is empty.
    """

    prob: np.ndarray
    confidence: float
    state: State


class Tracker:
    """Follows one object through pictures of one size, in either direction; memory does not grow.

    Deterministic: the same pictures give the same masks, also across `state()` and `from_state()`.
    """

    def __init__(self) -> None:
        self._flow = DenseFlow("medium")
        self._memory = Memory()
        self._areas: list[float] = []
        self._steps = 0
        self._absent = False

    def start(self, picture: Picture, prob: np.ndarray) -> Estimate:
        """Takes `prob` float32 (H, W) as the truth of this picture: a first mask, or a corrected one."""
        self._memory.learn(picture, prob, anchor=True)
        self._areas = [float((prob > 0.5).sum())]
        self._anchor_area = max(1.0, self._areas[0])
        self._absent = not (prob > 0.5).any()
        self._backdrop = Backdrop.of(picture, prob > 0.3)
        self._previous, self._prob = picture.gray, prob.astype(np.float32)
        return Estimate(prob=self._prob, confidence=1.0, state="absent" if self._absent else "tracked")

    def step(self, picture: Picture) -> Estimate:
        """Follows the object into the next picture."""
        self._steps += 1
        back, there = self._flow(picture.gray, self._previous), self._flow(self._previous, picture.gray)
        trust = np.exp(-((round_trip_error(back, there) / 2) ** 2))
        carried = warp(self._prob, back)
        thing = carried > 0.3
        behind = background_flow(back, grown(thing, 3))
        self._backdrop.move(behind)
        self._previous = picture.gray
        if self._absent or not thing.any():
            return self._search(picture)
        window = picture.window(thing, _REACH)
        cells = self._memory.cells_score(picture, window, carried)
        plate = self._backdrop.evidence(picture, grown(thing, 4))[window]
        evidence = (
            _FLOW * logit(cv2.GaussianBlur(carried, (0, 0), _SOFT)[window]) * (0.25 + 0.75 * trust[window])
            + _CELLS * cells
            + _COLOUR * self._memory.colour_score(picture, window)
            + _MOTION * _moves_along(back - behind, carried > 0.5, window) * trust[window]
            + _BACKDROP * plate
            - _FAR * np.maximum(0, _distance_to(carried > 0.5)[window] - 4)
        )
        prob = np.zeros_like(carried)
        prob[window] = mean_field(evidence, picture.smooth[window])
        prob = _without_specks(prob, carried > 0.5)
        return self._judge(picture, prob, carried, trust, window, cells, plate)

    def _judge(
        self,
        picture: Picture,
        prob: np.ndarray,
        carried: np.ndarray,
        trust: np.ndarray,
        window: PictureWindow,
        cells: np.ndarray,
        plate: np.ndarray,
    ) -> Estimate:
        """How far a new mask can be believed, and what becomes of it."""
        usual = float(np.median(self._areas[-10:]))
        wild = (prob > 0.5).sum() > _WILD * usual + 50
        if wild:
            prob = carried
        mask = prob > 0.5
        area = float(mask.sum())
        if area < max(_SMALLEST, _GONE * self._anchor_area):
            return self._lose()
        cues = Cues(
            area=abs(float(np.log((area + 1) / (usual + 1)))),
            flow=float(trust[mask].mean()),
            cells=float(sigmoid(2 * cells[mask[window]]).mean()) if mask[window].any() else 0.0,
            backdrop=float(sigmoid(plate[mask[window]]).mean()) if mask[window].any() else 0.0,
            opinion=_overlap(mask, second_opinion(picture, carried, window)),
        )
        sure = 0.0 if wild else confidence(cues)
        self._areas = [*self._areas[-9:], area]
        self._prob = prob
        self._backdrop.renew(picture, prob > 0.3)
        if sure > _LEARN and self._steps % _LEARN_EVERY == 0:
            self._memory.learn(picture, prob)
        return Estimate(prob=prob, confidence=sure, state="tracked" if sure >= SURE else "unsure")

    def _lose(self) -> Estimate:
        self._absent = True
        self._prob = np.zeros_like(self._prob)
        return Estimate(prob=self._prob, confidence=0.0, state="absent")

    def _search(self, picture: Picture) -> Estimate:
        """Looks for an absent object in the whole picture, by its looks alone and against the background."""
        evidence = (
            _CELLS * self._memory.cells_score(picture, picture.whole, self._prob * 0)
            + _COLOUR * self._memory.colour_score(picture, picture.whole)
            + _BACKDROP * self._backdrop.evidence(picture, np.zeros_like(self._prob, bool))
            - _FLOW
        )
        prob = _largest_part(mean_field(evidence, picture.smooth, rounds=3))
        mask = prob > 0.5
        right_size = 0.35 * self._anchor_area < mask.sum() < 2 * self._anchor_area
        if not right_size or self._memory.likeness(picture, mask) < _FOUND:
            self._backdrop.renew(picture, np.zeros_like(mask))
            return self._lose()
        self._absent, self._prob = False, prob
        self._areas = [float(mask.sum())]
        return Estimate(prob=prob, confidence=SURE, state="tracked")

    def state(self) -> dict[str, np.ndarray]:
        """Everything the next step depends on, as arrays (for `np.savez`)."""
        numbers = [self._steps, self._absent, self._anchor_area, *self._areas]
        own = {"previous": self._previous, "prob": self._prob, "numbers": np.array(numbers, np.float64)}
        own |= {"plate": self._backdrop.plate, "known": self._backdrop.known}
        return own | {f"memory.{name}": array for name, array in self._memory.state().items()}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> Tracker:
        """The tracker that `state()` was taken from."""
        tracker = cls()
        steps, absent, tracker._anchor_area, *tracker._areas = (float(x) for x in arrays["numbers"])
        tracker._steps, tracker._absent = int(steps), bool(absent)
        tracker._previous, tracker._prob = arrays["previous"], arrays["prob"]
        tracker._backdrop = Backdrop(arrays["plate"], arrays["known"])
        prefix = "memory."
        tracker._memory = Memory.from_state(
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        )
        return tracker


def _moves_along(own: np.ndarray, mask: np.ndarray, window: PictureWindow) -> np.ndarray:
    """-1 to 1 for the pixels of a window: moves against the background as the object does; 0 where that stands still.

    `own` (H, W, 2): motion without the background's; `mask` bool (H, W): the object.
    """
    speed = cv2.magnitude(np.ascontiguousarray(own[..., 0]), np.ascontiguousarray(own[..., 1]))
    noise = float(np.median(speed)) + 0.25
    usual = float(np.median(speed[mask])) if mask.any() else 0.0
    if usual <= 2.5 * noise:
        return np.zeros_like(speed[window])
    return np.clip((speed[window] - 0.5 * (usual + noise)) / (0.5 * (usual - noise)), -1, 1)


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Pixels from each pixel to the nearest of `mask`; 0 everywhere where that is empty."""
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _without_specks(prob: np.ndarray, near: np.ndarray) -> np.ndarray:
    """`prob` without parts that are very small, or that do not touch what was there before."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((prob > 0.5).astype(np.uint8))
    if count <= 2:
        return prob
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    touched = np.unique(labels[grown(near, 3)])
    dropped = [k for k in range(1, count) if areas[k] < 0.02 * areas.max() or k not in touched]
    return np.where(np.isin(labels, dropped), np.float32(0.1), prob) if dropped else prob


def _largest_part(prob: np.ndarray) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats((prob > 0.5).astype(np.uint8))
    if count <= 2:
        return prob
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.where((labels == largest) | (labels == 0), prob, np.float32(0.1))
