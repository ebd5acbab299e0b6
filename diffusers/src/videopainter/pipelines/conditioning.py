"""From pixels and masks to what the models see. Training and inference call the same functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

from videopainter.pipelines.settings import TEMPORAL_COMPRESSION
from videopainter.pipelines.windows import latent_count

BASE_GRID = (45, 30)  # tokens across and down of 720×480 pixels


def to_video_tensor(frames: np.ndarray) -> torch.Tensor:
    """uint8 frames (T, H, W, 3) to float32 (1, 3, T, H, W) in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1.0


def to_uint8_frames(video_BCTHW: torch.Tensor) -> np.ndarray:
    """(1, 3, T, H, W) in [−1, 1] to uint8 frames (T, H, W, 3), rounded to the nearest."""
    pixels = (video_BCTHW[0].float().clamp(-1, 1) + 1.0) * 127.5
    return pixels.round().to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()


def fill_hole(video_BCTHW: torch.Tensor, mask_BCTHW: torch.Tensor, hole_fill: float = 0.0) -> torch.Tensor:
    """The masked video: pixels kept where the mask is < 0.5, `hole_fill` in the hole (0: mid-grey)."""
    return torch.where(mask_BCTHW < 0.5, video_BCTHW, hole_fill)


def latent_mask(mask_BCTHW: torch.Tensor, latent_height: int, latent_width: int) -> torch.Tensor:
    """Nearest-neighbour resize of a mask (B, 1, F, H, W) to latents: (B, T, 1, h, w), T = (F−1)//4+1."""
    size = (latent_count(mask_BCTHW.shape[2]), latent_height, latent_width)
    return F.interpolate(mask_BCTHW.float(), size=size, mode="nearest").permute(0, 2, 1, 3, 4)


def touched_latents(mask_BCTHW: torch.Tensor, latent_height: int, latent_width: int, margin: int = 1) -> torch.Tensor:
    """Latents that have seen the hole: any pixel of theirs lies in it, or of a neighbour's within `margin`.

    What the nearest-neighbour mask calls background may still show the object: latent j holds frames 4j−3..4j, of which
    that mask asks one, and the VAE looks beyond its 8×8 pixels.

    Args:
        mask_BCTHW: (B, 1, F, H, W), 1 = hole.

    Returns:
        (B, T, 1, h, w), 1 = touched.
    """
    mask = mask_BCTHW.float()
    first, rest = mask[:, :, :1], mask[:, :, 1:]
    if rest.shape[2]:
        rest = F.max_pool3d(rest, (TEMPORAL_COMPRESSION, 1, 1))
    frames = torch.cat([first, rest], dim=2).transpose(1, 2)  # (B, T, 1, H, W)
    small = F.adaptive_max_pool2d(frames.flatten(0, 1), (latent_height, latent_width))
    small = F.max_pool2d(small, 2 * margin + 1, stride=1, padding=margin)
    return small.unflatten(0, frames.shape[:2])


