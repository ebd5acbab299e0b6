"""The image encoder (CLIP) that Wan 2.1's image-to-video backbones see the first frame through."""

from __future__ import annotations

from typing import Any

import torch


class ImageEncoder:
    """Frames to embeddings, as `WanImageToVideoPipeline.encode_image`.

    Args:
        processor: `CLIPImageProcessor`: resizes and normalises.
        model: `CLIPVisionModel`.
        device: Where it runs; under offloading that is not where its weights lie. None: there.
    """

    def __init__(self, processor: Any, model: Any, device: torch.device | None = None) -> None:
        self.processor, self.model = processor, model
        self.device: torch.device = model.device if device is None else device

    @torch.no_grad()
    def __call__(self, frames_BCTHW: torch.Tensor) -> torch.Tensor:
        """(B, 3, 1, H, W) in [−1, 1] to (B, N, E): what the last layer but one says."""
        levels = ((frames_BCTHW[:, :, 0].float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)
        pixels = self.processor(images=list(levels.permute(0, 2, 3, 1).cpu().numpy()), return_tensors="pt").pixel_values
        return self.model(pixels.to(self.device, self.model.dtype), output_hidden_states=True).hidden_states[-2]
