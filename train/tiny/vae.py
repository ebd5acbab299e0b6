"""Train the encoder or the decoder of the tiny VAE (AutoencoderKLCogVideoX); writes `<work>/<part>.pt`.

The encoder learns to compute the components of basis.py, the decoder to make pixels of them; see there. Components are
linear in the pixels, and the encoder without its residual branches (`trunk`) is nearly linear: it is trained first, in
a minute or two.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from basis import Basis
from common import Clips, Trainer, psnr, to_video
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D
from torch import nn

# (frames, clips in a batch), drawn evenly. Upstream's decoder works in chunks of 2 latent frames, the first of 1 or 3:
# an even number of latent frames (5 frames, 13 frames) cannot be decoded alone. 17 frames are two chunks, so that the
# seam is trained too.
LENGTHS = ((1, 8), (9, 3), (9, 3))
LAST_LENGTHS = ((9, 2), (17, 1))
CROP = (48, 64)  # most steps see a part of the frame: convolutions learn the same from it, at half the cost
LATENT_NOISE = 0.05  # the decoder is to bear the encoder's errors
LOG_VARIANCE = -8.0  # the posterior is as good as certain


def build_vae() -> AutoencoderKLCogVideoX:
    """8x in space, 4x in time, 16 channels, like the big one; narrow. Starts out close to linear."""
    make: Any = AutoencoderKLCogVideoX  # upstream annotates its tuples as of one element
    vae = make(
        block_out_channels=(16, 32, 48, 64),
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=16,
        sample_height=64,
        sample_width=96,
        invert_scale_latents=False,
    )
    for name, module in vae.named_modules():
        if name.endswith("conv2.conv"):  # the end of a residual block's branch
            nn.init.zeros_(module.weight)
        elif name.endswith("conv_y.conv"):
            nn.init.zeros_(module.weight)
            nn.init.ones_(module.bias)
        elif name.endswith("conv_b.conv"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    # The last group norm would take away a picture's mean colour and contrast. Constants larger than the signal, of
    # both signs, leave it little to take; its bias then keeps the signal where SiLU is nearly straight.
    for side, last in ((vae.encoder, vae.encoder.mid_block), (vae.decoder, vae.decoder.up_blocks[-1])):
        bias = last.resnets[-1].conv2.conv.bias
        with torch.no_grad():
            bias.copy_(torch.tensor([4.0, -4.0]).repeat(len(bias) // 2))
        norm = side.norm_out if isinstance(side.norm_out, nn.GroupNorm) else side.norm_out.norm_layer
        nn.init.constant_(norm.bias, 2.0)
    with torch.no_grad():
        vae.encoder.conv_out.conv.bias[16:] = LOG_VARIANCE
        vae.encoder.conv_out.conv.weight[16:] = 0
    return vae


def random_crop(clips: Clips, rng: np.random.Generator, *, whole: bool, holes: bool) -> torch.Tensor:
    """A batch of short clips (B, 3, T, H, W); some with the object removed, some with a grey hole in its place.

    `whole` gives whole frames, otherwise random parts of them.
    """
    lengths = LAST_LENGTHS if whole else LENGTHS
    length, count = lengths[rng.integers(len(lengths))]
    batch, hidden = [], []
    for index in rng.integers(len(clips), size=count):
        start = rng.integers(clips.frames.shape[1] - length + 1)
        part = slice(start, start + length)
        batch.append((clips.frames if rng.random() < 0.7 else clips.without)[index, part])
        hidden.append(clips.footprint[index, part] & (holes and rng.random() < 0.4))
    video = to_video(np.stack(batch))
    video = video * ~torch.from_numpy(np.stack(hidden))[:, None]
    if not whole:
        y, x = (rng.integers(size - crop + 1) for size, crop in zip(video.shape[-2:], CROP, strict=True))
        video = video[..., y : y + CROP[0], x : x + CROP[1]]
    return video.flip(-1) if rng.random() < 0.5 else video


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 on pixels, and on their differences to the neighbours (sharp edges)."""
    loss = F.l1_loss(output, target)
    for axis in (-1, -2):
        loss = loss + 0.5 * F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    return loss


def load_vae(work: Path) -> AutoencoderKLCogVideoX:
    """The VAE with the averaged weights of whatever parts are trained."""
    vae = build_vae()
    for part in ("encoder", "decoder"):
        if (work / f"{part}.pt").exists():
            vae.load_state_dict(torch.load(work / f"{part}.pt", weights_only=True)["average"], strict=False)
    return vae.eval()


def train_only(vae: Any, part: str) -> Any:
    """Drop the other part, so that neither state nor average carries it."""
    delattr(vae, "decoder" if part == "encoder" else "encoder")
    return vae


def trunk_forward(self: Any, inputs: torch.Tensor, temb=None, zq=None, conv_cache=None):
    """A residual block without its branch; what a whole block computes as long as `conv2` has zero weights."""
    if self.in_channels != self.out_channels:
        inputs = self.conv_shortcut(inputs)
    return inputs + self.conv2.conv.bias.view(1, -1, 1, 1, 1), {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=("trunk", "encoder", "decoder"), required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    encoding = args.part != "decoder"
    vae, basis = train_only(build_vae(), "encoder" if encoding else "decoder"), Basis(args.work)
    if args.part == "trunk":
        block: Any = CogVideoXResnetBlock3D
        block.forward = trunk_forward
    elif args.part == "encoder":
        vae.load_state_dict(torch.load(args.work / "trunk.pt", weights_only=True)["average"])
    train, heldout = Clips(args.work, "short"), Clips(args.work, "heldout")
    trainer = Trainer(vae, state=args.work / f"{args.part}.pt", steps=args.steps, lr=args.lr, decay=0.99)

    def loss_of(step: int) -> torch.Tensor:
        # In float32: oneDNN's bfloat16 3D convolutions give non-finite gradients for some of these shapes.
        rng = np.random.default_rng((1, step))
        video = random_crop(train, rng, whole=step >= 0.85 * args.steps, holes=encoding)
        latents = basis.latents(video)
        if encoding:
            posterior = vae.encode(video).latent_dist
            return F.mse_loss(posterior.mean, latents) + 1e-3 * ((posterior.logvar - LOG_VARIANCE) ** 2).mean()
        return reconstruction_loss(vae.decode(latents + LATENT_NOISE * torch.randn_like(latents)).sample, video)

    def report(step: int) -> None:
        video = to_video(heldout.frames[:16, :9])
        latents = basis.latents(video)
        with torch.no_grad():
            if encoding:
                error = trainer.average.encode(video).latent_dist.mode() - latents
                text = f"error variance {error.var() / latents.var():.4f} of the latents'"
            else:
                text = f"PSNR {psnr(trainer.average.decode(latents).sample, video):.2f} dB"
        print(f"{args.part} step {step} held-out {text}", flush=True)

    trainer.run(loss_of, report=report, every=100)


if __name__ == "__main__":
    main()
