"""The latents of the rendered clips, by basis.py: `<work>/<name>_latents.pt`, unscaled float16 (N, T, 16, 8, 12).

Kinds: `full`, `without` (the object), `masked` (a hole over the object, from `full`), `masked_free` (a moving hole of
random shape, in `without` for every second clip, else in `full`); `first_full`, `first_without`: frame 0 alone; `mask`,
`mask_free`: latent masks (N, T, 1, 8, 12).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from basis import Basis
from common import Clips, to_video

from videopainter.files import replacing
from videopainter.pipelines.conditioning import fill_hole, latent_mask


def object_hole(footprint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The object's footprint (T, H, W), dilated by up to 8 pixels in all."""
    size = int(rng.integers(2, 9))
    return np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) for mask in footprint]) > 0


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


def encode(basis: Basis, video: torch.Tensor) -> torch.Tensor:
    """(B, 3, T, H, W) to float16 (B, T', 16, h, w), unscaled."""
    return basis.latents(video).permute(0, 2, 1, 3, 4).half()


def encode_clips(basis: Basis, clips: Clips, part: slice) -> dict[str, torch.Tensor]:
    """All kinds of one slice of clips."""
    full, without = to_video(clips.frames[part]), to_video(clips.without[part])
    holes, free = [], []
    for index in range(part.start, part.start + len(full)):
        rng = np.random.default_rng((3, index))
        holes.append(object_hole(clips.footprint[index], rng))
        free.append(free_hole(clips.footprint.shape[1:], rng))
    hole, free_mask = (torch.from_numpy(np.stack(stack))[:, None].float() for stack in (holes, free))
    odd = torch.arange(part.start, part.start + len(full)) % 2 == 1
    free_video = torch.where(odd[:, None, None, None, None], full, without)
    videos = {
        "full": full,
        "without": without,
        "first_full": full[:, :, :1],
        "first_without": without[:, :, :1],
        "masked": fill_hole(full, hole),
        "masked_free": fill_hole(free_video, free_mask),
    }
    latents = {kind: encode(basis, video) for kind, video in videos.items()}
    full = latents["full"]
    latents |= {"mask": latent_mask(hole, full).half(), "mask_free": latent_mask(free_mask, full).half()}
    return latents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True)
    args = parser.parse_args()
    target = args.work / f"{args.name}_latents.pt"
    if target.exists():
        return
    basis, clips = Basis(args.work), Clips(args.work, args.name)
    parts = [encode_clips(basis, clips, slice(start, start + 4)) for start in range(0, len(clips), 4)]
    latents = {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}
    if args.name == "short":
        (args.work / "scale.json").write_text(json.dumps(round(1.0 / latents["full"].float().std().item(), 6)))
    with replacing(target) as partial:
        torch.save(latents, partial)


if __name__ == "__main__":
    main()
