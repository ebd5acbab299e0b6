"""Deforming the masks of a training clip, so that the branch learns holes of any shape.

Everything here is a pure function of the masks and a generator: the same seed gives the same masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.training.mask_shapes import draw_shape, draw_strokes, first_box, jittered
from videopainter.errors import InputError
from videopainter.flags import check_ranges, flag, switch

# Kernels of the brush, in pixels of a frame of 480 rows.
_KERNEL_MIN, _KERNEL_MAX, _KERNEL_ROWS = 8, 32, 480
_BLUR_PROB = 0.1
_BRUSHES = ("close", "open", "dilate", "open_close")


@dataclass(frozen=True, kw_only=True)
class MaskOptions:
    """How the masks of a training clip are made from those of its object."""

    first_frame_gt: bool = switch(False, "Show the first frame whole: its mask is emptied (not that of single frames).")
    mask_background: bool = switch(False, "Paint everything but the object.")
    mask_transform_prob: float = flag(0.3, "Probability that a clip's masks are deformed.", least=0, most=1)
    p_brush: float = flag(0.4, "Share of deformed clips whose masks are closed, opened or dilated.", least=0, most=1)
    p_rect: float = flag(
        0.1, "Share of deformed clips that get a rectangle around the object's first place.", least=0, most=1
    )
    p_ellipse: float = flag(0.1, "Share that get an ellipse there.", least=0, most=1)
    p_circle: float = flag(0.1, "Share that get a circle there.", least=0, most=1)
    p_random_brush: float = flag(0.3, "Share that get free brush strokes.", least=0, most=1)
    margin_ratio: float = flag(
        0.1, "How far a shape's edges may move, as a share of the object's size.", least=0, below=0.5
    )
    shape_scale_min: float = flag(1.0, "Smallest factor by which a shape is scaled.", above=0, most=100)
    shape_scale_max: float = flag(1.5, "Largest factor by which a shape is scaled.", above=0, most=100)

    def __post_init__(self) -> None:
        kinds = self.kind_weights
        check_ranges(self)
        if self.mask_transform_prob and not sum(kinds.values()):
            raise InputError(
                f"mask_transform_prob: expected a kind of deformed masks above 0 ({', '.join(kinds)}), got none"
            )
        if self.shape_scale_min > self.shape_scale_max:
            raise InputError(
                f"shape_scale_min: expected at most shape_scale_max, {self.shape_scale_max}, got {self.shape_scale_min}"
            )

    @property
    def kind_weights(self) -> dict[str, float]:
        return {
            "p_brush": self.p_brush,
            "p_rect": self.p_rect,
            "p_ellipse": self.p_ellipse,
            "p_circle": self.p_circle,
            "p_random_brush": self.p_random_brush,
        }


def training_masks(masks: np.ndarray, rng: np.random.Generator, options: MaskOptions) -> np.ndarray:
    """The masks to train with, bool (F, H, W), from those of the object: inverted, deformed, first one emptied."""
    if options.mask_background:
        masks = ~masks
    masks = deform_masks(masks, rng, options)
    if options.first_frame_gt and len(masks) > 1:
        masks = masks.copy()
        masks[0] = False
    return masks


def deform_masks(masks: np.ndarray, rng: np.random.Generator, options: MaskOptions) -> np.ndarray:
    """With probability `mask_transform_prob`, masks deformed in one way for the whole clip.

    `brush` changes the outline of every mask; the other kinds replace all masks by one shape that stays in its place.
    Masks that would leave no hole at all come back unchanged.

    Args:
        masks: bool (F, H, W), True = hole.

    Returns:
        bool (F, H, W).
    """
    if rng.random() >= options.mask_transform_prob or not masks.any():
        return masks
    weights = options.kind_weights
    total = sum(weights.values())
    kind = str(rng.choice(list(weights), p=[weight / total for weight in weights.values()])).removeprefix("p_")
    if kind == "brush":
        deformed = _brushed(masks, rng)
    else:
        deformed = np.repeat(_still(kind, masks, rng, options)[None], len(masks), axis=0)
    return deformed if deformed.any() else masks


def _still(kind: str, masks: np.ndarray, rng: np.random.Generator, options: MaskOptions) -> np.ndarray:
    """One shape for the whole clip, bool (H, W)."""
    height, width = masks.shape[1:]
    if kind == "random_brush":
        return draw_strokes(height, width, rng)
    scale = rng.uniform(options.shape_scale_min, options.shape_scale_max)
    return draw_shape(kind, jittered(first_box(masks), rng, options.margin_ratio), scale, height, width)


def _brushed(masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every mask closed, opened, dilated, or opened and then closed, by one square kernel; rarely blurred."""
    unit = masks.shape[1] / _KERNEL_ROWS
    size = max(2, round(rng.uniform(_KERNEL_MIN, _KERNEL_MAX) * unit))
    kernel = np.ones((size, size), np.uint8)
    brush = _BRUSHES[rng.integers(len(_BRUSHES))]
    blurred = rng.random() < _BLUR_PROB
    out = np.empty_like(masks)
    for k, mask in enumerate(masks):
        pixels = _morphed(mask.astype(np.uint8), brush, kernel)
        if blurred:
            pixels = cv2.GaussianBlur(pixels * np.uint8(255), (size | 1, size | 1), 0) > 127
        out[k] = pixels
    return out


def _morphed(mask: np.ndarray, brush: str, kernel: np.ndarray) -> np.ndarray:
    if brush == "dilate":
        return cv2.dilate(mask, kernel)
    if brush in ("open", "open_close"):
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    if brush in ("close", "open_close"):
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    return mask
