"""What a pass over one video feeds: each group of metrics takes chunks and keeps no more than it must.

A group is made for one video and the keys that are wanted of it. `add` returns the chunk's numbers of frames or pairs;
`finish` puts what needs the whole video into the scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch

from videopainter.metrics.fidelity import FrameBatch, frame_fidelity, hole_fidelity
from videopainter.metrics.motion import Motion
from videopainter.metrics.networks.perceptual import haarpsi
from videopainter.metrics.regions import IdentityConsistency
from videopainter.metrics.scores import VideoScores

Values = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Video:
    """What is known of a video before its frames are read."""

    frames: int
    height: int
    width: int
    prompt: str = ""
    region_prompt: str = ""
    borders: tuple[int, ...] = ()


@dataclass(kw_only=True)
class Chunk:
    """Consecutive frames of a video: uint8 (N, H, W, 3) each, masks bool (N, H, W), in main memory."""

    originals: np.ndarray
    results: np.ndarray
    masks: np.ndarray
    truth: np.ndarray | None
    device: torch.device
    _moved: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        # What torch takes: neither read-only nor with negative strides. Others are not copied.
        for name in ("originals", "results", "masks", "truth"):
            if getattr(self, name) is not None:
                setattr(self, name, np.require(getattr(self, name), requirements=["C", "W"]))

    def moved(self, name: str) -> torch.Tensor:
        """A part of the chunk on the device, as it is; moved there once."""
        if name not in self._moved:
            self._moved[name] = torch.from_numpy(getattr(self, name)).to(self.device)
        return self._moved[name]

    def pixels(self, name: str) -> FrameBatch:
        """Frames where fidelity is fastest: arrays for a CPU, tensors for anything else."""
        return getattr(self, name) if self.device.type == "cpu" else self.moved(name)

    def images(self, name: str) -> torch.Tensor:
        """Frames as uint8 (N, 3, H, W) on the device."""
        return self.moved(name).permute(0, 3, 1, 2)

    @cached_property
    def holes(self) -> torch.Tensor:
        """Masks as bool (N, 1, H, W) on the device."""
        return self.moved("masks")[:, None]

    @cached_property
    def with_hole(self) -> np.ndarray:
        """Which frames have a hole: bool (N,)."""
        return np.asarray(self.masks.any(axis=(1, 2)))

    def hole_images(self) -> torch.Tensor:
        """The results' holes on black, of the frames that have one: uint8 (M, 3, H, W)."""
        seen = torch.from_numpy(self.with_hole).to(self.device)
        return self.images("results")[seen] * self.holes[seen]


class Group(Protocol):
    """Metrics that are computed together."""

    def add(self, chunk: Chunk) -> Values: ...
    def finish(self, scores: VideoScores) -> None: ...


class _OfFrames:
    """A group that remembers nothing."""

    def finish(self, scores: VideoScores) -> None:
        pass


class PixelFidelity(_OfFrames):
    """PSNR, SSIM, MSE, MAE: whole and masked, or of the hole."""

    def __init__(self, protocol: str, keys: set[str]) -> None:
        self.protocol = protocol
        self.hole = any(key.startswith("hole_") for key in keys)
        self.frames = any(not key.startswith("hole_") for key in keys)

    def add(self, chunk: Chunk) -> Values:
        results, values = chunk.pixels("results"), {}
        if self.frames:
            values |= frame_fidelity(chunk.pixels("originals"), results, chunk.masks, self.protocol)
        if self.hole:
            values |= hole_fidelity(chunk.pixels("truth"), results, chunk.masks)
        return values


