"""Weights that metrics need: where they lie under `ckpt/`, and what fetches them. Nothing is downloaded here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from videopainter.metrics.catalog import CLIP_FRAMES, CLIP_SCORE, I3D_WEIGHTS, LPIPS


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One model's files: `paths` below the ckpt folder, all needed; `fetch` is a shell command, run beside ckpt/."""

    name: str
    paths: tuple[str, ...]
    fetch: str

    def missing(self, ckpt: Path) -> list[str]:
        """The paths that are not there."""
        return [path for path in self.paths if not (ckpt / path).exists()]


_WEIGHTINGS = Path("functional/image/lpips_models/squeeze.pth")


def _clip(name: str) -> str:
    # The repositories also hold the weights for two other frameworks.
    return f"hf download openai/{name} --local-dir ckpt/{name} --exclude '*.h5' --exclude '*.msgpack'"


WEIGHTS: dict[str, WeightFile] = {
    LPIPS: WeightFile(
        name="SqueezeNet 1.1 for LPIPS",
        paths=("squeezenet1_1-b8a52dc0.pth",),
        fetch="wget -P ckpt https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    ),
    CLIP_SCORE: WeightFile(
        name="CLIP ViT-L/14",
        paths=("clip-vit-large-patch14/config.json",),
        fetch=_clip("clip-vit-large-patch14"),
    ),
    CLIP_FRAMES: WeightFile(
        name="CLIP ViT-B/32",
        paths=("clip-vit-base-patch32/config.json",),
        fetch=_clip("clip-vit-base-patch32"),
    ),
    I3D_WEIGHTS: WeightFile(
        name="I3D trained on ImageNet and Kinetics",
        paths=("i3d_rgb_imagenet.pt",),
        fetch="wget -P ckpt https://github.com/sczhou/ProPainter/releases/download/v0.1.0/i3d_rgb_imagenet.pt",
    ),
}


def absent(key: str, ckpt: Path) -> str | None:
    """Why the model `key` cannot be used, with the command that fetches it; None where its files are there."""
    weights = WEIGHTS[key]
    missing = weights.missing(ckpt)
    if not missing:
        return None
    return f"{weights.name}: no {', '.join(str(ckpt / path) for path in missing)}; fetch: {weights.fetch}"


def clip_folder(ckpt: Path) -> Path:
    """Where the CLIP model lies that reads prompts."""
    return (ckpt / WEIGHTS[CLIP_SCORE].paths[0]).parent


def weightings_file() -> Path | None:
    """torchmetrics' file of LPIPS's channel weights; None where torchmetrics is not installed. Imports nothing."""
    package = find_spec("torchmetrics")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / _WEIGHTINGS
