"""Objects painted from their prompts into held-out stills, and what the judge says of them.

python train/tiny/paintings.py --work outputs/tiny --count 200   # prints shares, writes <work>/paintings_videos.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from autoencoder import load_autoencoder
from backbone import Backbone, build_scheduler, predict_clean
from judge import accuracy, load_judge, to_pictures, well_seen
from latents import LatentClips, latent_holes
from text import load_tokenizer

HOLES = ("footprint", "box")


@torch.no_grad()
def paint(
    model: Backbone, scheduler, tokens, clean, mask, *, steps: int = 4, guidance: float = 1.0, no_tokens=None, seed=42
) -> torch.Tensor:
    """Latents with the noisy part painted anew, by SDE-DPM-Solver++(2M) as the pipeline does.

    `guidance` other than 1 needs `no_tokens` (S,), those of an empty prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    latents, before, old = torch.randn(clean.shape, generator=generator), None, None
    for t in scheduler.timesteps:
        latents = torch.where(mask > 0, latents, clean)
        times = torch.full((len(clean),), int(t))
        given = (latents, clean[:, :1], torch.zeros(len(clean)), times)
        predicted = predict_clean(model, scheduler, tokens, *given)
        if guidance != 1.0:
            unguided = predict_clean(model, scheduler, no_tokens.expand_as(tokens), *given)
            predicted = unguided + guidance * (predicted - unguided)
        alpha_bar = scheduler.alphas_cumprod[int(t)]
        velocity = (alpha_bar.sqrt() * latents - predicted) / (1 - alpha_bar).sqrt()
        latents, old = scheduler.step(velocity, old, t, before, latents, generator=generator, return_dict=False)
        before = t
    return torch.where(mask > 0, latents, clean)


class Paintings:
    """Held-out objects painted from their prompts, and what the judge says of them."""

    def __init__(self, work: Path, data: LatentClips, count: int):
        self.data, self.vae, self.judge = data, load_autoencoder(work), load_judge(work / "judge.pt")
        index = well_seen(data.clips)
        self.index = index[index < len(data)][:count]
        self.scale = json.loads((work / "scale.json").read_text())

    def latents(self) -> torch.Tensor:
        """True latents, scaled."""
        return self.data.latents["full"][self.index].float()

    def holes(self, kind: str) -> np.ndarray:
        """Holes (N, H, W): footprints grown by two pixels, or boxes around them."""
        holes = []
        for i in self.index:
            hole = cv2.dilate(self.data.clips.footprint[i, 0].astype(np.uint8), np.ones((5, 5), np.uint8))
            if kind == "box":
                x, y, width, height = cv2.boundingRect(hole)
                hole[y : y + height, x : x + width] = 1
            holes.append(hole > 0)
        return np.stack(holes)

    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Scaled latents (N, 1, 16, h, w) to uint8 pictures."""
        parts = latents.transpose(1, 2).split(8)
        with torch.no_grad():
            return np.concatenate([to_pictures(self.vae.decode(part / self.scale).sample) for part in parts])

    def paint(self, model: Backbone, scheduler, kind: str, steps: int = 4, guidance: float = 1.0) -> np.ndarray:
        """Pictures with the objects painted."""
        tokens, holes = self.data.tokens["full"][self.index], latent_holes(self.holes(kind)[:, None])
        how = {"steps": steps, "guidance": guidance, "no_tokens": self.data.no_tokens}
        return self.decode(paint(model, scheduler, tokens, self.latents(), holes, **how))

    def accuracy(self, pictures: np.ndarray) -> tuple[float, float, float]:
        """Share of objects of the right shape, of the right colour, and of both."""
        return accuracy(self.judge, self.data.clips, pictures, self.index)


def told(paintings: Paintings, model: Backbone, scheduler) -> str:
    """A line with the shares of each kind of hole."""
    rates = [paintings.accuracy(paintings.paint(model, scheduler, kind)) for kind in HOLES]
    parts = ("{}: shape {:.3f} colour {:.3f} both {:.3f}".format(k, *r) for k, r in zip(HOLES, rates, strict=True))
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--name", default="videos", help="whose averaged weights paint")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.work)
    model = Backbone(len(tokenizer))
    model.load_state_dict(torch.load(args.work / f"{args.name}.pt", weights_only=True)["average"])
    paintings = Paintings(args.work, LatentClips(args.work, "stills_heldout", tokenizer), args.count)
    shown = {"truth": paintings.decode(paintings.latents())}
    how = {"steps": args.steps, "guidance": args.guidance}
    shown |= {kind: paintings.paint(model.eval(), build_scheduler(), kind, **how) for kind in HOLES}
    for kind, pictures in shown.items():
        shape, colour, both = paintings.accuracy(pictures)
        print(f"{len(pictures)} objects, {kind}: shape {shape:.3f} colour {colour:.3f} both {both:.3f}")
    starts = range(0, min(24, len(paintings.index)), 8)
    rows = [np.concatenate(list(pictures[k : k + 8]), 1) for k in starts for pictures in shown.values()]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    cv2.imwrite(str(args.work / f"paintings_{args.name}.png"), np.concatenate(rows)[..., ::-1])


if __name__ == "__main__":
    main()
