"""The video stage of the backbone: clips of 17 frames, from the weights of the image stage on.

Every third batch is still of single frames: there are more of them, and they show more shapes in the same time. Writes
`<work>/videos.pt`.

    python train/tiny/videos.py --work outputs/tiny --steps 2200
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from backbone import Backbone, build_scheduler
from common import Trainer
from denoise import Batches, build_optimizers, denoising_loss, heldout_loss
from images import BATCHES as STILL_BATCHES
from latents import LatentClips, encode_clips
from paintings import Paintings, told
from text import load_tokenizer

BATCHES = Batches(8, 16, 0.5)
STILLS_SHARE = 1 / 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--clips", type=int, default=1200, help="clips to be encoded, half of them without an object, too"
    )
    parser.add_argument("--name", default="videos")
    args = parser.parse_args()
    torch.manual_seed(0)
    encode_clips(args.work, "clips", args.clips)
    encode_clips(args.work, "heldout", 24)
    tokenizer = load_tokenizer(args.work)
    names = ("stills", "clips", "stills_heldout", "heldout")
    stills, clips, stills_heldout, heldout = (LatentClips(args.work, name, tokenizer) for name in names)
    scheduler, model = build_scheduler(), Backbone(len(tokenizer))
    state = args.work / f"{args.name}.pt"
    if not state.exists():
        model.load_state_dict(torch.load(args.work / "images.pt", weights_only=True)["average"])
    paintings = Paintings(args.work, stills_heldout, 56)
    trainer = Trainer(
        model,
        state=state,
        steps=args.steps,
        lr=args.lr,
        optimizers=build_optimizers(model, args.lr),
    )

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((6, step))
        if rng.random() < STILLS_SHARE:
            return denoising_loss(model, scheduler, stills, rng, STILL_BATCHES)
        return denoising_loss(model, scheduler, clips, rng, BATCHES)

    def report(step: int) -> None:
        loss = heldout_loss(trainer.average, scheduler, heldout, BATCHES)
        print(f"step {step} held-out loss {loss:.4f}; {told(paintings, trainer.average, scheduler)}", flush=True)

    trainer.run(loss_of, report=report)


if __name__ == "__main__":
    main()
