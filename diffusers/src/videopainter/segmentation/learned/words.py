"""Finding what words describe: by SAM 3's detector, or by Grounding DINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch

from videopainter.segmentation.learned.sam import NORMS, prepare_pixels, weights_digest
from videopainter.segmentation.segmenter import TextBox

_MOST = 20  # boxes
# How sure a detector has to be: upstream's own defaults.
_SAM3_SURE, _DINO_SURE = 0.5, 0.25
_SAM3_TOKENS = 32
# Grounding DINO looks at pictures of this shorter side, unless the longer one would pass the second number.
_SHORT, _LONG = 800, 1333


class Sam3Finder:
    """A `Sam3Model` and its tokenizer: every thing in a frame that is what the words say."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.identity = f"sam3 words {weights_digest(model)}"

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, words: str) -> Sequence[TextBox]:
        model = self.model
        told = self.tokenizer(
            [words], return_tensors="pt", padding="max_length", max_length=_SAM3_TOKENS, truncation=True
        )
        image = prepare_pixels(pixels, int(model.config.image_size), "sam3").to(model.device, model.dtype)
        out = model(
            pixel_values=image,
            input_ids=told.input_ids.to(model.device),
            attention_mask=told.attention_mask.to(model.device),
        )
        scores = (out.pred_logits.sigmoid() * out.presence_logits.sigmoid())[0].float()
        return _boxes_over(scores, out.pred_boxes[0].float(), _SAM3_SURE, pixels.shape)


class GroundingFinder:
    """A `GroundingDinoForObjectDetection` (or MM Grounding DINO) and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.identity = f"grounding-dino words {weights_digest(model)}"

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray, words: str) -> Sequence[TextBox]:
        model = self.model
        told = self.tokenizer([phrase(words)], return_tensors="pt", return_token_type_ids=True)
        image = fitted_pixels(pixels).to(model.device, model.dtype)
        out = model(
            pixel_values=image,
            pixel_mask=torch.ones(image.shape[0], *image.shape[2:], dtype=torch.int64, device=model.device),
            input_ids=told.input_ids.to(model.device),
            attention_mask=told.attention_mask.to(model.device),
            token_type_ids=told.token_type_ids.to(model.device),
        )
        scores = out.logits[0].float().sigmoid().amax(-1)
        x, y, width, height = out.pred_boxes[0].float().unbind(-1)
        corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        return _boxes_over(scores, corners, _DINO_SURE, pixels.shape)


def phrase(words: str) -> str:
    """Words as Grounding DINO was trained on: small letters, a full stop behind every thing."""
    parts = [part.strip() for part in words.lower().split(".")]
    return ". ".join(part for part in parts if part) + "."


def fitted_pixels(pixels: np.ndarray) -> torch.Tensor:
    """A frame uint8 RGB (H, W, 3) as Grounding DINO takes it: float32 (1, 3, h, w), its shape kept."""
    height, width = pixels.shape[:2]
    scale = min(_SHORT / min(height, width), _LONG / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in NORMS["sam2"])
    return (torch.from_numpy(resized).permute(2, 0, 1)[None].float() / 255 - mean) / std


def _boxes_over(scores: torch.Tensor, corners: torch.Tensor, least: float, shape: tuple[int, ...]) -> list[TextBox]:
    """Boxes in pixels of a frame of `shape` (H, W, 3) with a score over `least`, the likeliest first, none twice."""
    height, width = shape[:2]
    sides = np.array([width, height, width, height], np.float64)
    boxes: list[np.ndarray] = []
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        if float(scores[index]) <= least or len(boxes) == _MOST:
            break
        box = np.clip(corners[index].cpu().numpy().astype(np.float64), 0, 1) * sides
        if box[2] - box[0] >= 1 and box[3] - box[1] >= 1 and all(_overlap_of(box, other) < 0.7 for other in boxes):
            boxes.append(box)
    return [tuple(float(value) for value in box) for box in boxes]  # type: ignore[misc]


def _overlap_of(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - shared)
