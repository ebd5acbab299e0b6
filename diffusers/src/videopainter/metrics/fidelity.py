"""Fidelity of chunks of frames, fast: squared and absolute error, PSNR and SSIM of every frame.

The numbers are those of `pixels` (float64, written to be read), in float32 and for many frames. Frames are uint8
(N, H, W, 3): numpy arrays are worked on by OpenCV, whose separable filter is many times faster on a CPU than a
convolution of torch; torch tensors on their own device, the whole chunk at once.

SSIM of two images a, b needs four blurred images, of s = a + b, d = a - b and their squares:

    4 E[a] E[b] = E[s]² - E[d]²,    2 (E[a]² + E[b]²) = E[s]² + E[d]²,    the same for covariance and variances.

Where a equals b, d is 0 and SSIM exactly 1; elsewhere a rounding error of var(s), which is large, is in the numerator
and the denominator alike and cancels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from videopainter.data.reshape import Box
from videopainter.metrics.catalog import PROTOCOLS
from videopainter.metrics.pixels import SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW, psnr_of

FrameBatch = np.ndarray | torch.Tensor
_RADIUS = SSIM_WINDOW // 2
_KERNEL = cv2.getGaussianKernel(SSIM_WINDOW, SSIM_SIGMA, cv2.CV_32F)
_C1, _C2 = (2 * (k * 255) ** 2 for k in (SSIM_K1, SSIM_K2))  # of values in 0..255, doubled as the moments are


def hole_box(masks: np.ndarray) -> Box | None:
    """The smallest box that holds the holes of all frames of bool (N, H, W); None without a hole."""
    seen = np.asarray(masks.any(axis=0))
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def frame_fidelity(
    originals: FrameBatch, results: FrameBatch, masks: np.ndarray, protocol: str
) -> dict[str, np.ndarray]:
    """psnr, ssim, mse, mae of whole frames and, as masked_*, under the protocol: float64 (N,) each.

    Args:
        originals, results: uint8 (N, H, W, 3), both numpy or both torch on one device; at least 6 pixels high and wide.
        masks: bool (N, H, W), True = hole.
        protocol: one of `catalog.PROTOCOLS`: the hole is black in both images (background), in the result (release),
            or nowhere (whole). Means are over all pixels, black ones too. Frames that are all hole are NaN, except
            under `whole`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol}")
    maps = ssim_maps(originals, results)
    errors, ssims = _error_sums(originals, results), _sums(maps)
    pixels = masks[0].size
    found = _named("", errors, ssims, pixels)
    if protocol == "whole":
        return found | _named("masked_", errors, ssims, pixels)
    black = _error_sums(originals, None, masks) if protocol == "release" else 0
    masked = _error_sums(originals, results, ~masks) + black
    found |= _named("masked_", masked, ssims + _masked_ssim_change(maps, originals, results, masks, protocol), pixels)
    for key in ("masked_psnr", "masked_ssim", "masked_mse", "masked_mae"):
        found[key][masks.all(axis=(1, 2))] = np.nan
    return found


def hole_fidelity(truth: FrameBatch, results: FrameBatch, masks: np.ndarray) -> dict[str, np.ndarray]:
    """hole_psnr, hole_ssim, hole_mse, hole_mae: means of the maps over the hole's pixels: float64 (N,).

    NaN for frames without a hole. SSIM's windows at the hole's edge see what lies around it.
    """
    counts = masks.sum(axis=(1, 2)).astype(np.float64)
    counts[counts == 0] = np.nan
    box = hole_box(masks)
    if box is None:
        return _named("hole_", np.zeros((2, len(masks))), counts, counts)
    support = box.grown(_RADIUS, *masks.shape[1:])
    inner = box.within(support)
    maps = inner.crop(ssim_maps(support.crop(truth), support.crop(results)))
    holes = box.crop(masks)
    errors = _error_sums(box.crop(truth), box.crop(results), holes)
    return _named("hole_", errors, _sums(maps * _like(holes, maps)), counts)


def _named(prefix: str, errors: np.ndarray, ssims: np.ndarray, pixels: np.ndarray | int) -> dict[str, np.ndarray]:
    """Metrics from sums: of squared and absolute error (2, N) in 0..255, of SSIM (N,), over so many pixels."""
    mse, mae = errors[0] / (3 * 255**2 * pixels), errors[1] / (3 * 255 * pixels)
    values = {"psnr": psnr_of(mse), "ssim": ssims / pixels, "mse": mse, "mae": mae}
    return {f"{prefix}{key}": value for key, value in values.items()}


# Errors


def _error_sums(first: FrameBatch, second: FrameBatch | None, masks: np.ndarray | None = None) -> np.ndarray:
    """Sums of squared and of absolute differences (of 0..255) over the masks' pixels and channels: (2, N).

    `second` None is black. Equal pixels add exactly 0.
    """
    if isinstance(first, torch.Tensor):
        difference = first.float() if second is None else first.float() - second.float()  # type: ignore[union-attr]
        if masks is not None:
            difference *= _like(masks, difference)[..., None]
        return torch.stack([_row_sums(difference.square()), _row_sums(difference.abs())]).cpu().numpy()
    sums = np.empty((2, len(first)))
    for t, frame in enumerate(first):
        images = [np.ascontiguousarray(frame)] + ([] if second is None else [np.ascontiguousarray(second[t])])
        chosen = {} if masks is None else {"mask": np.ascontiguousarray(masks[t]).view(np.uint8)}
        for row, norm in enumerate((cv2.NORM_L2SQR, cv2.NORM_L1)):  # exact: integers
            sums[row, t] = cv2.norm(*images, normType=norm, **chosen)
    return sums


