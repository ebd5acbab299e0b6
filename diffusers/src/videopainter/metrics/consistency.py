"""Whether an object that comes back is still the same: its appearance before it left against that after its return.

An appearance is the distribution of what the object's pixels look like, wherever they lie: lightness and colour in
CIE Lab, and local contrast (the gradient of lightness). So an object may move, turn and change its size, and still
counts as the same. Two appearances are as far apart as the sliced Wasserstein distance of their distributions, in
units of Lab (if all pixels change by one colour, that is their Delta E), and `likeness` is exp(-distance / 10): 1 for
the same distribution, 0.37 for a change of 10 units, near 0 for another object.

Consistency says nothing about being right: a hole filled twice with the same grey is consistent. Read it next to the
likeness to the true object, and PSNR. Where the scene without the object is known, `object_consistency` asks for an
object: what looks like the bare scene counts as none.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.metrics.pixels import checked_masks, unit_range

LIKENESS_SCALE = 10.0  # Lab units at which likeness is 1/e
LEVELS = 128  # quantiles by which distributions are compared
_ROTATIONS = 16
FEATURES = 4  # L, a, b, local contrast
PRESENCE = 10.0  # Delta E from the bare scene from which on a pixel counts as an object's
_BIN = 10.0  # Lab units of a bin of colours


@dataclass(frozen=True)
class Appearance:
    """Quantiles of the object's pixels along fixed directions of (L, a, b, contrast): float64 (directions, levels)."""

    quantiles: np.ndarray


def appearance(frames: np.ndarray, masks: np.ndarray) -> Appearance:
    """What the pixels of `masks` look like in all frames together.

    Frames (T, H, W, 3), uint8 or float in 0..1; masks bool (T, H, W), True = object. ValueError for empty masks.
    """
    checked_masks(masks, frames.shape)
    if not masks.any():
        raise ValueError("masks: expected at least one pixel of the object, got none")
    pixels = unit_range(frames).astype(np.float32)
    features = np.concatenate([pixel_features(f)[m] for f, m in zip(pixels, masks, strict=True) if m.any()])
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return Appearance(np.quantile(features @ directions().T, levels, axis=0).T)


def distance(first: Appearance, second: Appearance) -> float:
    """Sliced Wasserstein-2 distance, scaled so that one shift of all pixels counts by its length in Lab units."""
    squares = (first.quantiles - second.quantiles) ** 2
    # Over an orthonormal basis the squared projections of a shift add up to its squared length.
    return float(np.sqrt(FEATURES * squares.mean()))


def likeness(first: Appearance, second: Appearance) -> float:
    """exp(-distance / 10): 0..1, higher = more alike, 1 = the same."""
    return float(np.exp(-distance(first, second) / LIKENESS_SCALE))


def visits(masks: np.ndarray, *, min_absence: int = 4, min_share: float = 0.5) -> list[np.ndarray]:
    """The stays of an object in the picture: frame numbers of each, in order.

    Stays are separated by at least `min_absence` frames without a pixel of it. Of each only the frames count in which
    it shows at least `min_share` of its largest area in `masks` (bool (T, H, W)), so that parts at the picture's edge
    are not compared with the whole; stays without such a frame are left out.
    """
    areas = masks.sum(axis=(1, 2))
    seen = np.flatnonzero(areas)
    if not len(seen):
        return []
    breaks = np.flatnonzero(np.diff(seen) > min_absence) + 1
    stays = [stay[areas[stay] >= min_share * areas.max()] for stay in np.split(seen, breaks)]
    return [stay for stay in stays if len(stay)]


def inner(masks: np.ndarray, pixels: int = 1) -> np.ndarray:
    """Masks (T, H, W) without their edge, where object and background mix; bool."""
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return np.stack([cv2.erode(mask.astype(np.uint8), kernel) for mask in masks]) > 0


