"""LAION's aesthetic scores: how much people like a picture, 1 to 10, from CLIP's unit vector of it.

Schuhmann et al., "LAION-5B", NeurIPS 2022. Two heads are published: one linear layer (`sa_0_4_vit_l_14_linear.pth`) and
five of them (`sac+logos+ava1-l14-linearMSE.pth` and `ava+logos-l14-linearMSE.pth`), of which dropout alone is
between. Both are for OpenAI's ViT-L/14.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from videopainter.errors import InputError
from videopainter.metrics.networks.clip_images import ClipImages
from videopainter.metrics.networks.common import read_state_dict

# How layers are called in the files, one after the other; a file that has others has something between them, too.
_LINEAR, _DEEP = ("",), tuple(f"layers.{number}." for number in (0, 2, 4, 6, 7))


class AestheticScorer:
    """A CLIP and a head that reads its vectors."""

    def __init__(self, clip: ClipImages, head: nn.Module) -> None:
        self.clip, self.head = clip, head

    @classmethod
    def load(cls, head_file: Path, clip_folder: Path, device: str | torch.device = "cpu") -> AestheticScorer:
        """InputError where either cannot be read, or the head is for a CLIP of another width."""
        head = load_head(head_file, ClipImages.check(clip_folder))
        return cls(ClipImages.load(clip_folder, device, with_text=False), head.to(device))

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor) -> list[float]:
        """A score per frame; uint8 RGB (N, 3, H, W) on the model's device."""
        return self.head(self.clip.images(frames))[:, 0].tolist()


def load_head(file: Path, width: int) -> nn.Sequential:
    """The head in a file, for vectors of `width` numbers, float32.

    Raises:
        InputError: no such file, another layout, numbers that are none, or a head for another width.
    """
    state = {name: value.float() for name, value in read_state_dict(file).items()}
    names = next((names for names in (_LINEAR, _DEEP) if set(state) == _keys(names)), None)
    if names is None:
        found = ", ".join(sorted(state)[:4])
        raise InputError(
            f"expected LAION's aesthetic head (weight and bias, or those of layers 0, 2, 4, 6, 7), got {found}: {file}"
        )
    shapes = [(state[f"{name}weight"].shape, state[f"{name}bias"].shape) for name in names]
    fits = all(len(weight) == 2 and bias == weight[:1] for weight, bias in shapes)
    if not fits or any(one[0][0] != next_one[0][1] for one, next_one in pairwise(shapes)) or shapes[-1][0][0] != 1:
        raise InputError(f"expected layers that fit to each other and end in one number, got others: {file}")
    if shapes[0][0][1] != width:
        raise InputError(
            f"expected an aesthetic head for CLIP's {width} numbers, got one for {shapes[0][0][1]}: {file}"
        )
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise InputError(f"expected an aesthetic head's weights, got some that are no numbers: {file}")
    layers = [_layer(state[f"{name}weight"], state[f"{name}bias"]) for name in names]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _keys(names: tuple[str, ...]) -> set[str]:
    return {f"{name}{part}" for name in names for part in ("weight", "bias")}


def _layer(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
