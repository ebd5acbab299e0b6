"""The image stage of the backbone: single frames, which teach words, colours and shapes at a fifth of the cost.

Writes `<work>/images.pt`.

    python train/tiny/images.py --work outputs/tiny --steps 1500
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from backbone import Backbone, build_scheduler
from common import Trainer
from denoise import Batches, build_optimizers, denoising_loss, heldout_loss
from latents import LatentClips, encode_clips
from paintings import Paintings, told
from text import load_tokenizer

BATCHES = Batches(32, 48, 0.0)


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
    encode_clips(args.work, "stills", args.stills)
    encode_clips(args.work, "stills_heldout", args.heldout)
    tokenizer = load_tokenizer(args.work)
    train, heldout = (LatentClips(args.work, name, tokenizer) for name in ("stills", "stills_heldout"))
    scheduler, model = build_scheduler(), Backbone(len(tokenizer))
    paintings = Paintings(args.work, heldout, 56)
    trainer = Trainer(
        model,
        state=args.work / f"{args.name}.pt",
        steps=args.steps,
        lr=args.lr,
        optimizers=build_optimizers(model, args.lr),
    )

    def report(step: int) -> None:
        loss = heldout_loss(trainer.average, scheduler, heldout, BATCHES)
        print(f"step {step} held-out loss {loss:.4f}; {told(paintings, trainer.average, scheduler)}", flush=True)

    trainer.run(
        lambda step: denoising_loss(model, scheduler, train, np.random.default_rng((2, step)), BATCHES), report=report
    )


if __name__ == "__main__":
    main()
