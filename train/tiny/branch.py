"""Train the tiny context encoder, the backbone frozen; writes `<work>/branch.pt`.

Two thirds of the holes have an object's shape: nine in ten of these are removals (the video without the object), the
rest completions (the object stays, the caption names it). The other holes have random shapes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from backbone import TEXT_DROPOUT, Backbone, LatentSet, add_noise, build_scheduler, draw, load_parts, with_first_frame
from common import Trainer

from videopainter import CogvideoXBranchModel
from videopainter.models.transformer import token_mask
from videopainter.pipelines.conditioning import rotary_embedding

IMAGE_DROPOUT = 0.35  # the demo has no filler for the first frame


def build_branch(transformer) -> CogvideoXBranchModel:
    """Two blocks, made from the backbone's."""
    return CogvideoXBranchModel.from_transformer(transformer, num_layers=2)


def draw_inpainting(sets: list[LatentSet], rng: np.random.Generator):
    """A batch of one kind: target latents and token ids, first frame, masked latents and mask."""
    data, index = draw(sets, rng)
    free = rng.random() < 1 / 3
    if free:
        # The cache hides a random shape of `full` in odd clips, of `without` in even ones.
        kind = "full" if rng.random() < 0.5 else "without"
        index = index // 2 * 2 + (kind == "full")
        index = np.minimum(index, len(data) - 2 + (kind == "full"))
    else:
        # An object-shaped hole invites an object: mostly removals, or every silhouette is filled with one.
        kind = "full" if rng.random() < 0.1 else "without"
    suffix = "_free" if free else ""
    condition = torch.cat([data.pick(f"masked{suffix}", index), data.pick(f"mask{suffix}", index)], dim=2)
    tokens = data.tokens[kind][index].clone()
    tokens[torch.from_numpy(rng.random(len(index)) < TEXT_DROPOUT)] = data.no_tokens
    return data.pick(kind, index), tokens, data.pick(f"first_{kind}", index), condition


def branch_loss(branch, backbone: Backbone, scheduler, sets, rng: np.random.Generator) -> torch.Tensor:
    """Denoising loss everywhere plus the same inside the hole."""
    clean, tokens, first, condition = draw_inpainting(sets, rng)
    keep = torch.from_numpy(rng.random(len(clean)) >= IMAGE_DROPOUT)
    t = torch.from_numpy(rng.integers(1000, size=len(clean)))
    noisy, weight = add_noise(scheduler, clean, torch.randn_like(clean), t)
    rotary = rotary_embedding(backbone.transformer.config, 8, 12, clean.shape[1])
    mask = condition[:, :, 16:]
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            text = backbone.text_encoder(tokens).last_hidden_state
        features = branch(noisy, text, condition, t, image_rotary_emb=rotary)
        output = backbone.transformer(
            with_first_frame(noisy, first, keep),
            text,
            t,
            image_rotary_emb=rotary,
            return_dict=False,
            branch_features=features,
            background_mask=~token_mask(mask, 2),
        )[0]
    error = weight * (scheduler.get_velocity(output.float(), noisy, t) - clean) ** 2
    return error.mean() + (error * mask).mean()


def load_backbone(work: Path):
    """Tokenizer, VAE scale, and the trained backbone, frozen."""
    tokenizer, scale = load_parts(work)
    backbone = Backbone(len(tokenizer))
    backbone.load_state_dict(torch.load(work / "backbone.pt", weights_only=True)["average"])
    return tokenizer, scale, backbone.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    tokenizer, scale, backbone = load_backbone(args.work)
    sets = [LatentSet(args.work, name, tokenizer, scale) for name in ("short", "long")]
    heldout = [LatentSet(args.work, "heldout", tokenizer, scale)]
    scheduler, branch = build_scheduler(), build_branch(backbone.transformer)
    trainer = Trainer(branch, state=args.work / "branch.pt", steps=args.steps, lr=args.lr, decay=0.99)

    def report(step: int) -> None:
        torch.manual_seed(1)
        with torch.no_grad():
            losses = [
                branch_loss(trainer.average, backbone, scheduler, heldout, np.random.default_rng(k)) for k in range(4)
            ]
        print(f"branch step {step} held-out loss {torch.stack(losses).mean():.4f}", flush=True)

    def loss_of(step: int) -> torch.Tensor:
        return branch_loss(branch, backbone, scheduler, sets, np.random.default_rng((3, step)))

    trainer.run(loss_of, report=report, every=100)


if __name__ == "__main__":
    main()