def _row_sums(values: torch.Tensor) -> torch.Tensor:
    """Sums of each frame of (N, ...) in float64."""
    return values.sum(dim=tuple(range(2, values.ndim))).sum(dim=1, dtype=torch.float64)


# SSIM


def ssim_maps(first: FrameBatch, second: FrameBatch) -> FrameBatch:
    """SSIM around every pixel, mean of the channels: float32 (N, H, W), as `pixels.ssim_map` defines it."""
    if isinstance(first, torch.Tensor):
        return _ssim_on_device(first, second)  # type: ignore[arg-type]
    maps = np.empty(first.shape[:3], np.float32)
    # Fresh memory for every step of every frame would cost as much as the arithmetic.
    workspace = [np.empty(first.shape[1:], np.float32) for _ in range(6)]
    for t, out in enumerate(maps):
        _ssim_by_opencv(first[t], second[t], workspace, out)  # type: ignore[arg-type]
    return maps


def _masked_ssim_change(
    maps: FrameBatch, originals: FrameBatch, results: FrameBatch, masks: np.ndarray, protocol: str
) -> np.ndarray | float:
    """What blackening the hole adds to the sum of each frame's SSIM map: (N,).

    Only pixels whose window meets the hole change; the others' values are taken from the whole frames.
    """
    box = hole_box(masks)
    if box is None:
        return 0.0
    touched = box.grown(_RADIUS, *masks.shape[1:])
    support = touched.grown(_RADIUS, *masks.shape[1:])
    keep = _like(~support.crop(masks), results)[..., None]
    first, second = support.crop(originals), support.crop(results) * keep
    if protocol == "background":
        first = first * keep
    inner = touched.within(support)
    return _sums(inner.crop(ssim_maps(first, second))) - _sums(touched.crop(maps))


def _ssim_by_opencv(first: np.ndarray, second: np.ndarray, workspace: list[np.ndarray], out: np.ndarray) -> None:
    """SSIM of two frames (H, W, 3) into `out` (H, W); the workspace is of their shape, float32."""
    s, d, mean_s, mean_d, var_s, var_d = workspace
    # Centred, so that squares are small and little is lost where they are subtracted.
    cv2.add(first, second, s, dtype=cv2.CV_32F)
    s -= 255
    cv2.subtract(first, second, d, dtype=cv2.CV_32F)
    for values, mean, square in ((s, mean_s, var_s), (d, mean_d, var_d)):
        _blur_by_opencv(values, mean)
        values *= values
        _blur_by_opencv(values, square)
    var_s -= np.multiply(mean_s, mean_s, out=s)
    mean_s += 255
    mean_s *= mean_s
    mean_d *= mean_d
    var_d -= mean_d
    mean_s += _C1
    var_s += _C2
    similarity = np.subtract(mean_s, mean_d, out=s)
    similarity *= np.subtract(var_s, var_d, out=d)
    mean_s += mean_d
    var_s += var_d
    mean_s *= var_s
    similarity /= mean_s
    cv2.transform(similarity, np.full((1, 3), 1 / 3, np.float32), out)


def _blur_by_opencv(image: np.ndarray, out: np.ndarray) -> None:
    cv2.sepFilter2D(image, -1, _KERNEL, _KERNEL, out, borderType=cv2.BORDER_REFLECT_101)


def _ssim_on_device(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """SSIM of frames (N, H, W, 3): (N, H, W)."""
    a, b = (frames.permute(0, 3, 1, 2).float() for frames in (first, second))
    s, d = a + b - 255, a - b
    mean_s, mean_d, square_s, square_d = _blur(torch.stack([s, d, s * s, d * d])).unbind()
    var_s, var_d = square_s - mean_s**2, square_d - mean_d**2
    mean_s, mean_d = (mean_s + 255) ** 2, mean_d**2
    similarity = (mean_s - mean_d + _C1) * (var_s - var_d + _C2)
    return (similarity / ((mean_s + mean_d + _C1) * (var_s + var_d + _C2))).mean(dim=1)


def _blur(images: torch.Tensor) -> torch.Tensor:
    """Gaussian of (..., H, W), mirrored at the edges.

    Sums of shifted images: a GPU's convolution may round to TF32, which is too coarse for variances.
    """
    for dim in (-1, -2):
        padded = _mirrored(images, dim)
        size = images.shape[dim]
        images = sum(float(w) * padded.narrow(dim, i, size) for i, w in enumerate(_KERNEL.ravel()))  # type: ignore
    return images


def _mirrored(images: torch.Tensor, dim: int) -> torch.Tensor:
    """`images` longer by the window's radius at both ends of `dim`, the edge itself not repeated."""
    size = images.shape[dim]
    before = images.narrow(dim, 1, _RADIUS).flip(dim)
    after = images.narrow(dim, size - 1 - _RADIUS, _RADIUS).flip(dim)
    return torch.cat([before, images, after], dim=dim)


def _sums(maps: FrameBatch) -> np.ndarray:
    """Sum of each frame's map (N, H, W): float64 (N,)."""
    if isinstance(maps, torch.Tensor):
        return maps.sum(dim=(1, 2), dtype=torch.float64).cpu().numpy()
    return maps.sum(axis=(1, 2), dtype=np.float64)


def _like(masks: np.ndarray, other: FrameBatch) -> Any:
    """Masks where `other` is: an array or a tensor on its device."""
    return torch.from_numpy(masks).to(other.device) if isinstance(other, torch.Tensor) else masks
