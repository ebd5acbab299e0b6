"""What the tiny VAE's latents mean: the 16 principal components of a latent's own pixels, 4 frames of 8x8.

An encoder and a decoder that look for a code of their own need far more steps than a laptop has. Components are known
at once, so that the encoder can learn to compute them, the decoder to undo them, and the backbone to denoise them, all
at the same time. Each is divided by its standard deviation to the power 0.6: whitened in part, the coarse ones larger.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from common import Clips, to_video

CHANNELS, POWER = 16, 0.6


def blocks(video: torch.Tensor) -> torch.Tensor:
    """(B, 3, 4k+1, H, W) to (B, k+1, H/8, W/8, 768); the first frame stands for four."""
    video = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], dim=2)
    batch, _, frames, height, width = video.shape
    parts = video.reshape(batch, 3, frames // 4, 4, height // 8, 8, width // 8, 8)
    return parts.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


class Basis:
    """Maps blocks to components."""

    def __init__(self, work: Path):
        saved = torch.load(work / "basis.pt", weights_only=True)
        self.mean, self.projection = saved["mean"], saved["projection"]

    def latents(self, video: torch.Tensor) -> torch.Tensor:
        """(B, 3, 4k+1, H, W) in -1..1 to (B, 16, k+1, H/8, W/8)."""
        return ((blocks(video) - self.mean) @ self.projection).permute(0, 4, 1, 2, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=600)
    args = parser.parse_args()
    if (args.work / "basis.pt").exists():
        return
    clips = Clips(args.work, "short")
    rng = np.random.default_rng(0)
    samples = []
    for index in rng.choice(len(clips), min(args.clips, len(clips)), replace=False):
        flat = blocks(to_video(clips.frames[index : index + 1])).flatten(0, 3)
        samples.append(flat[torch.from_numpy(rng.choice(len(flat), 150, replace=False))])
    stacked = torch.cat(samples)
    mean = stacked.mean(0)
    variances, vectors = torch.linalg.eigh(torch.cov((stacked - mean).T))
    deviations, vectors = variances.flip(0)[:CHANNELS].sqrt(), vectors.flip(1)[:, :CHANNELS]
    torch.save({"mean": mean, "projection": (vectors / deviations**POWER).contiguous()}, args.work / "basis.pt")
    print("standard deviations of the components:", deviations.numpy().round(2).tolist())


if __name__ == "__main__":
    main()
