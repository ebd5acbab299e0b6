"""The image stage of the bold backbone: single frames, which teach words, colours and shapes at a fifth of the cost.

A part of the latents, mostly around an object, is as noisy as the timestep says, amid clean ones; in some pictures all
are. What is noisy is all that has seen the object, so that no clean latent shows its edge. Writes `<work>/images.pt`.

    python train/tiny/images.py --work outputs/tiny --steps 1500
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from backbone import Backbone, add_noise, build_scheduler, predict_clean
from bold import SHORT_TOKENS, Stills, build_model, encode_stills, latent_holes, load_tokenizer
from common import Trainer
from muon import Muon
from paintings import HOLES, Paintings

TEXT_DROPOUT = 0.05
BATCH, WINDOW_BATCH = 32, 48
WINDOW_SHARE = 0.8  # of the batches show a part of each frame, and captions of one object
# What is noisy: everything; an object, which is to be painted; where one was, which is to be gone; anything.
KINDS = {"all": 0.25, "object": 0.5, "removal": 0.2, "free": 0.05}


def object_hole(footprint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hole over an object's footprint (H, W): grown by some pixels, and in half of the cases its hull or its box.

    The last two do not show which shape is to be painted.
    """
    kind = rng.random()
    hole = cv2.dilate(footprint.astype(np.uint8), np.ones([int(rng.integers(3, 10))] * 2, np.uint8))
    if kind < 0.25:
        points = cv2.findNonZero(hole)
        cv2.fillConvexPoly(hole, cv2.convexHull(points), 1)
    elif kind < 0.5:
        x, y, width, height = cv2.boundingRect(hole)
        hole[y : y + height, x : x + width] = 1
    return hole > 0


def free_hole(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A box somewhere."""
    hole = np.zeros(shape, bool)
    height, width = (int(size * rng.uniform(0.2, 0.6)) for size in shape)
    y, x = rng.integers(shape[0] - height), rng.integers(shape[1] - width)
    hole[y : y + height, x : x + width] = True
    return hole


def draw_batch(data: Stills, rng: np.random.Generator, index: np.ndarray):
    """Clean latents, tokens, what is noisy, of these clips."""
    kinds = rng.choice(list(KINDS), size=len(index), p=list(KINDS.values()))
    clean, tokens, holes = [], [], []
    for i, kind in zip(index, kinds, strict=True):
        footprint = data.clips.footprint[i, 0]
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


def draw_timesteps(rng: np.random.Generator, count: int) -> torch.Tensor:
    """A fifth is the first step's, pure noise; most of the others are those that few steps ask for."""
    t = np.where(rng.random(count) < 0.25, rng.integers(1000, size=count), rng.integers(200, 1000, size=count))
    return torch.from_numpy(np.where(rng.random(count) < 0.2, 999, t))


def image_loss(model: Backbone, scheduler, data: Stills, rng: np.random.Generator) -> torch.Tensor:
    """One batch of the denoising loss: the error of the velocity where it is noisy."""
    rotary = None
    if rng.random() < WINDOW_SHARE:
        window = data.draw_window(rng)
        clean, tokens, mask = draw_batch(data, rng, rng.choice(data.windows[window], WINDOW_BATCH))
        rotary = window.positions(model, clean)
        clean, mask, tokens = window.cut(clean), window.cut(mask), tokens[:, :SHORT_TOKENS]
    else:
        clean, tokens, mask = draw_batch(data, rng, rng.integers(len(data), size=BATCH))
    t = draw_timesteps(rng, len(clean))
    noisy, weight = add_noise(scheduler, clean, torch.randn_like(clean), t)
    noisy = torch.where(mask > 0, noisy, clean)
    predicted = predict_clean(model, scheduler, tokens, noisy, clean[:, :1], torch.zeros(len(clean)), t, rotary)
    error = weight * (predicted - clean) ** 2
    # Each picture counts the same, whatever the size of its hole; what is clean is kept from drifting.
    inside = (error * mask).sum((1, 2, 3, 4)) / (mask.sum((1, 2, 3, 4)) * error.shape[2]).clamp_min(1)
    return inside.mean() + 0.05 * error.mean()


def build_optimizers(model: Backbone, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if "transformer_blocks" in name and p.ndim == 2]
    rest = [p for p in named.values() if not any(p is matrix for matrix in matrices)]
    return [Muon(matrices, lr, 0.01), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument(
        "--stills", type=int, default=3200, help="stills to be encoded; half of them without an object, too"
    )
    parser.add_argument("--heldout", type=int, default=400)
    parser.add_argument("--name", default="images")
    args = parser.parse_args()
    torch.manual_seed(0)
    encode_stills(args.work, "stills", args.stills)
    encode_stills(args.work, "stills_heldout", args.heldout)
    tokenizer = load_tokenizer(args.work)
    train, heldout = (Stills(args.work, name, tokenizer) for name in ("stills", "stills_heldout"))
    scheduler, model = build_scheduler(), build_model(len(tokenizer))
    paintings = Paintings(args.work, heldout, 56)
    trainer = Trainer(
        model,
        state=args.work / f"{args.name}.pt",
        steps=args.steps,
        lr=args.lr,
        optimizers=build_optimizers(model, args.lr),
    )

    def report(step: int) -> None:
        torch.manual_seed(1)
        with torch.no_grad():
            losses = [
                image_loss(trainer.average, scheduler, heldout, np.random.default_rng(k)).item() for k in range(3)
            ]
        rates = [paintings.accuracy(paintings.paint(trainer.average, scheduler, kind)) for kind in HOLES]
        text = ", ".join(
            "{}: shape {:.3f} colour {:.3f} both {:.3f}".format(k, *r) for k, r in zip(HOLES, rates, strict=True)
        )
        print(f"step {step} held-out loss {np.mean(losses):.4f}; {text}", flush=True)

    trainer.run(lambda step: image_loss(model, scheduler, train, np.random.default_rng((2, step))), report=report)


if __name__ == "__main__":
    main()