class PerceptualDistance(_OfFrames):
    """LPIPS: whole, masked under the protocol, and of the hole.

    That of the hole compares the truth with the truth whose hole shows the result: all else is equal in both.
    """

    def __init__(self, model: Any, protocol: str, keys: set[str]) -> None:
        self.model, self.protocol, self.keys = model, protocol, keys

    def add(self, chunk: Chunk) -> Values:
        results, holes, values = chunk.images("results").float() / 255, chunk.holes, {}
        if self.keys & {"lpips", "masked_lpips"}:
            originals = chunk.images("originals").float() / 255
            if "lpips" in self.keys or self.protocol == "whole":
                values["lpips"] = self._distance(originals, results)
            if self.protocol == "whole":
                values["masked_lpips"] = values["lpips"].copy()
            elif "masked_lpips" in self.keys:
                kept = originals * ~holes if self.protocol == "background" else originals
                values["masked_lpips"] = self._distance(kept, results * ~holes)
                values["masked_lpips"][chunk.masks.all(axis=(1, 2))] = np.nan
        if "hole_lpips" in self.keys:
            truth = chunk.images("truth").float() / 255
            values["hole_lpips"] = self._distance(truth, torch.where(holes, results, truth))
            values["hole_lpips"][~chunk.with_hole] = np.nan
        return values

    def _distance(self, first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
        return _numbers(self.model.distance(first, second))


class HaarSimilarity(_OfFrames):
    """HaarPSI of the hole against the truth."""

    def add(self, chunk: Chunk) -> Values:
        assert chunk.truth is not None
        return {"hole_haarpsi": haarpsi(chunk.truth, chunk.results, chunk.masks)}


class PromptLikeness(_OfFrames):
    """CLIP scores: 100 x cosine of images and prompts, not below 0 (Hessel et al., "CLIPScore", EMNLP 2021)."""

    def __init__(self, model: Any, video: Video, protocol: str, keys: set[str]) -> None:
        self.model = model
        prompts = {
            "clip_score": video.prompt,
            "masked_clip_score": video.prompt,
            "masked_region_clip_score": video.region_prompt,
        }
        self.texts = {key: model.text(prompts[key], keep_end=protocol != "release") for key in sorted(keys)}

    def add(self, chunk: Chunk) -> Values:
        values = {}
        if "clip_score" in self.texts:
            values["clip_score"] = self._scores(self.model.images(chunk.images("results")), "clip_score")
        masked = [key for key in self.texts if key != "clip_score"]
        if masked and chunk.with_hole.any():
            features = self.model.images(chunk.hole_images())
        for key in masked:
            values[key] = np.full(len(chunk.masks), np.nan)
            if chunk.with_hole.any():
                values[key][chunk.with_hole] = self._scores(features, key)
        return values

    def _scores(self, features: torch.Tensor, key: str) -> np.ndarray:
        return _numbers(100 * (features @ self.texts[key]).clamp(min=0))


class TemporalConsistency(_OfFrames):
    """Cosine of neighbouring frames' CLIP features, whole and hole; the last frame's wait for the next chunk."""

    def __init__(self, model: Any, keys: set[str]) -> None:
        self.model, self.keys = model, keys
        self.last: dict[str, np.ndarray] = {}

    def add(self, chunk: Chunk) -> Values:
        values = {}
        if "temporal_consistency" in self.keys:
            features = _numbers(self.model.images(chunk.images("results")))
            values["temporal_consistency"] = self._neighbours("temporal_consistency", features)
        if "masked_temporal_consistency" in self.keys:
            features = np.full((len(chunk.masks), 1), np.nan)
            if chunk.with_hole.any():
                seen = _numbers(self.model.images(chunk.hole_images()))
                features = np.full((len(chunk.masks), seen.shape[1]), np.nan)
                features[chunk.with_hole] = seen
            values["masked_temporal_consistency"] = self._neighbours("masked_temporal_consistency", features)
        return values

    def _neighbours(self, key: str, features: np.ndarray) -> np.ndarray:
        """Cosines of each frame (N, D) and the one before, NaN where either has none."""
        row = [self.last[key]] if key in self.last else []
        self.last[key] = features[-1]
        # Frames without features may be NaN of another width: (1,) goes with any.
        pairs = zip([*row, *features[:-1]], features[1 - len(row) :], strict=True)
        return np.array([np.sum(before * after) for before, after in pairs])


class MotionError:
    """Warping errors of pairs, seam error of the video."""

    def __init__(self, video: Video, keys: set[str]) -> None:
        self.motion, self.keys = Motion(video.borders), keys

    def add(self, chunk: Chunk) -> Values:
        whole, hole = self.motion.add(chunk.results, chunk.masks)
        return {"warping_error": whole, "hole_warping_error": hole}

    def finish(self, scores: VideoScores) -> None:
        if "seam_error" in self.keys:
            reason = "no hole across the window borders, or nowhere else"
            _put(scores, "seam_error", self.motion.seam_error(), reason)


class Identity:
    """Identity consistency across windows."""

    def __init__(self, video: Video) -> None:
        self.windows = IdentityConsistency(video.borders)

    def add(self, chunk: Chunk) -> Values:
        self.windows.add(chunk.results, chunk.masks)
        return {}

    def finish(self, scores: VideoScores) -> None:
        _put(scores, "identity_consistency", self.windows.value(), "fewer than two windows have a hole")


class VideoFeatures:
    """I3D features of original and result, for the set's VFID.

    Long videos are cut into the fewest equal parts of at most `segment` frames, and features are their mean, weighted
    by length: one part's frames are all that is held.
    """

    def __init__(self, model: Any, video: Video, segment: int, device: torch.device) -> None:
        parts = -(-video.frames // segment)
        self.ends = [video.frames * (i + 1) // parts for i in range(parts)]
        self.model, self.frames, self.device = model, video.frames, device
        longest = -(-video.frames // parts)
        self.held = {
            name: np.empty((longest, video.height, video.width, 3), np.uint8) for name in ("original", "result")
        }
        self.means: dict[str, np.ndarray] = {}
        self.at = self.start = 0

    def add(self, chunk: Chunk) -> Values:
        done = 0
        while done < len(chunk.results):
            taken = min(len(chunk.results) - done, self.ends[0] - self.at)
            for name, frames in (("original", chunk.originals), ("result", chunk.results)):
                self.held[name][self.at - self.start : self.at - self.start + taken] = frames[done : done + taken]
            done, self.at = done + taken, self.at + taken
            if self.at == self.ends[0]:
                self._close_part()
        return {}

    def finish(self, scores: VideoScores) -> None:
        scores.features.update(self.means)

    def _close_part(self) -> None:
        length = self.at - self.start
        for name, frames in self.held.items():
            video = torch.from_numpy(frames[:length]).to(self.device).permute(0, 3, 1, 2)[None].float() / 255
            self.means[name] = self.means.get(name, 0) + _numbers(self.model.features(video))[0] * length / self.frames
        self.start = self.ends.pop(0)


def _numbers(values: torch.Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def _put(scores: VideoScores, key: str, value: float | None, reason: str) -> None:
    if value is None:
        scores.left_out[key] = reason
    else:
        scores.per_video[key] = value
