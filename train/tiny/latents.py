"""Latents of rendered clips, as the backbone's stages are trained on them, and windows of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from autoencoder import load_autoencoder
from backbone import Backbone
from common import Clips, to_video
from text import tokenize

from videopainter.files import replacing
from videopainter.models.backbones.registry import backbone_of
from videopainter.pipelines.conditioning import touched_latents

SHORT_TOKENS = 24  # captions of one object
WINDOW = 5  # tokens of 16x16 pixels


class Window(NamedTuple):
    """A square of `WINDOW` tokens, at this row and column of tokens."""

    row: int
    column: int

    def cut(self, latents: torch.Tensor) -> torch.Tensor:
        """(..., h, w) to what the square shows of it."""
        size, y, x = 2 * WINDOW, 2 * self.row, 2 * self.column
        return latents[..., y : y + size, x : x + size]

    def positions(self, model: Backbone, like: torch.Tensor):
        """The rotary tables that these tokens have in whole frames (B, T, 16, h, w)."""
        rows, columns = like.shape[-2] // 2, like.shape[-1] // 2
        tables = backbone_of(model.transformer).positions(like)
        part = (slice(None), slice(self.row, self.row + WINDOW), slice(self.column, self.column + WINDOW))
        return tuple(table.view(like.shape[1], rows, columns, -1)[part].flatten(0, 2) for table in tables)


def window_at(footprint: np.ndarray) -> Window:
    """The window whose middle is nearest to that of a footprint (H, W)."""
    places = np.argwhere(footprint)
    middle = (places.min(0) + places.max(0)) / 32
    most = np.array(footprint.shape) // 16 - WINDOW
    return Window(*np.clip(np.rint(middle - WINDOW / 2), 0, most).astype(int).tolist())


def latent_holes(holes: np.ndarray) -> torch.Tensor:
    """Holes (B, F, H, W) to what is noisy (B, T, 1, h, w), 1 = all that has seen the hole."""
    batch, frames, height, width = holes.shape
    like = torch.zeros(batch, 1 + (frames - 1) // 4, 1, height // 8, width // 8)
    return touched_latents(torch.from_numpy(holes)[:, None], like)


class LatentClips:
    """Latents of clips (N, T, 16, 12, 18), scaled, with captions and footprints."""

    def __init__(self, work: Path, name: str, tokenizer):
        self.clips, self.name = Clips(work, name), name
        scale = json.loads((work / "scale.json").read_text())
        self.latents = {
            kind: v * scale for kind, v in torch.load(work / f"{name}_latents.pt", weights_only=True).items()
        }
        self.tokens = {k: tokenize(tokenizer, [words[k] for words in self.clips.captions]) for k in self.latents}
        self.no_tokens = tokenize(tokenizer, [""])[0]
        # Which clips a window shows the object of.
        self.windows: dict[Window, list[int]] = {}
        for i in range(len(self)):
            footprint = self.clips.footprint[i].any(0)
            if footprint.any() and not self.tokens["full"][i, SHORT_TOKENS:].any():
                self.windows.setdefault(window_at(footprint), []).append(i)

    def draw_window(self, rng: np.random.Generator) -> Window:
        """A window, as often as there are clips for it."""
        sizes = np.array([len(members) for members in self.windows.values()])
        return list(self.windows)[rng.choice(len(sizes), p=sizes / sizes.sum())]

    def __len__(self) -> int:
        return len(self.latents["full"])


def encode_clips(work: Path, name: str, count: int) -> None:
    """Write unscaled latents of `count` clips, of half of them without an object, too; of the first set the scale."""
    target = work / f"{name}_latents.pt"
    if target.exists():
        return
    vae, clips = load_autoencoder(work), Clips(work, name)
    latents = {}
    count = min(count, len(clips))
    for kind, frames, some in (("full", clips.frames, count), ("without", clips.without, count // 2)):
        parts = []
        for start in range(0, some, 8):
            with torch.no_grad():
                video = to_video(frames[start : min(start + 8, some)])
                parts.append(vae.encode(video).latent_dist.mode().transpose(1, 2).half())
        latents[kind] = torch.cat(parts)
    if not (work / "scale.json").exists():
        (work / "scale.json").write_text(json.dumps(round(1.0 / latents["full"].float().std().item(), 6)))
    with replacing(target) as partial:
        torch.save(latents, partial)
