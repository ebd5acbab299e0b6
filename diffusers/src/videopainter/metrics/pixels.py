"""Fidelity of pixels: squared and absolute error, PSNR and SSIM, of whole frames or of the pixels of a mask.

Frames are (T, H, W, 3), uint8 or float in 0..1; masks bool (T, H, W), True = count. Everything is computed in float64
of images scaled to 0..1. A map says what every pixel contributes; two means make numbers of it:

- `frame_means`: one number per frame; NaN where the mask of a frame is empty, because such a frame says nothing;
- `pooled_mean`: one number per clip, every pixel of the mask counting alike; ValueError if the whole mask is empty.

A mask chooses pixels of the map; it does not change the images. To leave pixels out of both images, as benchmarks of
background preservation do, make them black in both.
"""

from __future__ import annotations

import cv2
import numpy as np

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def unit_range(frames: np.ndarray) -> np.ndarray:
    """Frames as float64 in 0..1.

    Raises ValueError for other types than uint8 and float, and for floats outside 0..1 (NaN included).
    """
    if frames.dtype == np.uint8:
        return frames.astype(np.float64) / 255
    if not np.issubdtype(frames.dtype, np.floating):
        raise ValueError(f"frames: expected uint8, or float in 0..1, got {frames.dtype}")
    if frames.size and not (frames.min() >= 0 and frames.max() <= 1):
        raise ValueError(f"frames: expected floats in 0..1, got {frames.min():g}..{frames.max():g}")
    return frames.astype(np.float64)


def as_pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two clips of one shape (T, H, W, 3) as float64 in 0..1; ValueError where they do not fit."""
    if first.shape != second.shape or first.ndim != 4 or first.shape[-1] != 3:
        raise ValueError(f"frames: expected two clips of one shape (T, H, W, 3), got {first.shape} and {second.shape}")
    return unit_range(first), unit_range(second)


# Maps


def squared_error_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared error of every pixel, mean of the channels: (T, H, W), 0..1."""
    first, second = as_pair(first, second)
    return ((first - second) ** 2).mean(axis=-1)


def absolute_error_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Absolute error of every pixel, mean of the channels: (T, H, W), 0..1."""
    first, second = as_pair(first, second)
    return np.abs(first - second).mean(axis=-1)


def ssim_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity around every pixel, mean of the channels: (T, H, W), -1..1, 1 = alike.

    Wang, Bovik, Sheikh, Simoncelli 2004, eq. 13: Gaussian window of 11 pixels, sigma 1.5, K1 0.01, K2 0.03, population
    variances. Every channel by itself; frames are mirrored at their edges (the edge pixel not repeated), so that the
    map is as large as they are: what torchmetrics computes by default.
    """
    first, second = as_pair(first, second)
    return np.stack([_ssim_of_frame(a, b) for a, b in zip(first, second, strict=True)])


def _ssim_of_frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    mean_a, mean_b = _blur(a), _blur(b)
    # Rounding can make the variance of a flat area slightly negative.
    variance = np.maximum(_blur(a * a) - mean_a**2, 0) + np.maximum(_blur(b * b) - mean_b**2, 0)
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * (2 * covariance + c2) / (variance + c2)).mean(axis=-1)


def _blur(image: np.ndarray) -> np.ndarray:
    kernel = cv2.getGaussianKernel(SSIM_WINDOW, SSIM_SIGMA, cv2.CV_64F)
    return cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)


# Means


def frame_means(values: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Mean of a map (T, H, W) over each frame, or over the frame's part of the mask: (T,), NaN where that is empty."""
    if masks is None:
        return values.mean(axis=(1, 2))
    counts = checked_masks(masks, values.shape).sum(axis=(1, 2))
    sums = np.where(masks, values, 0).sum(axis=(1, 2))
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def pooled_mean(values: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Mean of a map (T, H, W) over all pixels of the clip, or of the mask; ValueError if that is empty."""
    if masks is None:
        return float(values.mean())
    if not checked_masks(masks, values.shape).any():
        raise ValueError("masks: expected at least one pixel to count, got none")
    return float(values[masks].mean())


def checked_masks(masks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The masks, if they are bool of this shape; else ValueError."""
    if masks.dtype != np.bool_ or masks.shape != shape[:3]:
        raise ValueError(f"masks: expected bool of shape {shape[:3]}, got {masks.dtype} of shape {masks.shape}")
    return masks


def psnr_of(mean_squared_error: np.ndarray | float) -> np.ndarray:
    """PSNR in dB of errors of images in 0..1; no error at all is infinity, NaN stays NaN."""
    with np.errstate(divide="ignore"):
        return -10 * np.log10(np.asarray(mean_squared_error, np.float64))


# Numbers per frame


def mse(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Mean squared error of each frame: (T,), 0..1, lower = more alike."""
    return frame_means(squared_error_map(first, second), masks)


def mae(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """Mean absolute error of each frame: (T,), 0..1, lower = more alike."""
    return frame_means(absolute_error_map(first, second), masks)


def psnr(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """PSNR of each frame in dB: (T,), higher = more alike; identical: infinity."""
    return psnr_of(mse(first, second, masks))


# Numbers per clip


def clip_psnr(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> float:
    """PSNR in dB of the error pooled over the clip's pixels: frames count by what the mask holds of them."""
    return float(psnr_of(pooled_mean(squared_error_map(first, second), masks)))


def clip_ssim(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> float:
    """SSIM pooled over the clip's pixels: -1..1."""
    return pooled_mean(ssim_map(first, second), masks)
