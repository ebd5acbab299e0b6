"""Inception-I3D, the network whose features VFID compares.

Carreira, Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017. Names and shapes
of the weights are those of `i3d_rgb_imagenet.pt`. As in the network's first home, TensorFlow, sizes are rounded up
where a layer strides, and odd padding goes to the far side ("SAME"): any length and size works, from one pixel on.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from videopainter.metrics.networks.common import exact_convolutions, load_network, read_state_dict

_FEATURES = 1024
_CLASSES = 400  # of Kinetics; the layer is in the file and not used here
_BATCH_NORM_EPS = 1e-3

# Channels of each mixed block: in, 1x1x1, (reduced, 3x3x3), (reduced, 3x3x3), after pooling.
_MIXED = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
# Kernel and stride (time, height, width) of the pooling before a layer.
_POOLED = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def _padding(size: int, kernel: int, stride: int) -> int:
    """Pixels to add so that the layer's output has ceil(size / stride)."""
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def _max_pool(x: torch.Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> torch.Tensor:
    """SAME max pooling of what a ReLU gave. Half the padding and rounding up cover the same places without a copy."""
    before = [_padding(*sizes) // 2 for sizes in zip(x.shape[2:], kernel, stride)]
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


class Unit(nn.Module):
    """SAME convolution of a cube, batch normalisation, ReLU; (B, C, T, H, W)."""

    def __init__(self, channels: int, out: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(channels, out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(out, eps=_BATCH_NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = [_padding(size, self.kernel, self.stride) for size in x.shape[2:]]
        if any(pads):
            # torch pads the last axis first.
            x = F.pad(x, [side for pad in reversed(pads) for side in (pad // 2, pad - pad // 2)])
        return F.relu_(self.bn(self.conv3d(x)))


class Mixed(nn.Module):
    """Four paths beside each other, their channels one after the other."""

    def __init__(self, channels: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3b: int):
        super().__init__()
        self.b0 = Unit(channels, b0)
        self.b1a, self.b1b = Unit(channels, b1a), Unit(b1a, b1b, 3)
        self.b2a, self.b2b = Unit(channels, b2a), Unit(b2a, b2b, 3)
        self.b3b = Unit(channels, b3b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.b3b(_max_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], dim=1)


class _Logits(nn.Module):
    """The classifier: loaded, so that a file is checked whole, and never run."""

    def __init__(self):
        super().__init__()
        self.conv3d = nn.Conv3d(_FEATURES, _CLASSES, 1)


class I3D(nn.Module):
    """The network up to its last mixed block; float32, in evaluation mode, no gradients."""

    def __init__(self):
        super().__init__()
        self.logits = _Logits()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, channels in _MIXED.items():
            self.add_module(name, Mixed(*channels))
        self.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path, device: str | torch.device = "cpu") -> I3D:
        """From `i3d_rgb_imagenet.pt`. Raises InputError for a file of anything else."""
        model = cls()
        load_network(model, read_state_dict(path), "I3D", path)
        return model.to(device)

    @torch.inference_mode()
    def features(self, video: torch.Tensor) -> torch.Tensor:
        """Mean over time and space of the last mixed block.

        Args:
            video: float32 (B, T, 3, H, W) in 0..1 on the model's device; T, H, W >= 1.

        Returns:
            float32 (B, 1024).

        Raises:
            ValueError: for another shape or type.
        """
        if video.ndim != 5 or video.shape[2] != 3 or 0 in video.shape or not video.is_floating_point():
            raise ValueError(f"video: expected float (B, T, 3, H, W), got {video.dtype} of shape {tuple(video.shape)}")
        x = video.transpose(1, 2)
        with exact_convolutions():
            for name, block in self.named_children():
                if name == "logits":
                    continue
                if name in _POOLED:
                    x = _max_pool(x, *_POOLED[name])
                x = block(x)
        return x.mean(dim=(2, 3, 4))