@torch.no_grad()
def encode_video(vae: Any, video_BCTHW: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Scaled latents (B, T, 16, h, w) of pixels in [−1, 1]: the mode of the VAE's posterior, without gradients.

    Args:
        device: Where the VAE runs; under offloading that is not where its weights lie.
    """
    video = video_BCTHW.to(device=device or vae.device, dtype=vae.dtype)
    posterior = vae.encode(video).latent_dist
    return posterior.mode().permute(0, 2, 1, 3, 4) * vae.config.scaling_factor


def as_image_condition(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents as the backbone expects its image condition.

    CogVideoX 1.5 was trained with the inverse of the VAE's scale there (`invert_scale_latents`).
    """
    if getattr(vae.config, "invert_scale_latents", False):
        return latents / vae.config.scaling_factor**2
    return latents


def rotary_embedding(
    config: Any, latent_height: int, latent_width: int, latent_frames: int, device: torch.device | str | None = None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Rotary tables cos, sin (L, attention_head_dim) for latents of this size; None for backbones without them.

    CogVideoX 1.0 stretches the token grid of 480×720 pixels over the frame, whatever the backbone's own size, as the
    public release does (for all published 1.0 weights that is the backbone's size); 1.5 counts on. Upstream 0.42 stops
    at `stop·(n−1)/n`, which is the release's `stop − (stop−start)/n` only for crops that start at 0.
    """
    if not config.use_rotary_positional_embeddings:
        return None
    p, p_t = config.patch_size, config.patch_size_t
    rows, columns = latent_height // p, latent_width // p
    frames = -(-latent_frames // (p_t or 1))
    (top, left), (bottom, right) = (0, 0), (rows, columns)
    if p_t is None:
        (top, left), (bottom, right) = get_resize_crop_region_for_grid((rows, columns), *BASE_GRID)
    head = config.attention_head_dim
    parts = [
        (head // 4, _positions(0, frames, frames, device)[:, None, None]),
        (head // 8 * 3, _positions(top, bottom, rows, device)[None, :, None]),
        (head // 8 * 3, _positions(left, right, columns, device)[None, None, :]),
    ]
    tables = [get_1d_rotary_pos_embed(width, at.flatten(), use_real=True) for width, at in parts]
    cos, sin = (
        torch.cat(
            [part[i].view(*at.shape, -1).expand(frames, rows, columns, -1) for part, (_, at) in zip(tables, parts)],
            dim=-1,
        ).flatten(0, 2)
        for i in (0, 1)
    )
    return cos, sin


def _positions(start: int, stop: int, count: int, device: torch.device | str | None) -> torch.Tensor:
    """`np.linspace(start, stop, count, endpoint=False, dtype=np.float32)`, made on the device."""
    steps = torch.arange(count, dtype=torch.float64, device=device)
    return (steps * ((stop - start) / count) + start).float()


@dataclass
class WindowConditions:
    """What one window is denoised with; latents are (1, T, 16, h, w)."""

    video_latents: torch.Tensor
    masked_latents: torch.Tensor
    mask: torch.Tensor  # (1, T, 1, h, w), 1 = hole; nearest neighbour, what branch and backbone were trained with
    touched: torch.Tensor  # (1, T, 1, h, w), 1 = latents that have seen the hole
    image_latents: torch.Tensor | None = None  # (1, T, 16, h, w): first latent, zeros behind; None: T2V backbones

    @property
    def branch_cond(self) -> torch.Tensor:
        return torch.cat([self.masked_latents, self.mask], dim=2)

    @property
    def empty(self) -> bool:
        """Whether nothing lies in the hole."""
        return not bool((self.touched > 0).any())


def make_conditions(
    vae: Any,
    frames: np.ndarray,
    masks: np.ndarray,
    *,
    hole_fill: float = 0.0,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> WindowConditions:
    """Conditions of one window, without an image condition.

    Args:
        frames: uint8 (F, H, W, 3) at the working size, F = 4k+1.
        masks: bool (F, H, W), True = hole.
        dtype: Of the latents; None: the VAE's.
    """
    video = to_video_tensor(frames)
    mask = torch.from_numpy(np.ascontiguousarray(masks))[None, None].float()
    dtype = dtype or vae.dtype
    video_latents = encode_video(vae, video, device).to(dtype)
    # Without a hole both encodings are the same.
    masked = video_latents
    if masks.any():
        masked = encode_video(vae, fill_hole(video, mask, hole_fill), device).to(dtype)
    small_mask = latent_mask(mask, *video_latents.shape[-2:]).to(video_latents)
    touched = touched_latents(mask, *video_latents.shape[-2:]).to(video_latents)
    return WindowConditions(video_latents, masked, small_mask, touched)


def with_image(conditions: WindowConditions, first_latent: torch.Tensor | None) -> WindowConditions:
    """Add the image condition: `first_latent` (1, 1, 16, h, w) in front, zeros behind; None: zeros alone."""
    image_latents = torch.zeros_like(conditions.video_latents)
    if first_latent is not None:
        image_latents[:, :1] = first_latent.to(image_latents)
    return replace(conditions, image_latents=image_latents)
