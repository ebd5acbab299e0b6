"""Train the tiny VAE's encoder and decoder as one, so that the 16 numbers of a latent are a code of their own.

The encoder starts from principal components (trunk.py), which are the best code for a decoder that is
linear; this one is not. Noise of up to `NOISE` of the latents' size makes the code one that bears errors: what matters
is loud, neighbours in it look alike. Writes `<work>/autoencoder.pt`.

    python train/tiny/autoencoder.py --work outputs/tiny --steps 500
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import Clips, Trainer, psnr, to_video
from crops import random_crops
from diffusers import AutoencoderKLCogVideoX
from muon import Muon
from torch import nn
from vae import LOG_VARIANCE, build_vae

NOISE = 0.3


def build_optimizers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for kernels that see more than a pixel, AdamW for all else."""
    trained = [p for p in model.parameters() if p.requires_grad]
    kernels = [p for p in trained if p.ndim > 2 and p[0, 0].numel() > 1 and p.shape[0] > 3 and p.shape[1] > 3]
    rest = [p for p in trained if not any(p is kernel for kernel in kernels)]
    return [Muon(kernels, lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """L1 on pixels, on their differences to the neighbours (sharp edges), and on both at half the size."""
    loss = torch.zeros(())
    for share in (1.0, 0.5):
        scale = share / weight.mean()
        loss = loss + scale * (weight * (output - target).abs()).mean()
        for axis in (-1, -2):
            edges = (output.diff(dim=axis) - target.diff(dim=axis)).abs()
            loss = loss + 0.7 * scale * (weight.narrow(axis, 1, edges.shape[axis]) * edges).mean()
        output, target, weight = (F.avg_pool3d(x, (1, 2, 2)) for x in (output, target, weight))
    return loss


def code_loss(means: torch.Tensor) -> torch.Tensor:
    """Keeps latents (B, 16, T, h, w) centred and of size 1."""
    return (means.square().mean().sqrt().log() ** 2) + means.mean((0, 2, 3, 4)).square().mean()


def load_autoencoder(work: Path) -> AutoencoderKLCogVideoX:
    """The VAE with its averaged weights."""
    vae = build_vae()
    vae.load_state_dict(torch.load(work / "autoencoder.pt", weights_only=True)["average"])
    if (work / "decoder.pt").exists():
        vae.decoder.load_state_dict(torch.load(work / "decoder.pt", weights_only=True)["average"])
    return vae.eval()


@torch.no_grad()
def reconstruction_psnr(vae: AutoencoderKLCogVideoX, clips: Clips, step: int) -> list[str]:
    """A line for single frames and one for 9: PSNR of all pixels and of the object's, also with noise on latents."""
    lines = []
    for length in (1, 9):
        video, hole = to_video(clips.frames[:6, :length]), torch.from_numpy(np.array(clips.footprint[:6, :length]))
        latents = vae.encode(video).latent_dist.mode()
        size = latents.square().mean().sqrt()
        outputs = [vae.decode(latents + k * size * torch.randn_like(latents)).sample for k in (0, 0.2)]
        values = [psnr(output, video, mask) for output in outputs for mask in (None, hole[:, None])]
        text = "all {:.2f} object {:.2f}; noisy latents: all {:.2f} object {:.2f}".format(*values)
        lines.append(f"step {step}, {length} frames, PSNR dB: {text}; size {size:.2f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--name", default="autoencoder")
    args = parser.parse_args()
    torch.manual_seed(0)
    vae = build_vae()
    state = args.work / f"{args.name}.pt"
    if not state.exists():
        vae.load_state_dict(torch.load(args.work / "trunk.pt", weights_only=True)["average"], strict=False)
    train, heldout = Clips(args.work, "short"), Clips(args.work, "heldout")
    trainer = Trainer(
        vae,
        state=state,
        steps=args.steps,
        lr=args.lr,
        decay=0.995,
        optimizers=build_optimizers(vae, args.lr),
    )

    def loss_of(step: int) -> torch.Tensor:
        # In float32: oneDNN's bfloat16 3D convolutions give non-finite gradients for some of these shapes.
        rng = np.random.default_rng((1, step))
        video, weight = random_crops(train, rng, whole=step >= 0.97 * args.steps)
        posterior = vae.encode(video).latent_dist
        means = posterior.mean
        noise = torch.rand(len(means), 1, 1, 1, 1) * NOISE * means.square().mean().sqrt()
        output = vae.decode(means + noise * torch.randn_like(means)).sample
        spread = (posterior.logvar - LOG_VARIANCE).square().mean()
        return reconstruction_loss(output, video, weight) + 0.02 * code_loss(means) + 1e-3 * spread

    def report(step: int) -> None:
        print("\n".join(reconstruction_psnr(trainer.average, heldout, step)), flush=True)

    trainer.run(loss_of, report=report, every=100)


if __name__ == "__main__":
    main()
