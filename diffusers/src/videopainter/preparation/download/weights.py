"""Which weights there are, where they lie below `ckpt/`, and which a task needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from videopainter.errors import InputError
from videopainter.preparation.download.hub import HubFiles


@dataclass(frozen=True, kw_only=True)
class WebFile:
    """A single file of the web, below `ckpt/`. sha256: how its digest begins, "" where nobody says."""

    url: str
    path: str
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """One entry of the catalogue."""

    what: str
    source: HubFiles | WebFile


# diffusers' own layout: one folder per component.
_COMPONENTS = ("model_index.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model")
# What transformers reads.
_TRANSFORMERS = ("*.json", "*.txt", "*.model", "*.safetensors")

CATALOGUE: dict[str, PublishedWeights] = {
    "cogvideox": PublishedWeights(
        what="backbone CogVideoX-5B-I2V",
        source=HubFiles(repo="THUDM/CogVideoX-5b-I2V", folder="CogVideoX-5b-I2V", files=_COMPONENTS),
    ),
    "videopainter": PublishedWeights(
        what="context encoder and ID adapter",
        source=HubFiles(
            repo="TencentARC/VideoPainter", files=("VideoPainter/checkpoints/*", "VideoPainterID/checkpoints/*")
        ),
    ),
    "wan": PublishedWeights(
        what="backbone Wan 2.1 T2V 1.3B; a branch for it is yours to train",
        source=HubFiles(repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers", folder="Wan2.1-T2V-1.3B", files=_COMPONENTS),
    ),
    "flux": PublishedWeights(
        what="FLUX.1 Fill, for the first frame",
        source=HubFiles(repo="black-forest-labs/FLUX.1-Fill-dev", folder="flux_inp", files=_COMPONENTS),
    ),
    "sam2": PublishedWeights(
        what="SAM 2 large, as the release's app reads it",
        source=HubFiles(repo="facebook/sam2-hiera-large", files=("sam2_hiera_large.pt",)),
    ),
    "sam2-tiny": PublishedWeights(
        what="SAM 2 tiny, as the release's app reads it",
        source=HubFiles(repo="facebook/sam2-hiera-tiny", files=("sam2_hiera_tiny.pt",)),
    ),
    "sam2.1": PublishedWeights(
        what="SAM 2.1 large",
        source=HubFiles(repo="facebook/sam2.1-hiera-large", files=("sam2.1_hiera_large.pt",)),
    ),
    "sam3": PublishedWeights(
        what="SAM 3, masks also from words (ask for access on the hub first)",
        source=HubFiles(repo="facebook/sam3", folder="sam3", files=_TRANSFORMERS),
    ),
    "grounding-dino": PublishedWeights(
        what="Grounding DINO tiny, boxes from words",
        source=HubFiles(repo="IDEA-Research/grounding-dino-tiny", folder="grounding-dino", files=_TRANSFORMERS),
    ),
    "clip-large": PublishedWeights(
        what="CLIP ViT-L/14, for the CLIP score",
        source=HubFiles(repo="openai/clip-vit-large-patch14", folder="clip-vit-large-patch14", files=_TRANSFORMERS),
    ),
    "clip-base": PublishedWeights(
        what="CLIP ViT-B/32, for temporal consistency",
        source=HubFiles(
            repo="openai/clip-vit-base-patch32",
            folder="clip-vit-base-patch32",
            files=(*_TRANSFORMERS, "pytorch_model.bin"),
        ),
    ),
    "aesthetic": PublishedWeights(
        what="LAION's aesthetic head for CLIP ViT-L/14, to choose clips by",
        source=WebFile(
            url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
            path="sa_0_4_vit_l_14_linear.pth",
        ),
    ),
    "safety-checker": PublishedWeights(
        what="Stable Diffusion's safety checker, to choose clips by",
        source=HubFiles(
            repo="CompVis/stable-diffusion-safety-checker",
            folder="safety-checker",
            files=(*_TRANSFORMERS, "pytorch_model.bin"),
        ),
    ),
    "lpips": PublishedWeights(
        what="SqueezeNet 1.1, for LPIPS",
        source=WebFile(
            url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
            path="squeezenet1_1-b8a52dc0.pth",
            sha256="b8a52dc0",
        ),
    ),
    "i3d": PublishedWeights(
        what="I3D, for VFID",
        source=WebFile(
            url="https://github.com/sczhou/ProPainter/releases/download/v0.1.0/i3d_rgb_imagenet.pt",
            path="i3d_rgb_imagenet.pt",
        ),
    ),
}

TASKS: dict[str, tuple[str, ...]] = {
    "inpaint": ("cogvideox", "videopainter"),
    "edit": ("cogvideox", "videopainter", "flux"),
    "app": ("cogvideox", "videopainter", "flux", "sam2"),
    "segment": ("sam2", "grounding-dino"),
    "train": ("cogvideox",),
    "train-id": ("cogvideox", "videopainter"),
    "data": ("clip-large", "aesthetic", "safety-checker", "sam2", "grounding-dino"),
    "evaluate": ("clip-large", "clip-base", "lpips", "i3d"),
    "all": tuple(CATALOGUE),
}


def names_of(words: Iterable[str]) -> list[str]:
    """The catalogue's names of names and tasks, each once; InputError for a word that is neither."""
    found: dict[str, None] = {}
    for word in words:
        if word in TASKS:
            found.update(dict.fromkeys(TASKS[word]))
        elif word in CATALOGUE:
            found[word] = None
        else:
            raise InputError(f"expected a task ({', '.join(TASKS)}) or weights ({', '.join(CATALOGUE)}), got {word!r}")
    return list(found)