def return_consistency(frames: np.ndarray, masks: np.ndarray, **options: float) -> float:
    """Likeness of an object in its first stay to its later ones, their mean: 0..1, higher = more consistent.

    Args:
        frames: (T, H, W, 3), uint8 or float in 0..1.
        masks: bool (T, H, W), True = object.
        options: of `visits`.

    Raises ValueError if the object does not come back.
    """
    stays = [appearance(frames[stay], masks[stay]) for stay in visits(masks, **options)]  # type: ignore[arg-type]
    if len(stays) < 2:
        raise ValueError(f"masks: expected an object that leaves and comes back, got {len(stays)} stays")
    return float(np.mean([likeness(stays[0], later) for later in stays[1:]]))


def object_consistency(frames: np.ndarray, masks: np.ndarray, scene: np.ndarray, **options: float) -> float:
    """How much of the object is there with the same colours in its first stay and in later ones: 0..1, their mean.

    A pixel of the mask belongs to an object if it is 10 or more (Delta E, CIE 1976) away from the bare scene. The
    colours of these pixels are counted in bins of 10 Lab units, each stay's as a share of its mask; two stays agree by
    the overlap of both counts (the sum of the smaller ones). So a hole filled with the scene scores 0, whatever it
    looks like, and an object that fills the mask with the same colours in both stays 1.

    Args:
        frames, scene: (T, H, W, 3), uint8 or float in 0..1; `scene` is what is there without the object.
        masks: bool (T, H, W), True = object.
        options: of `visits`.

    Raises ValueError if the object does not come back.
    """
    stays = visits(masks, **options)  # type: ignore[arg-type]
    if len(stays) < 2:
        raise ValueError(f"masks: expected an object that leaves and comes back, got {len(stays)} stays")
    counts = [_object_colours(frames[stay], masks[stay], scene[stay]) for stay in stays]
    return float(np.mean([np.minimum(counts[0], later).sum() for later in counts[1:]]))


def _object_colours(frames: np.ndarray, masks: np.ndarray, scene: np.ndarray) -> np.ndarray:
    """Shares of the mask's pixels by colour bin, of those that are not the bare scene; they sum to 1 at most."""
    checked_masks(masks, frames.shape)
    colours, bare = (_lab_of(source, masks) for source in (frames, scene))
    colours = colours[np.linalg.norm(colours - bare, axis=-1) >= PRESENCE]
    # Lightness 0..100, a and b -128..127. Each pixel is shared out over the eight bins around it, so that no colour
    # jumps from one to the next.
    place = (colours - (0.0, -128.0, -128.0)) / _BIN
    low = np.floor(place).astype(int)
    counts = np.zeros((12, 28, 28))
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, place - low, 1 - (place - low)), axis=-1)
        np.add.at(counts, tuple((low + corner).T), weight)
    return counts / masks.sum()


def _lab_of(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Lab of the masks' pixels: float64 (N, 3)."""
    pixels = unit_range(frames).astype(np.float32)
    found = [cv2.cvtColor(f, cv2.COLOR_RGB2LAB)[m] for f, m in zip(pixels, masks, strict=True)]
    return np.concatenate(found).astype(np.float64)


def pixel_features(frame: np.ndarray) -> np.ndarray:
    """L, a, b and local contrast of every pixel; float32 (H, W, 3) in 0..1 to (H, W, 4)."""
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
    # Scharr's derivative per pixel; its size does not depend on direction, so a turned object keeps it.
    dx, dy = (cv2.Scharr(lab[..., 0], cv2.CV_32F, *order) / 32 for order in ((1, 0), (0, 1)))
    return np.concatenate([lab, np.hypot(dx, dy)[..., None]], axis=-1)


def directions() -> np.ndarray:
    """Unit vectors in groups that are orthonormal bases, the same in every run: (directions, 4)."""
    rng = np.random.default_rng(0)
    return np.concatenate([np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0] for _ in range(_ROTATIONS)])
