"""Train the decoder on, alone: the encoder stays, so that latents keep their meaning.

Latents that a backbone painted are not an encoder's: some noise on them stands for that. Writes
`<work>/decoder.pt`, which autoencoder.py's `load_autoencoder` takes from then on.

    python train/tiny/decoder.py --work outputs/tiny --steps 450
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from autoencoder import build_optimizers, load_autoencoder, reconstruction_loss, reconstruction_psnr
from common import Clips, Trainer
from crops import random_crops
from torch import nn

NOISE = 0.15  # at most, of the latents' size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--name", default="clips", help="the clips that it is trained on")
    args = parser.parse_args()
    torch.manual_seed(0)
    vae = load_autoencoder(args.work)
    vae.encoder.requires_grad_(False)
    decoder: nn.Module = vae.decoder
    train, heldout = Clips(args.work, args.name), Clips(args.work, "heldout")
    trainer = Trainer(
        decoder,
        state=args.work / "decoder.pt",
        steps=args.steps,
        lr=args.lr,
        optimizers=build_optimizers(decoder, args.lr),
    )

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((7, step))
        video, weight = random_crops(train, rng, whole=step >= 0.9 * args.steps)
        with torch.no_grad():
            means = vae.encode(video).latent_dist.mean
        noise = torch.rand(len(means), 1, 1, 1, 1) * NOISE * means.square().mean().sqrt()
        return reconstruction_loss(vae.decode(means + noise * torch.randn_like(means)).sample, video, weight)

    def report(step: int) -> None:
        vae.decoder = trainer.average
        print("\n".join(reconstruction_psnr(vae, heldout, step)), flush=True)
        vae.decoder = decoder

    trainer.run(loss_of, report=report, every=100)


if __name__ == "__main__":
    main()
