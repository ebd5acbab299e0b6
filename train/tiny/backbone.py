"""Train the tiny image-to-video backbone together with its text encoder; writes `<work>/backbone.pt`.

Half of the batches are plain image-to-video. In the others a hole is as noisy as the timestep says and the latents
around it are clean (or less noisy), and the hole counts most: a large backbone learns from much data how to carry on
what it sees around; this small one is shown it on purpose. Its format and its use stay those of an I2V backbone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from common import Clips, Trainer
from diffusers import CogVideoXDPMScheduler
from text import MAX_TOKENS, build_text_encoder, make_tokenizer, tokenize
from torch import nn

from videopainter import VideoPainterTransformer3DModel
from videopainter.models.backbones.registry import backbone_of

IMAGE_DROPOUT, TEXT_DROPOUT = 0.25, 0.1
HOLE_IMAGE_DROPOUT = 0.5


def build_scheduler() -> CogVideoXDPMScheduler:
    """The noise schedule of CogVideoX-5B-I2V."""
    return CogVideoXDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=1.0,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )


def build_transformer(**size) -> VideoPainterTransformer3DModel:
    """6 M parameters: 8 blocks, 6 heads of 32; `size` changes its config."""
    config = dict(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=32,
        out_channels=16,
        time_embed_dim=128,
        text_embed_dim=96,
        num_layers=8,
        sample_width=12,
        sample_height=8,
        sample_frames=17,
        max_text_seq_length=MAX_TOKENS,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
    )
    return VideoPainterTransformer3DModel(**(config | size))


class Backbone(nn.Module):
    """Transformer and text encoder, trained as one; `size` as in `build_transformer`."""

    def __init__(self, vocabulary: int, **size):
        super().__init__()
        self.transformer = build_transformer(**size)
        self.text_encoder = build_text_encoder(vocabulary)


class LatentSet:
    """Cached latents of one set, scaled, with token ids of its captions."""

    def __init__(self, work: Path, name: str, tokenizer, scaling_factor: float):
        kinds = torch.load(work / f"{name}_latents.pt", weights_only=True)
        # Masks have one channel and no scale.
        self.latents = {kind: v if v.shape[2] == 1 else v * scaling_factor for kind, v in kinds.items()}
        captions = Clips(work, name).captions
        self.tokens = {k: tokenize(tokenizer, [words[k] for words in captions]) for k in ("full", "without")}
        self.no_tokens = tokenize(tokenizer, [""])[0]

    def __len__(self) -> int:
        return len(self.latents["full"])

    def pick(self, kind: str, index: np.ndarray) -> torch.Tensor:
        return self.latents[kind][index].float()


def add_noise(scheduler, clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor):
    """Noisy latents, and the loss weight 1 / (1 - alpha_bar) of the clean-latent prediction."""
    alpha_bar = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1, 1)
    return scheduler.add_noise(clean, noise, t), 1.0 / (1.0 - alpha_bar)


def with_first_frame(noisy: torch.Tensor, first: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Backbone input: noisy latents, then the first frame's latent in front of zeros (all zeros where not `keep`)."""
    image = torch.zeros_like(noisy)
    image[:, :1] = first * keep.view(-1, 1, 1, 1, 1)
    return torch.cat([noisy, image], dim=2)


def predict_clean(model: Backbone, scheduler, tokens, noisy, first, keep, t, rotary=None, **branch) -> torch.Tensor:
    """Clean-latent prediction through the scheduler's velocity formula; `rotary`: positions of a part."""
    if rotary is None:
        rotary = backbone_of(model.transformer).positions(noisy)
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        text = model.text_encoder(tokens).last_hidden_state
        inputs = with_first_frame(noisy, first, keep)
        output = model.transformer(inputs, text, t, image_rotary_emb=rotary, return_dict=False, **branch)[0]
    return scheduler.get_velocity(output.float(), noisy, t)


