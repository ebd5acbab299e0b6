"""What is painted in the trainings of the backbone: holes over objects, captions, latents of one batch."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from latents import LatentClips, latent_holes

TEXT_DROPOUT = 0.05
# What is noisy: everything; an object, which is to be painted; where one was, which is to be gone; anything.
KINDS = {"all": 0.25, "object": 0.5, "removal": 0.2, "free": 0.05}


def object_hole(footprint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hole over an object's footprint (F, H, W): grown by some pixels, and in half of the cases its hull or its box.

    The last two do not show which shape is to be painted. Of several frames some have the box of all.
    """
    kind, size = rng.random(), int(rng.integers(3, 10))
    holes = np.stack([cv2.dilate(frame.astype(np.uint8), np.ones((size, size), np.uint8)) for frame in footprint])
    if len(holes) > 1 and kind < 0.1:
        fill_box(holes, holes.any(0).astype(np.uint8))
        return holes > 0
    for hole in holes:
        if kind < 0.25 and hole.any():
            cv2.fillConvexPoly(hole, cv2.convexHull(cv2.findNonZero(hole)), 1)
        elif kind < 0.5 and hole.any():
            fill_box(hole, hole)
    return holes > 0


def fill_box(target: np.ndarray, hole: np.ndarray) -> None:
    """Set the box around a hole (H, W) in `target` (..., H, W)."""
    x, y, width, height = cv2.boundingRect(hole)
    target[..., y : y + height, x : x + width] = 1


def free_hole(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A box, an ellipse or a brush stroke that moves: bool (T, H, W)."""
    num_frames, height, width = shape
    hole = np.zeros(shape, np.uint8)
    kind = rng.integers(3)
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    speed = rng.uniform(-1.5, 1.5, 2)
    size = rng.uniform(0.1, 0.28, 2) * height
    stroke = np.cumsum(rng.normal(0, 9, (6, 2)), axis=0)
    for t in range(num_frames):
        place = centre + speed * t
        x, y = place
        if kind == 0:
            corner, opposite = (int(x - size[0]), int(y - size[1])), (int(x + size[0]), int(y + size[1]))
            cv2.rectangle(hole[t], corner, opposite, 1, -1)
        elif kind == 1:
            cv2.ellipse(hole[t], (int(x), int(y)), (int(size[0]), int(size[1])), 0, 0, 360, 1, -1)
        else:
            cv2.polylines(hole[t], [(stroke + place).astype(np.int32)], False, 1, int(5 + size[0]))
    return hole > 0


def draw_batch(data: LatentClips, rng: np.random.Generator, index: np.ndarray):
    """Clean latents (B, T, 16, h, w), tokens (B, S), what is noisy (B, T, 1, h, w), of these clips."""
    kinds = rng.choice(list(KINDS), size=len(index), p=list(KINDS.values()))
    clean, tokens, holes = [], [], []
    for i, kind in zip(index, kinds, strict=True):
        footprint = data.clips.footprint[i]
        if kind in ("object", "removal") and not footprint.any():
            kind = "free"
        empty = kind == "removal" or (kind != "object" and rng.random() < 0.2)
        video = "without" if empty and i < len(data.latents["without"]) else "full"
        clean.append(data.latents[video][i])
        tokens.append(data.no_tokens if rng.random() < TEXT_DROPOUT else data.tokens[video][i])
        if kind == "all":
            holes.append(np.ones(footprint.shape, bool))
        else:
            holes.append(free_hole(footprint.shape, rng) if kind == "free" else object_hole(footprint, rng))
    return torch.stack(clean).float(), torch.stack(tokens), latent_holes(np.stack(holes))
