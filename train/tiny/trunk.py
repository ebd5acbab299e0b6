"""Train the start of the VAE's encoder, which autoencoder.py goes on from; writes `<work>/trunk.pt`.

The encoder learns to compute the components of basis.py. They are linear in the pixels, and the encoder without its
residual branches is nearly linear: that much it learns in a minute or two.

    python train/tiny/trunk.py --work outputs/tiny
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from basis import Basis
from common import Clips, Trainer, to_video
from crops import random_crops
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D
from vae import LOG_VARIANCE, build_vae


def trunk_forward(self: Any, inputs: torch.Tensor, temb=None, zq=None, conv_cache=None):
    """A residual block without its branch; what a whole block computes as long as `conv2` has zero weights."""
    if self.in_channels != self.out_channels:
        inputs = self.conv_shortcut(inputs)
    return inputs + self.conv2.conv.bias.view(1, -1, 1, 1, 1), {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--lr", type=float, default=4e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    vae: Any = build_vae()
    del vae.decoder  # neither state nor average is to carry it
    block: Any = CogVideoXResnetBlock3D
    block.forward = trunk_forward
    basis, train, heldout = Basis(args.work), Clips(args.work, "short"), Clips(args.work, "heldout")
    trainer = Trainer(vae, state=args.work / "trunk.pt", steps=args.steps, lr=args.lr, decay=0.99)

    def loss_of(step: int) -> torch.Tensor:
        # In float32: oneDNN's bfloat16 3D convolutions give non-finite gradients for some of these shapes.
        video, _ = random_crops(train, np.random.default_rng((1, step)), whole=step >= 0.85 * args.steps)
        posterior = vae.encode(video).latent_dist
        return F.mse_loss(posterior.mean, basis.latents(video)) + 1e-3 * ((posterior.logvar - LOG_VARIANCE) ** 2).mean()

    def report(step: int) -> None:
        video = to_video(heldout.frames[:16, :9])
        latents = basis.latents(video)
        with torch.no_grad():
            error = trainer.average.encode(video).latent_dist.mode() - latents
        print(f"step {step} held-out error {error.var() / latents.var():.4f} of the latents' variance", flush=True)

    trainer.run(loss_of, report=report, every=100)


if __name__ == "__main__":
    main()
