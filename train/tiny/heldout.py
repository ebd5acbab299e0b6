"""Scenes that no training has seen, with the truth behind every hole. Rendered from their seeds: no files needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.synthetic.scenes import render_clip
from videopainter.metrics.consistency import inner, visits

FIRST_SEED = 900000
OBJECT, FREE_FORM = "object-shaped", "free-form"


@dataclass(frozen=True, kw_only=True)
class RemovalCase:
    """One object is to go. `frames`, `truth` (without it): uint8 (T, H, W, 3); `hole`: bool (T, H, W).

    With a free-form hole there is nothing to remove: `frames` is `truth`.
    """

    seed: int
    frames: np.ndarray
    truth: np.ndarray
    hole: np.ndarray
    prompt: str


@dataclass(frozen=True, kw_only=True)
class ReturnCase:
    """An object is painted where it was, and leaves and comes back. `frames` is the truth, `scene` what is there
    without the object: uint8 (T, H, W, 3).

    `hole`: bool (T, H, W), all that the object changes; `seen`: where it is the foremost, without edges and shadow.
    """

    seed: int
    frames: np.ndarray
    hole: np.ndarray
    seen: np.ndarray
    scene: np.ndarray
    prompt: str

    @property
    def moments(self) -> tuple[int, int]:
        """A frame in the middle of the first stay, and one of the last."""
        stays = visits(self.seen)
        return tuple(int(stay[len(stay) // 2]) for stay in (stays[0], stays[-1]))  # type: ignore[return-value]


def removal_cases(
    count: int,
    kind: str,
    *,
    num_frames: int,
    height: int,
    width: int,
    first_seed: int = FIRST_SEED,
) -> Iterator[RemovalCase]:
    """The first `count` scenes from `first_seed` on whose hole is not empty after frame 0, which is not counted."""
    seed, look = first_seed, {"num_frames": num_frames, "height": height, "width": width, "bold": True}
    while count:
        full = render_clip(seed, **look)
        removed = 1 + seed % len(full.object_captions)
        empty = render_clip(seed, **look, without=removed)
        rng = np.random.default_rng((4, seed))
        if kind == OBJECT:
            frames, hole = full.frames, dilate(full.footprint(removed), int(rng.integers(3, 9)))
        else:
            frames, hole = empty.frames, free_form_hole(empty.masks.shape, rng)
        if hole[1:].any() and not hole.all(axis=(1, 2)).any():
            yield RemovalCase(seed=seed, frames=frames, truth=empty.frames, hole=hole, prompt=empty.caption)
            count -= 1
        seed += 1


def return_cases(
    count: int, *, num_frames: int, height: int, width: int, first_seed: int = FIRST_SEED
) -> Iterator[ReturnCase]:
    """The first `count` scenes from `first_seed` on in which an object is well seen before it leaves and afterwards."""
    seed, size = first_seed, {"num_frames": num_frames, "height": height, "width": width, "bold": True}
    size |= {"returning": True}
    while count:
        clip = render_clip(seed, **size)
        assert clip.returning is not None
        empty = render_clip(seed, **size, without=clip.returning)
        solid = (clip.masks == clip.returning) & ~darkened(clip.frames, empty.frames)
        seen, hole = inner(solid), dilate(clip.footprint(clip.returning), 3)
        if len(visits(seen)) == 2:
            yield ReturnCase(
                seed=seed, frames=clip.frames, hole=hole, seen=seen, scene=empty.frames, prompt=clip.caption
            )
            count -= 1
        seed += 1


def darkened(frames: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Where the object's shadow is all that can be seen of it: bool (T, H, W).

    A shadow mixes up to 55 % of nearly black into what is there without the object, an object changes its colour.
    """
    change, towards = frames - empty.astype(np.float32), np.array((12, 12, 18), np.float32) - empty
    share = (change * towards).sum(axis=-1) / np.maximum((towards**2).sum(axis=-1), 1)
    unexplained = np.abs(change - share[..., None] * towards).max(axis=-1)
    return (share > 0) & (share < 0.6) & (unexplained < 6)


def dilate(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks (T, H, W) grown by a square of `size` pixels."""
    kernel = np.ones((size, size), np.uint8)
    return np.stack([cv2.dilate(mask.astype(np.uint8), kernel) for mask in masks]) > 0


def free_form_hole(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A box, an ellipse or a brush stroke that drifts through the clip: bool (T, H, W)."""
    num_frames, height, width = shape
    hole = np.zeros(shape, np.uint8)
    kind = ("box", "ellipse", "stroke")[int(rng.integers(3))]
    start, drift = rng.uniform(0.25, 0.75, 2) * (width, height), rng.uniform(-0.02, 0.02, 2) * height
    half = np.rint(rng.uniform(0.1, 0.25, 2) * height).astype(int)
    stroke = np.cumsum(rng.normal(0, 0.14 * height, (6, 2)), axis=0)
    for t in range(num_frames):
        centre = start + drift * t
        x, y = (int(value) for value in np.rint(centre))
        if kind == "box":
            cv2.rectangle(hole[t], (x - half[0], y - half[1]), (x + half[0], y + half[1]), 1, -1)
        elif kind == "ellipse":
            cv2.ellipse(hole[t], (x, y), (int(half[0]), int(half[1])), 0, 0, 360, 1, -1)
        else:
            line = np.rint(stroke - stroke.mean(axis=0) + centre).astype(np.int32)
            cv2.polylines(hole[t], [line], False, 1, max(1, round(0.18 * height)))
    return hole > 0
