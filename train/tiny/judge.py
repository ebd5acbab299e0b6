"""A small classifier that says which shape and which colour is to be seen where an object was painted.

It looks at the object's surroundings, too, and may say that there is no object (`NOTHING`). It is trained on renders of
bold scenes, on the same through the VAE, and on worse pictures made of both; see render.py for `<work>/stills_*`.

    python train/tiny/judge.py --work outputs/tiny   # writes <work>/judge.pt, prints how often it is right
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from autoencoder import load_autoencoder
from common import Clips, Trainer, to_video
from torch import nn

from videopainter.data.synthetic.objects import BOLD_COLOURS, BOLD_SHAPES

SIDE = 48  # pixels, of the square that the judge sees
NOTHING = "nothing"
SHAPE_NAMES, COLOUR_NAMES = (*BOLD_SHAPES, NOTHING), (*BOLD_COLOURS, NOTHING)


class Judge(nn.Module):
    """Crops (B, 3, 48, 48) in -1..1 to the logits of shapes and of colours."""

    def __init__(self, width: int = 24):
        super().__init__()
        layers, channels = [], 3
        for k in range(4):
            layers += [
                nn.Conv2d(channels, width * (k + 1), 3, stride=2 if k else 1, padding=1),
                nn.GroupNorm(8, width * (k + 1)),
            ]
            layers += [nn.SiLU(), nn.Conv2d(width * (k + 1), width * (k + 1), 3, padding=1, groups=8), nn.SiLU()]
            channels = width * (k + 1)
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(channels * 9, 96)
        self.shape, self.colour = nn.Linear(96, len(SHAPE_NAMES)), nn.Linear(96, len(COLOUR_NAMES))

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = F.adaptive_avg_pool2d(self.features(crops), 3).flatten(1)
        hidden = F.silu(self.hidden(maps))
        return self.shape(hidden), self.colour(hidden)

    @torch.no_grad()
    def names(self, crops: torch.Tensor) -> list[tuple[str, str]]:
        """(shape, colour) of each crop."""
        shapes, colours = (logits.argmax(1).tolist() for logits in self(crops))
        return [(SHAPE_NAMES[s], COLOUR_NAMES[c]) for s, c in zip(shapes, colours, strict=True)]


def crop(frame: np.ndarray, footprint: np.ndarray, *, shift: tuple[float, float] = (0, 0), scale: float = 1.0):
    """The square around a footprint (H, W) in a frame uint8 (H, W, 3): float (3, SIDE, SIDE) in -1..1.

    `shift` (in sides of it) and `scale` move it, for training.
    """
    rows, columns = np.flatnonzero(footprint.any(1)), np.flatnonzero(footprint.any(0))
    side = scale * (1.1 * max(rows[-1] - rows[0], columns[-1] - columns[0]) + 5)
    x, y = (0.5 * (line[0] + line[-1]) + part * side for line, part in zip((columns, rows), shift, strict=True))
    step = side / SIDE
    # Pixel p of the crop shows pixel centre + (p - 23.5) * step of the frame.
    matrix = np.array([[step, 0, x - step * (SIDE - 1) / 2], [0, step, y - step * (SIDE - 1) / 2]], np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(frame, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return torch.from_numpy(square).permute(2, 0, 1).float() / 127.5 - 1.0


def seen_well(footprint: np.ndarray, frame: np.ndarray, without: np.ndarray) -> bool:
    """Whether an object is large enough in the picture, and not cut off by its border or mostly behind another one."""
    changed = np.abs(frame.astype(int) - without).max(-1) > 12
    area, (height, width) = (changed & footprint).sum(), footprint.shape
    rows, columns = np.flatnonzero(footprint.any(1)), np.flatnonzero(footprint.any(0))
    if not len(rows) or area < 0.02 * height * width or area < 0.5 * footprint.sum():
        return False
    return bool(columns[0] > 0 and columns[-1] < width - 1 and rows[0] > 0)


def labels_of(words: dict[str, str]) -> tuple[int, int]:
    """Class numbers of a caption's object."""
    return SHAPE_NAMES.index(words["shape"]), COLOUR_NAMES.index(words["colour"])


