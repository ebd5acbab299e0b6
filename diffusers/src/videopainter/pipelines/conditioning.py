"""From pixels and masks to what the models see. Training and inference call the same functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from videopainter.models.backbones.denoiser import Conditions
from videopainter.models.backbones.protocol import Codec


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


def latent_mask(mask_BCTHW: torch.Tensor, like_BTCHW: torch.Tensor) -> torch.Tensor:
    """Nearest-neighbour resize of a mask (B, 1, F, H, W) to the size of latents: (B, T, 1, h, w)."""
    size = (like_BTCHW.shape[1], *like_BTCHW.shape[-2:])
    return F.interpolate(mask_BCTHW.float(), size=size, mode="nearest").permute(0, 2, 1, 3, 4)


def touched_latents(mask_BCTHW: torch.Tensor, like_BTCHW: torch.Tensor, margin: int = 1) -> torch.Tensor:
    """Latents that have seen the hole: any pixel of theirs lies in it, or of a neighbour's within `margin`.

    What the nearest-neighbour mask calls background may still show the object: a latent holds several frames (latent 0
    one), of which that mask asks one, and the VAE looks beyond a latent's own pixels.

    Args:
        mask_BCTHW: (B, 1, F, H, W), 1 = hole.
        like_BTCHW: Latents of these frames.

    Returns:
        (B, T, 1, h, w), 1 = touched.
    """
    mask = mask_BCTHW.float()
    first, rest = mask[:, :, :1], mask[:, :, 1:]
    if rest.shape[2]:
        rest = F.max_pool3d(rest, (rest.shape[2] // (like_BTCHW.shape[1] - 1), 1, 1))
    frames = torch.cat([first, rest], dim=2).transpose(1, 2)  # (B, T, 1, H, W)
    small = F.adaptive_max_pool2d(frames.flatten(0, 1), like_BTCHW.shape[-2:])
    small = F.max_pool2d(small, 2 * margin + 1, stride=1, padding=margin)
    return small.unflatten(0, frames.shape[:2])


class EncodedClips(NamedTuple):
    """Clips after the VAE, (B, T, C, h, w), as the codec leaves them."""

    latents: torch.Tensor
    masked_latents: torch.Tensor  # of the clips whose hole is filled; where no clip has one, `latents` itself
    mask: torch.Tensor  # (B, T, 1, h, w) float32, 1 = hole, where `mask` was


def encode_clips(
    codec: Codec, video_BCTHW: torch.Tensor, mask_BCTHW: torch.Tensor, hole_fill: float = 0.0
) -> EncodedClips:
    """Clips in [−1, 1] and masks (1 = hole) to what the models see of them; in training and inference."""
    latents = codec.encode(video_BCTHW)
    # One hole encodes them all once more, so that no clip's rounding depends on the others of its batch.
    filled = mask_BCTHW.any()
    masked = codec.encode(fill_hole(video_BCTHW, mask_BCTHW, hole_fill)) if filled else latents
    return EncodedClips(latents, masked, latent_mask(mask_BCTHW, latents))


@dataclass(frozen=True, kw_only=True)
class WindowConditions(Conditions):
    """What one window is denoised with; latents are (1, T, C, h, w)."""

    video_latents: torch.Tensor
    touched: torch.Tensor  # (1, T, 1, h, w), 1 = latents that have seen the hole

    @property
    def empty(self) -> bool:
        """Whether nothing lies in the hole."""
        return not bool((self.touched > 0).any())


def make_conditions(
    codec: Codec,
    frames: np.ndarray,
    masks: np.ndarray,
    *,
    hole_fill: float = 0.0,
    dtype: torch.dtype | None = None,
) -> WindowConditions:
    """Conditions of one window, without an image condition.

    Args:
        frames: uint8 (F, H, W, 3) at the working size, F = 4k+1.
        masks: bool (F, H, W), True = hole.
        dtype: Of the latents; None: the VAE's.
    """
    mask = torch.from_numpy(np.ascontiguousarray(masks))[None, None].float()
    clip = encode_clips(codec, to_video_tensor(frames), mask, hole_fill)
    latents = clip.latents.to(dtype or codec.dtype)
    return WindowConditions(
        video_latents=latents,
        masked_latents=clip.masked_latents.to(latents),
        mask=clip.mask.to(latents),
        touched=touched_latents(mask, latents).to(latents),
    )
