"""The camera's motion between two frames: corners tracked both ways, and the homography that most of them follow."""

from __future__ import annotations

import cv2
import numpy as np

# Corners of a frame, and the pixels between two of them.
_CORNERS, _APART = 600, 6
_WINDOW, _LEVELS = (15, 15), 4
# Pixels by which a track may miss its start when it is followed back.
_ROUND_TRIP = 0.5
# Pixels by which a corner of the background may miss the homography, as MAGSAC takes it.
_MISS = 0.7
_FEWEST = 12
# Share of a homography's tracks that a simpler motion must explain to be taken instead.
_ENOUGH = 0.9
# Less of the tracks than this following one homography is no camera that moved on: another shot.
_SHARE = 0.25
# Grey levels on average: frames without corners that are as alike as this show the same.
_SAME = 4.0


def camera_step(
    image: np.ndarray, other: np.ndarray, blocked: np.ndarray, other_blocked: np.ndarray
) -> np.ndarray | None:
    """The homography from pixels of `image` to pixels of `other`, float64 (3, 3); None where it is another shot.

    Args:
        image, other: uint8 (H, W), grey.
        blocked, other_blocked: uint8 (H, W), not 0 where a frame does not show the background.
    """
    free = np.where(blocked, 0, 255).astype(np.uint8)
    corners = cv2.goodFeaturesToTrack(image, _CORNERS, 0.005, _APART, mask=free)
    if corners is None or len(corners) < _FEWEST:
        return np.eye(3) if _alike(image, other, blocked, other_blocked) else None
    source, target = _tracks(image, other, corners)
    inside = _inside(target, other.shape)
    columns, rows = np.rint(target[inside]).astype(int).T
    inside[inside] = other_blocked[rows, columns] == 0
    source, target = source[inside], target[inside]
    if len(source) < _FEWEST:
        return None
    found, inliers = cv2.findHomography(source, target, cv2.USAC_MAGSAC, _MISS, maxIters=2000, confidence=0.999)
    if found is None or inliers.mean() < _SHARE or not _sane(found, image.shape):
        return None
    return _simplest(source, target, found / found[2, 2])


def scaled(homography: np.ndarray, by: float) -> np.ndarray:
    """The same motion in pictures `by` times as large; pixels are counted at their centres."""
    scale = np.array([[by, 0, (by - 1) / 2], [0, by, (by - 1) / 2], [0, 0, 1]])
    return scale @ homography @ np.linalg.inv(scale)


def apply(homography: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where `places` (..., 2), float32 x and y, go; float32."""
    h = homography.astype(np.float32)  # float64 numbers would make float64 arrays
    x, y = places[..., 0], places[..., 1]
    below = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    across, down = (h[k, 0] * x + h[k, 1] * y + h[k, 2] for k in (0, 1))
    return np.stack([across / below, down / below], axis=-1)


def _simplest(source: np.ndarray, target: np.ndarray, found: np.ndarray) -> np.ndarray:
    """A shift with zoom and turn, where it explains the tracks about as well as the homography that was `found`.

    Fewer numbers go less astray where there are no tracks, and over many frames.
    """
    explained = np.linalg.norm(apply(found, source) - target, axis=1) < _MISS
    simple = _similarity(source[explained], target[explained])
    near = np.linalg.norm(apply(simple, source) - target, axis=1) < _MISS
    if near.sum() < _ENOUGH * explained.sum() or near.sum() < _FEWEST:
        return found
    return _similarity(source[near], target[near])


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The shift, zoom and turn from `source` to `target` (N, 2) with the least squares (Umeyama 1991); (3, 3)."""
    middle, to_middle = source.mean(axis=0, dtype=np.float64), target.mean(axis=0, dtype=np.float64)
    from_, to = source - middle, target - to_middle
    spread = max(float((from_**2).sum()), 1e-9)
    cosine = float((from_ * to).sum()) / spread
    sine = float((from_[:, 0] * to[:, 1] - from_[:, 1] * to[:, 0]).sum()) / spread
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.vstack([np.column_stack([turn, to_middle - turn @ middle]), [0, 0, 1]])


def _tracks(image: np.ndarray, other: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners and where they went, (N, 2) each; only those that come back to where they began."""
    options = {"winSize": _WINDOW, "maxLevel": _LEVELS}
    there, found, _ = cv2.calcOpticalFlowPyrLK(image, other, corners, None, **options)  # type: ignore[call-overload]
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(other, image, there, None, **options)  # type: ignore[call-overload]
    source, target = corners.reshape(-1, 2), there.reshape(-1, 2)
    missed = np.linalg.norm(back.reshape(-1, 2) - source, axis=1)
    good = (found.ravel() > 0) & (found_back.ravel() > 0) & (missed < _ROUND_TRIP)
    return source[good], target[good]


def _inside(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape[:2]
    x, y = places[:, 0], places[:, 1]
    return (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)


def _alike(image: np.ndarray, other: np.ndarray, blocked: np.ndarray, other_blocked: np.ndarray) -> bool:
    seen = (blocked == 0) & (other_blocked == 0)
    return bool(seen.any()) and float(np.abs(image.astype(np.int16) - other)[seen].mean()) < _SAME


def _sane(homography: np.ndarray, shape: tuple[int, ...]) -> bool:
    """A camera does not fold the picture, nor make it twice as large, from one frame to the next."""
    height, width = shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    if not np.isfinite(homography).all():
        return False
    below = corners @ homography[2, :2] + homography[2, 2]
    if (below * homography[2, 2] <= 0).any():
        return False
    moved = apply(homography, corners)
    area = cv2.contourArea(moved.astype(np.float32), oriented=True)
    return 0.5 < area / (width * height) < 2.0
