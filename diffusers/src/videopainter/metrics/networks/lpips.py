"""LPIPS v0.1 on SqueezeNet 1.1: how far apart two images are for a network trained to recognise things.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018. Features of seven depths, unit-normalised over channels; squared differences, weighted per channel, averaged over
places, added up. The network (Iandola et al. 2016) is written out, so that torchvision is not needed; its weights have
torchvision's names. The weights of channels are those that torchmetrics ships, and the numbers are torchmetrics'.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from videopainter.errors import InputError
from videopainter.metrics.networks.common import exact_convolutions, load_network, read_state_dict

# Mean and standard deviation of the network's training images, for values in -1..1 (LPIPS v0.1).
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
CHANNELS = (64, 128, 256, 384, 384, 512, 512)
MIN_SIZE = 17  # pixels: what the third pooling needs
_TAPS = (1, 4, 7, 9, 10, 11, 12)  # layers whose outputs are compared
_EPS = 1e-8


class Fire(nn.Module):
    """Few channels, then 1x1 and 3x3 convolutions beside each other; each followed by ReLU."""

    def __init__(self, channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


class SqueezeNet(nn.Module):
    """The convolutional part of SqueezeNet 1.1."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), _pool()),
            *(Fire(64, 16, 64), Fire(128, 16, 64), _pool()),
            *(Fire(128, 32, 128), Fire(256, 32, 128), _pool()),
            *(Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
        )

    def taps(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Features (N, C, h, w) of each depth, C as in CHANNELS, one at a time."""
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in _TAPS:
                yield x


class Lpips(nn.Module):
    """Perceptual distance; float32, in evaluation mode, no gradients."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self):
        super().__init__()
        self.net = SqueezeNet()
        self.weightings = nn.ParameterList(torch.zeros(channels) for channels in CHANNELS)
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path, weightings: Path, device: str | torch.device = "cpu") -> Lpips:
        """From torchvision's SqueezeNet 1.1 file and `weightings_file()`. Raises InputError for files of other things.

        The classifier in `path` is left out on purpose: LPIPS has none.
        """
        model = cls()
        state = {key: value for key, value in read_state_dict(path).items() if not key.startswith("classifier.")}
        load_network(model.net, state, "SqueezeNet 1.1", path)
        state = read_state_dict(weightings)
        for depth, weighting in enumerate(model.weightings):
            values = state.get(f"lin{depth}.model.1.weight")
            if values is None or values.numel() != weighting.numel():
                raise InputError(f"expected LPIPS weights of SqueezeNet, lin{depth} does not fit: {weightings}")
            weighting.copy_(values.flatten())
        return model.to(device)

    @torch.inference_mode()
    def distance(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """LPIPS of each pair: (N,), float32, 0 = alike, lower = more alike.

        Args:
            first, second: float32 (N, 3, H, W) in 0..1 on the model's device, H and W at least 17.

        Raises:
            ValueError: for shapes that differ or are something else.
        """
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
            shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
            raise ValueError(f"images: expected two batches of one shape (N, 3, H, W), got {shapes}")
        if min(first.shape[2:]) < MIN_SIZE:
            size = "x".join(map(str, first.shape[:1:-1]))
            raise ValueError(f"images for LPIPS: expected at least {MIN_SIZE}x{MIN_SIZE} pixels, got {size}")
        total = first.new_zeros(len(first))
        images = (2 * torch.cat([first, second]) - 1 - self.shift) / self.scale
        if images.device.type == "cpu":
            # Channels last: 1x1 convolutions, pooling and sums over channels read memory in order.
            images = images.contiguous(memory_format=torch.channels_last)
        with exact_convolutions():
            for features, weighting in zip(self.net.taps(images), self.weightings, strict=True):
                a, b = _unit(features).chunk(2)
                # Places first, channels last: the weighted sum of means is the mean of weighted sums.
                total += ((a - b) ** 2).mean(dim=(2, 3)) @ weighting
        return total


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / torch.sqrt(_EPS + (features**2).sum(dim=1, keepdim=True))
