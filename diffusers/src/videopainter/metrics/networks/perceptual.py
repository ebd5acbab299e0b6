"""HaarPSI: how alike two images look, without learned weights.

Reisenhofer, Bosse, Kutyniok, Wiegand, "A Haar wavelet-based perceptual similarity index for image quality assessment",
Signal Processing: Image Communication 61, 2018. Fine Haar wavelets say how alike edges are, coarse ones how much a
place matters; colour is compared too. On the usual databases of opinion scores it agrees with people better than SSIM,
it needs no download, and, being a weighted mean over places, it can be restricted to a hole. What it does not see is
overall brightness: read it next to PSNR.
"""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.metrics.pixels import as_pair, checked_masks

_C, _ALPHA = 30.0, 4.2  # of the paper, for values in 0..255
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def haarpsi(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """HaarPSI of each frame: (T,), 0..1, higher = more alike, identical: 1.

    Frames (T, H, W, 3), uint8 or float in 0..1; masks bool (T, H, W), True = count, NaN for frames without such pixels.
    As in the paper frames are halved first; a pixel of the half frame counts if any of its four does.
    """
    weighted, weights = _sums(first, second, masks)
    return _index(weighted, weights)


def clip_haarpsi(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None = None) -> float:
    """HaarPSI pooled over the clip: the weighted mean runs over all places of all frames. ValueError: empty masks."""
    weighted, weights = _sums(first, second, masks)
    if np.isnan(weights).all():
        raise ValueError("masks: expected at least one pixel to count, got none")
    return float(_index(np.nansum(weighted), np.nansum(weights)))


def _sums(first: np.ndarray, second: np.ndarray, masks: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Per frame the sum of weighted similarities and of weights, NaN for frames without a place that counts."""
    first, second = as_pair(first, second)
    if masks is not None:
        checked_masks(masks, first.shape)
    sums = np.full((2, len(first)), np.nan)
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        places = np.ones(1, bool) if masks is None else _halved_mask(masks[t])
        if not places.any():
            continue
        similarity, weight = _maps(_halved(a), _halved(b))
        if masks is not None:
            similarity, weight = similarity[places], weight[places]
        sums[:, t] = (_logistic(similarity) * weight).sum(), weight.sum()
    return sums[0], sums[1]


def _index(weighted: np.ndarray | float, weights: np.ndarray | float) -> np.ndarray:
    mean = np.asarray(weighted) / np.asarray(weights)
    return (np.log(mean / (1 - mean)) / _ALPHA) ** 2


def _logistic(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-_ALPHA * values))


def _maps(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and weights (h, w, 3) of two YIQ images (h, w, 3): horizontal edges, vertical edges, colour."""
    similarity, weight = np.empty_like(a), np.empty_like(a)
    for axis in range(2):
        details = [(_haar(a[..., 0], scale, axis), _haar(b[..., 0], scale, axis)) for scale in (1, 2, 3)]
        similarity[..., axis] = (_alike(*details[0]) + _alike(*details[1])) / 2
        weight[..., axis] = np.maximum(*details[2])
    colours = [_alike(np.abs(_mean4(a[..., k])), np.abs(_mean4(b[..., k]))) for k in (1, 2)]
    similarity[..., 2] = (colours[0] + colours[1]) / 2
    weight[..., 2] = (weight[..., 0] + weight[..., 1]) / 2
    # Where both images are flat nothing has weight; this keeps a mean of flat places from being 0 / 0.
    return similarity, weight + 1e-9


def _alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (2 * a * b + _C) / (a**2 + b**2 + _C)


def _haar(image: np.ndarray, scale: int, axis: int) -> np.ndarray:
    """Size of the response to a Haar wavelet of 2^scale pixels whose halves lie along `axis`."""
    size = 2**scale
    kernel = np.full((size, size), 2.0**-scale)
    kernel[: size // 2] *= -1
    return np.abs(_convolve(image, kernel if axis == 0 else kernel.T))


def _mean4(image: np.ndarray) -> np.ndarray:
    return _convolve(image, np.full((2, 2), 0.25))


def _halved(image: np.ndarray) -> np.ndarray:
    """RGB in 0..1 (H, W, 3) to YIQ in the scale of 0..255, means of 2x2 pixels: (ceil(H/2), ceil(W/2), 3)."""
    yiq = 255 * image @ _YIQ.T
    return np.stack([_convolve(yiq[..., k], np.full((2, 2), 0.25))[::2, ::2] for k in range(3)], axis=-1)


def _halved_mask(mask: np.ndarray) -> np.ndarray:
    return _convolve(mask.astype(np.float64), np.ones((2, 2)))[::2, ::2] > 0.5


def _convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolution of the image's own size, zeros outside, even kernels centred half a pixel to the left of centre."""
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    anchor = ((kernel.shape[1] - 1) // 2, (kernel.shape[0] - 1) // 2)
    return cv2.filter2D(image, cv2.CV_64F, flipped, anchor=anchor, borderType=cv2.BORDER_CONSTANT)
