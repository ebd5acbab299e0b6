"""Measure a tiny checkpoint on held-out scenes: remove one object from each, compare with the scene without it.

Prints JSON: PSNR of the VAE on whole frames, and inside the hole PSNR with the branch, without it, of OpenCV's Telea
per frame, and of the truth through the VAE (no result can be expected to be better).
With --sheet, a picture: original, masked, Telea, no branch, branch, truth for some clips.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from cache import object_hole
from common import Clips, psnr, to_video

from videopainter import load_pipeline
from videopainter.pipelines.conditioning import to_uint8_frames


def telea(frames: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Each frame filled by itself."""
    pairs = zip(frames, hole, strict=True)
    return np.stack([cv2.inpaint(frame, mask.astype(np.uint8) * 255, 3, cv2.INPAINT_TELEA) for frame, mask in pairs])


def hole_psnr(result: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> float:
    """PSNR in dB over the hole's pixels of uint8 (T, H, W, 3)."""
    return psnr(to_video(result[None]), to_video(truth[None]), torch.from_numpy(hole)[None, None])


@torch.no_grad()
def through_vae(vae, frames: np.ndarray) -> np.ndarray:
    """Encode and decode uint8 (T, H, W, 3)."""
    return to_uint8_frames(vae.decode(vae.encode(to_video(frames[None])).latent_dist.mode()).sample)


def vae_psnr(vae, clips: Clips, frames: int) -> float:
    """PSNR of encoding and decoding the first frames of 16 clips."""
    with torch.no_grad():
        video = to_video(clips.frames[:16, :frames])
        return psnr(vae.decode(vae.encode(video).latent_dist.mode()).sample, video)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, default=Path("ckpt/tiny"))
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--first_frame", action="store_true", help="give the true first frame as image condition")
    parser.add_argument("--id_adapter", action="store_true")
    parser.add_argument("--sheet", type=Path, default=None)
    args = parser.parse_args()
    pipe: Any = load_pipeline(
        str(args.checkpoint / "CogVideoX-5b-I2V"),
        inpainting_branch=str(args.checkpoint / "VideoPainter/checkpoints/branch"),
        id_adapter=str(args.checkpoint / "VideoPainterID/checkpoints") if args.id_adapter else None,
        dtype=torch.float32,
    )
    pipe.set_progress_bar_config(disable=True)
    clips = Clips(args.work, "heldout")
    scores: dict[str, list[float]] = {"branch": [], "no branch": [], "telea": [], "truth through the vae": []}
    rows = []
    for index in range(args.clips):
        part = slice(0, args.frames)
        frames, truth = np.array(clips.frames[index, part]), np.array(clips.without[index, part])
        hole = object_hole(clips.footprint[index, part], np.random.default_rng(index))
        if not hole.any():
            continue
        options = {
            "prompt": clips.captions[index]["without"],
            "video": frames,
            "masks": hole,
            "image": truth[0] if args.first_frame else None,
            "num_frames": args.frames,
            "num_inference_steps": args.steps,
            "guidance_scale": args.guidance,
            "output_type": "np",
        }
        results: dict[str, Any] = {"telea": telea(frames, hole)}
        results["truth through the vae"] = through_vae(pipe.vae, truth)
        for name, scale in (("no branch", 0.0), ("branch", 1.0)):
            results[name] = pipe(**options, conditioning_scale=scale).frames[0]
        for name, result in results.items():
            scores[name].append(hole_psnr(result, truth, hole))
        masked = np.where(hole[..., None], 127, frames).astype(np.uint8)
        pictures = [frames, masked, results["telea"], results["no branch"], results["branch"], truth]
        rows.append(np.concatenate([picture[len(picture) // 2] for picture in pictures], axis=1))
    summary = {name: round(float(np.mean(values)), 2) for name, values in scores.items()}
    summary |= {"clips": len(rows), "vae": round(vae_psnr(pipe.vae, clips, args.frames), 2)}
    print(json.dumps(summary))
    if args.sheet:
        cv2.imwrite(str(args.sheet), np.concatenate(rows[:12])[..., ::-1])


if __name__ == "__main__":
    main()