class Crops:
    """Crops of one-frame clips: `frames` and `without` are looked at as they are, or as a VAE left them."""

    def __init__(self, clips: Clips, frames: np.ndarray, without: np.ndarray, indices: np.ndarray):
        self.clips, self.frames, self.without, self.indices = clips, frames, without, indices

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` crops, one in ten without its object, moved a little: (B, 3, SIDE, SIDE), classes (B, 2)."""
        crops, labels = [], []
        for k in rng.choice(len(self.indices), count):
            index, empty = self.indices[k], rng.random() < 0.1
            frame = (self.without if empty else self.frames)[k]
            move = {"shift": tuple(rng.uniform(-0.06, 0.06, 2)), "scale": float(rng.uniform(0.9, 1.15))}
            crops.append(crop(frame, self.clips.footprint[index, 0], **move))
            nothing = (len(SHAPE_NAMES) - 1, len(COLOUR_NAMES) - 1)
            labels.append(nothing if empty else labels_of(self.clips.captions[index]))
        return torch.stack(crops), torch.tensor(labels)


def worsen(crops: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blur, noise, another light: what a generator's pictures may have, too."""
    size = int(rng.integers(24, SIDE + 1))
    crops = F.interpolate(F.interpolate(crops, size=(size, size), mode="area"), size=(SIDE, SIDE), mode="bilinear")
    crops = crops * float(rng.uniform(0.85, 1.1)) + float(rng.uniform(-0.08, 0.08))
    return crops + float(rng.uniform(0, 0.1)) * torch.randn_like(crops)


def accuracy(judge: Judge, clips: Clips, frames: np.ndarray, indices: np.ndarray) -> tuple[float, float, float]:
    """Share of objects whose shape, whose colour, and of which both are named rightly."""
    crops = torch.stack([crop(frame, clips.footprint[i, 0]) for frame, i in zip(frames, indices, strict=True)])
    truth = [(clips.captions[i]["shape"], clips.captions[i]["colour"]) for i in indices]
    said = judge.names(crops)
    right = np.array([[a[0] == b[0], a[1] == b[1], a == b] for a, b in zip(said, truth, strict=True)])
    return tuple(right.mean(0).tolist())


def well_seen(clips: Clips) -> np.ndarray:
    """Numbers of the one-frame clips whose object is seen well, and alone: behind another one a shape is no shape."""
    triples = zip(clips.footprint[:, 0], clips.frames[:, 0], clips.without[:, 0], strict=True)
    alone = [words["without"].startswith("An empty") for words in clips.captions]
    return np.flatnonzero([only and seen_well(*triple) for only, triple in zip(alone, triples, strict=True)])


def load_judge(file: Path) -> Judge:
    """The judge that `main` saved."""
    judge = Judge()
    judge.load_state_dict({k: v.float() for k, v in torch.load(file, weights_only=True)["average"].items()})
    return judge.eval()


def through_vae(vae, frames: np.ndarray, batch: int = 8) -> np.ndarray:
    """uint8 pictures (N, H, W, 3) encoded and decoded."""
    parts = []
    with torch.no_grad():
        for start in range(0, len(frames), batch):
            latents = vae.encode(to_video(frames[start : start + batch, None])).latent_dist.mode()
            parts.append(to_pictures(vae.decode(latents).sample))
    return np.concatenate(parts)


def to_pictures(video: torch.Tensor) -> np.ndarray:
    """One-frame videos (B, 3, 1, H, W) in -1..1 to uint8 (B, H, W, 3)."""
    pixels = (video[:, :, 0].clamp(-1, 1) + 1.0) * 127.5
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--decoded", type=int, default=240, help="pictures to be seen through the VAE, too")
    args = parser.parse_args()
    torch.manual_seed(0)
    judge = Judge()
    trainer = Trainer(judge, state=args.work / "judge.pt", steps=args.steps, lr=2e-3, decay=0.99)
    if trainer.step >= args.steps:
        return
    clips, heldout = Clips(args.work, "stills"), Clips(args.work, "stills_heldout")
    train, test = well_seen(clips), well_seen(heldout)[:200]
    vae, few = load_autoencoder(args.work), train[: args.decoded]
    raw = Crops(clips, clips.frames[:, 0][train], clips.without[:, 0][train], train)
    decoded = Crops(clips, *(through_vae(vae, v[:, 0][few]) for v in (clips.frames, clips.without)), few)
    tested = through_vae(vae, heldout.frames[:, 0][test])

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((5, step))
        crops, labels = (decoded if step % 2 else raw).draw(64, rng)
        shapes, colours = judge(worsen(crops, rng) if rng.random() < 0.7 else crops)
        return F.cross_entropy(shapes, labels[:, 0]) + F.cross_entropy(colours, labels[:, 1])

    def report(step: int) -> None:
        for name, frames in (("renders", heldout.frames[:, 0][test]), ("through the VAE", tested)):
            shape, colour, both = accuracy(trainer.average, heldout, frames, test)
            print(
                f"judge step {step}, {len(test)} {name}: shape {shape:.3f} colour {colour:.3f} both {both:.3f}",
                flush=True,
            )

    trainer.run(loss_of, report=report, every=500)


if __name__ == "__main__":
    main()
