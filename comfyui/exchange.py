"""Between ComfyUI's tensors and the files that runs work on. Knows nothing of ComfyUI itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from videopainter.data.images import write_image
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.segmentation.output import write_masks

_CHUNK = 16  # frames converted at once
# Of a file that is only handed on. What is painted does not depend on it.
_RATE = Fraction(24)


def check_images(images: torch.Tensor, name: str = "images") -> None:
    """InputError for what is no IMAGE: float (frames, height, width, 3), finite."""
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[-1] != 3 or 0 in shape:
        raise InputError(f"{name}: expected an IMAGE of shape (frames, height, width, 3), got {shape}")
    if not torch.isfinite(images).all():
        raise InputError(f"{name}: expected finite numbers from 0 to 1, got NaN or infinity")


def check_mask(mask: torch.Tensor, images: torch.Tensor) -> None:
    """InputError for a MASK that is not of the images: one for all frames, or as many, of their size."""
    frames, height, width = (int(n) for n in images.shape[:3])
    if mask.ndim != 3 or mask.shape[0] not in (1, frames) or tuple(mask.shape[1:]) != (height, width):
        got = "x".join(map(str, mask.shape[:0:-1])) if mask.ndim == 3 else str(tuple(mask.shape))
        count = f"{mask.shape[0]} of {got}" if mask.ndim == 3 else got
        empty = " (what a loader gives for a picture without alpha)" if tuple(mask.shape[1:]) == (64, 64) else ""
        raise InputError(f"mask: expected 1 or {frames} of {width}x{height} pixels, as the images, got {count}{empty}")
    if not torch.isfinite(mask).all():
        raise InputError("mask: expected finite numbers from 0 to 1, got NaN or infinity")


def to_bytes(images: torch.Tensor) -> np.ndarray:
    """IMAGE in [0, 1] -> uint8 RGB of the same shape."""
    return (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def write_frames(images: torch.Tensor, folder: Path) -> Path:
    """The images as a lossless video in `folder`, named by what it shows; one that is there is not written again."""
    check_images(images)
    file = folder / f"images-{_digest(to_bytes(part) for part in _parts(images))}.mkv"
    if not file.exists():
        with VideoWriter(file, fps=_RATE, lossless=True) as writer:
            for part in _parts(images):
                writer.write(to_bytes(part))
    return file


def write_mask(mask: torch.Tensor, images: torch.Tensor, folder: Path) -> Path:
    """The mask (hole from 0.5 on) as a file in `folder`, named by what it shows: one picture for all frames, or ids."""
    check_mask(mask, images)
    holes = [(part.detach() >= 0.5).cpu().numpy().astype(np.uint8) for part in _parts(mask)]
    name = f"mask-{_digest(iter(holes))}"
    if len(mask) == 1:
        file = folder / f"{name}.png"
        if not file.exists():
            write_image(file, holes[0][0] * 255)
        return file
    file = folder / f"{name}.npz"
    if not file.exists():
        write_masks(file, lambda k: holes[k // _CHUNK][k % _CHUNK], len(mask), _RATE)
    return file


def write_picture(image: torch.Tensor, folder: Path) -> Path:
    """The first of some images as a PNG in `folder`, named by what it shows."""
    check_images(image, "first_frame")
    pixels = to_bytes(image[0])
    file = folder / f"first-frame-{_digest(iter([pixels]))}.png"
    if not file.exists():
        write_image(file, pixels)
    return file


def read_result(file: Path, images: torch.Tensor) -> torch.Tensor:
    """A result as IMAGE on the CPU. Pixels that are as they were handed on have the images' own numbers."""
    frames = open_video(file)
    result = torch.empty(tuple(images.shape), dtype=torch.float32)
    for start in range(0, len(images), _CHUNK):
        stop = min(start + _CHUNK, len(images))
        made, own = frames.read(start, stop), images[start:stop].detach().float().cpu()
        same = torch.from_numpy(made == to_bytes(own))
        result[start:stop] = torch.where(same, own, torch.from_numpy(made).float() / 255)
    return result


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    for start in range(0, len(tensor), _CHUNK):
        yield tensor[start : start + _CHUNK]


def _digest(arrays: Iterator[np.ndarray]) -> str:
    """Of bytes and shapes, sixteen digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
