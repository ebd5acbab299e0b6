"""Which frames and latents each window covers, and how overlaps blend. Pure arithmetic.

Windows start on multiples of 4 frames, the VAE's grid, so that window latents fall on the video's latents: latent 0
holds frame 0, latent j holds frames 4j−3..4j.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from videopainter.models.backbones.grid import FINEST, LatentGrid


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) of the padded video, latents [latent_start, latent_stop)."""

    index: int
    start: int
    stop: int
    latent_start: int
    latent_stop: int

    @classmethod
    def at(cls, index: int, start: int, num_frames: int, grid: LatentGrid) -> Window:
        latent_start = start // grid.temporal
        return cls(index, start, start + num_frames, latent_start, latent_start + grid.latent_frames(num_frames))

    @property
    def num_frames(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class WindowPlan:
    """Windows that cover a video of `num_frames` frames, padded to `padded_frames` = 4k+1."""

    num_frames: int
    padded_frames: int
    windows: tuple[Window, ...]

    @property
    def num_latents(self) -> int:
        return self.windows[-1].latent_stop

    def head(self, count: int) -> WindowPlan:
        """The plan of the first `count` windows alone."""
        windows = self.windows[:count]
        stop = windows[-1].stop
        return WindowPlan(min(self.num_frames, stop), stop, windows)

    def follows(self, window: Window) -> Window | None:
        """The window after this one, if any."""
        return self.windows[window.index + 1] if window.index + 1 < len(self.windows) else None


def plan_windows(
    total_frames: int, num_frames: int = 49, overlap_frames: int = 0, grid: LatentGrid = FINEST
) -> WindowPlan:
    """Cover `total_frames` with windows of `num_frames` that share `overlap_frames` with their neighbours.

    The video is padded to 4k+1 frames (the padding is cut off again at the end). The last window is moved back so
    that it ends with the video. A video shorter than a window gets one window of its own length.

    Args:
        grid: Of the backbone.
        overlap_frames: 0 or 4k+1. 0, the release's setting, means one shared frame, as its latent arithmetic assumed.

    Raises:
        ValueError: if there is no frame, or if windows of a single frame are asked to cover more than one.
    """
    if total_frames < 1:
        raise ValueError(f"expected a video of at least one frame, got {total_frames}")
    assert grid.is_frame_count(num_frames) and (overlap_frames == 0 or grid.is_frame_count(overlap_frames))
    padded = grid.padded_frames(total_frames)
    if padded <= num_frames:
        return WindowPlan(total_frames, padded, (Window.at(0, 0, padded, grid),))
    if num_frames == 1:
        raise ValueError(f"frames of a window: expected 5 or more for a video of {total_frames} frames, got 1")
    stride = num_frames - max(overlap_frames, 1)
    last = padded - num_frames
    starts = [*range(0, last, stride), last]
    windows = tuple(Window.at(index, start, num_frames, grid) for index, start in enumerate(starts))
    return WindowPlan(total_frames, padded, windows)


def blend_weights(plan: WindowPlan, mode: str) -> list[np.ndarray]:
    """Weights of every window's latents; at each latent of the video they add up to 1.

    ``average``: all windows alike, as the public release. ``linear``: a ramp over the overlap that starts at 0,
    because the first latent of a window holds one frame where its neighbours' latents at that place hold four.

    Returns:
        One float64 array (latents of the window,) per window.
    """
    weights = [_ramps(plan, window) if mode == "linear" else np.ones(_length(window)) for window in plan.windows]
    total = np.zeros(plan.num_latents)
    for window, weight in zip(plan.windows, weights):
        total[window.latent_start : window.latent_stop] += weight
    return [weight / total[window.latent_start : window.latent_stop] for window, weight in zip(plan.windows, weights)]


def _length(window: Window) -> int:
    return window.latent_stop - window.latent_start


def _ramps(plan: WindowPlan, window: Window) -> np.ndarray:
    weight = np.ones(_length(window))
    if window.index > 0:
        shared = plan.windows[window.index - 1].latent_stop - window.latent_start
        weight[:shared] *= np.arange(shared) / shared
    following = plan.follows(window)
    if following is not None:
        shared = window.latent_stop - following.latent_start
        weight[_length(window) - shared :] *= 1 - np.arange(shared) / shared
    return weight