def draw(sets: list[LatentSet], rng: np.random.Generator) -> tuple[LatentSet, np.ndarray]:
    """Clips of one length: long ones in every fifth batch, fewer at a time."""
    chosen, count = (sets[1], 8) if len(sets) > 1 and rng.random() < 0.2 else (sets[0], 24)
    return chosen, rng.integers(len(chosen), size=count)


def draw_hole(data: LatentSet, index: np.ndarray, rng: np.random.Generator) -> tuple[str, torch.Tensor]:
    """Which video, and latent masks of its holes: mostly an object that was taken away, or a free shape."""
    if rng.random() < 1 / 3:
        return ("full" if rng.random() < 0.5 else "without"), data.pick("mask_free", index)
    return ("full" if rng.random() < 0.1 else "without"), data.pick("mask", index)


def backbone_loss(model: Backbone, scheduler, sets: list[LatentSet], rng: np.random.Generator) -> torch.Tensor:
    """One batch of the denoising loss."""
    data, index = draw(sets, rng)
    with_hole = rng.random() < 0.5
    kind, mask = draw_hole(data, index, rng) if with_hole else (("full" if rng.random() < 0.65 else "without"), None)
    clean = data.pick(kind, index)
    tokens = data.tokens[kind][index].clone()
    tokens[torch.from_numpy(rng.random(len(index)) < TEXT_DROPOUT)] = data.no_tokens
    keep = torch.from_numpy(rng.random(len(index)) >= (HOLE_IMAGE_DROPOUT if with_hole else IMAGE_DROPOUT))
    t = torch.from_numpy(rng.integers(1000, size=len(index)))
    noise = torch.randn_like(clean)
    noisy, weight = add_noise(scheduler, clean, noise, t)
    if mask is not None:
        less = torch.from_numpy((t.numpy() * rng.random(len(index)) * (rng.random(len(index)) < 0.25)).astype(int))
        around = torch.where((less > 0).view(-1, 1, 1, 1, 1), scheduler.add_noise(clean, noise, less), clean)
        noisy = torch.where(mask > 0, noisy, around)
    predicted = predict_clean(model, scheduler, tokens, noisy, data.pick(f"first_{kind}", index), keep, t)
    error = weight * (predicted - clean) ** 2
    if mask is None:
        return error.mean()
    inside = (error * mask).sum() / (mask.sum() * error.shape[2]).clamp_min(1)
    # What is clean already says nothing at low noise; the rest is kept from drifting.
    return inside + 0.1 * error.mean()


def load_parts(work: Path):
    """Tokenizer and the VAE's scaling factor, which cache.py measured."""
    captions = [text for words in Clips(work, "short").captions for text in (words["full"], words["without"])]
    tokenizer = make_tokenizer(captions, work / "tokenizer")
    return tokenizer, json.loads((work / "scale.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--start", type=Path, help="another run's state file, to begin from its averaged weights")
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer, scale = load_parts(args.work)
    sets = [LatentSet(args.work, name, tokenizer, scale) for name in ("short", "long")]
    heldout = [LatentSet(args.work, "heldout", tokenizer, scale)]
    scheduler, model = build_scheduler(), Backbone(len(tokenizer))
    if args.start:
        model.load_state_dict(torch.load(args.start, weights_only=True)["average"])
    trainer = Trainer(model, state=args.work / "backbone.pt", steps=args.steps, lr=args.lr, muon=True)

    def report(step: int) -> None:
        torch.manual_seed(1)
        with torch.no_grad():
            losses = [backbone_loss(trainer.average, scheduler, heldout, np.random.default_rng(k)) for k in range(6)]
        print(f"backbone step {step} held-out losses {[round(x.item(), 4) for x in losses]}", flush=True)

    trainer.run(lambda step: backbone_loss(model, scheduler, sets, np.random.default_rng((2, step))), report=report)


if __name__ == "__main__":
    main()
