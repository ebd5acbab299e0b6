"""All numbers of one video in one pass over its frames.

Frames are read in chunks and each chunk goes through all metrics, so that memory does not depend on a video's length
(I3D alone holds up to `vfid_segment` frames). Models are loaded once, for all videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from videopainter.data.clip import FrameSource, MaskSource
from videopainter.errors import InputError
from videopainter.flags import check_ranges, flag
from videopainter.metrics import catalog
from videopainter.metrics.catalog import METRICS, PROTOCOLS
from videopainter.metrics.motion import MIN_FLOW_SIZE
from videopainter.metrics.scores import VideoScores

if TYPE_CHECKING:
    import torch

    from videopainter.metrics.accumulators import Chunk, Group, Video
    from videopainter.metrics.networks.models import MetricModels

NOT_ASKED = "not asked for"
_PIXELS = frozenset(f"{part}{key}" for part in ("", "masked_", "hole_") for key in ("psnr", "ssim", "mse", "mae"))
_LPIPS = frozenset(f"{part}lpips" for part in ("", "masked_", "hole_"))
_LPIPS_SIZE = 17  # what SqueezeNet's third pooling needs
_PROMPT = frozenset({"clip_score", "masked_clip_score", "masked_region_clip_score"})
_TEMPORAL = frozenset({"temporal_consistency", "masked_temporal_consistency"})
_MOTION = frozenset({"warping_error", "hole_warping_error", "seam_error"})
# The scorer's metrics: what a run's record says (time, memory) is not seen in frames.
SCORED = tuple(key for key, metric in METRICS.items() if catalog.RECORD not in metric.given)


@dataclass(kw_only=True)
class ScoreOptions:
    """What is computed, and in which portions."""

    _argument_group_name: ClassVar[str] = "scoring"

    protocol: Literal["background", "whole", "release"] = flag(
        "background",
        "How the hole is kept out of masked_* metrics: black in both images (background), not at all (whole), or "
        "black in the result only (release, as its evaluation does).",
    )
    metrics: list[str] | None = flag(  # noqa: RUF009
        None, f"Only these metrics, of {', '.join(METRICS)}. Default: all that can be computed."
    )
    score_batch: int = flag(8, "Frames that are scored at once.", least=1, most=1024)
    vfid_segment: int = flag(
        100,
        "Longer videos go through I3D in equal parts of at most this many frames, whose features are averaged.",
        least=1,
        most=100_000,
    )

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise InputError(f"--protocol: expected one of {', '.join(PROTOCOLS)}, got {self.protocol}")
        unknown = [key for key in self.metrics or () if key not in METRICS]
        if unknown or (self.metrics is not None and not self.metrics):
            told = f"no such metric: {', '.join(unknown)}" if unknown else "expected at least one, got none"
            raise InputError(f"--metrics: {told}; there are {', '.join(METRICS)}")
        check_ranges(self)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The metrics that are asked for, in the catalog's order."""
        return SCORED if self.metrics is None else tuple(key for key in SCORED if key in self.metrics)

    @property
    def weights(self) -> set[str]:
        """Keys of the models that these metrics need, for `models.load_models`."""
        return {weight for key in self.wanted for weight in METRICS[key].weights}


class Scorer:
    """Scores videos one by one; nothing is carried from one to the next."""

    def __init__(self, options: ScoreOptions, models: MetricModels, device: str | torch.device) -> None:
        import torch

        self.options, self.models, self.device = options, models, torch.device(device)

    def score(
        self,
        originals: FrameSource,
        results: FrameSource,
        masks: MaskSource,
        *,
        index: int,
        name: str,
        prompt: str = "",
        region_prompt: str = "",
        truth: FrameSource | None = None,
        borders: Sequence[int] = (),
        details: dict[str, Any] | None = None,
    ) -> VideoScores:
        """Every metric of frames, pairs and the video itself: a number, or why there is none (`left_out`).

        Args:
            originals, results: frames before and after inpainting.
            masks: True = hole.
            index, name: which video of the set this is.
            prompt, region_prompt: captions of the video and of what fills the hole; "" = none.
            truth: what the hole should show; may be `originals` itself (holes cut into whole videos).
            borders: frame numbers (> 0) on which a new window begins.
            details: goes into the scores, beside prompts, frames, height, width and hole_share (of all pixels).

        Raises:
            ValueError: the sources differ in length or size, have no frames, or a border is not inside.
        """
        import torch

        from videopainter.metrics.accumulators import Video

        length, height, width = _common_shape(originals, results, masks, truth)
        video = Video(
            frames=length,
            height=height,
            width=width,
            prompt=prompt,
            region_prompt=region_prompt,
            borders=tuple(sorted(set(borders))),
        )
        if video.borders and not 0 < video.borders[0] <= video.borders[-1] < length:
            raise ValueError(f"borders: expected frame numbers in 1..{length - 1}, got {list(video.borders)}")
        scores = VideoScores(index=index, name=name, left_out=self._left_out(video, truth is not None))
        found: dict[str, list[np.ndarray]] = {}
        hole = 0
        with torch.inference_mode():
            groups = self._groups(video, {key for key in SCORED if key not in scores.left_out})
            for chunk in self._chunks(originals, results, masks, truth):
                hole += np.count_nonzero(chunk.masks)
                for group in groups:
                    for key, values in group.add(chunk).items():
                        found.setdefault(key, []).append(values)
        for group in groups:
            group.finish(scores)
        scores.per_frame = {key: np.concatenate(found[key]) for key in SCORED if key in found.keys() - scores.left_out}
        known = {"prompt": prompt, "region_prompt": region_prompt, "frames": length, "height": height, "width": width}
        scores.details = known | {"hole_share": hole / (length * height * width)} | (details or {})
        return scores

    def _chunks(
        self, originals: FrameSource, results: FrameSource, masks: MaskSource, truth: FrameSource | None
    ) -> Iterator[Chunk]:
        from videopainter.metrics.accumulators import Chunk

        for start in range(0, len(results), self.options.score_batch):
            stop = min(start + self.options.score_batch, len(results))
            before = originals.read(start, stop)
            yield Chunk(
                originals=before,
                results=results.read(start, stop),
                masks=masks.read(start, stop),
                truth=before if truth is originals else truth.read(start, stop) if truth is not None else None,
                device=self.device,
            )

    def _left_out(self, video: Video, has_truth: bool) -> dict[str, str]:
        """Why metrics cannot be computed, by key, as far as it is known before frames are read."""
        missing = {
            catalog.TRUTH: "" if has_truth else "no ground truth given",
            catalog.WINDOWS: "" if video.borders else "one window only",
            catalog.PROMPT: "" if video.prompt else "no prompt",
            catalog.REGION_PROMPT: "" if video.region_prompt else "no region prompt",
        }
        reasons: dict[str, str] = {}
        for key in SCORED:
            metric = METRICS[key]
            why = [] if key in self.options.wanted else [NOT_ASKED]
            why += [missing[given] for given in metric.given]
            why += [self._absent(weight) for weight in metric.weights]
            if metric.level == "pair" and video.frames < 2:
                why.append("one frame only")
            if key in _MOTION and max(video.height, video.width) < MIN_FLOW_SIZE:
                why.append(f"optical flow needs frames of at least {MIN_FLOW_SIZE} pixels on a side")
            if key in _LPIPS and min(video.height, video.width) < _LPIPS_SIZE:
                why.append(f"LPIPS needs frames of at least {_LPIPS_SIZE}x{_LPIPS_SIZE} pixels")
            if any(why):
                reasons[key] = next(filter(None, why))
        return reasons

    def _absent(self, weight: str) -> str:
        """Why a model is not there; "" if it is."""
        if getattr(self.models, weight) is not None:
            return ""
        return self.models.left_out.get(weight, f"{weight} is not loaded")

    def _groups(self, video: Video, keys: set[str]) -> list[Group]:
        """Fresh groups for the metrics that can be computed."""
        from videopainter.metrics import accumulators as groups

        models, protocol = self.models, self.options.protocol
        makers = (
            (_PIXELS, lambda chosen: groups.PixelFidelity(protocol, chosen)),
            (_LPIPS, lambda chosen: groups.PerceptualDistance(models.lpips, protocol, chosen)),
            ({"hole_haarpsi"}, lambda chosen: groups.HaarSimilarity()),
            (_PROMPT, lambda chosen: groups.PromptLikeness(models.clip_score, video, protocol, chosen)),
            (_TEMPORAL, lambda chosen: groups.TemporalConsistency(models.clip_frames, chosen)),
            (_MOTION, lambda chosen: groups.MotionError(video, chosen)),
            ({"identity_consistency"}, lambda chosen: groups.Identity(video)),
            ({"vfid"}, lambda chosen: groups.VideoFeatures(models.i3d, video, self.options.vfid_segment, self.device)),
        )
        return [make(keys & family) for family, make in makers if keys & family]


def _common_shape(
    originals: FrameSource, results: FrameSource, masks: MaskSource, truth: FrameSource | None
) -> tuple[int, int, int]:
    """Frames, height and width of all sources; ValueError if they differ or there are no frames."""
    sources: dict[str, FrameSource | MaskSource] = {"originals": originals, "results": results, "masks": masks}
    if truth is not None:
        sources["truth"] = truth
    shapes = {name: (len(source), source.height, source.width) for name, source in sources.items()}
    if len(set(shapes.values())) > 1 or not len(results):
        told = ", ".join(f"{name} {t} of {h}x{w}" for name, (t, h, w) in shapes.items())
        raise ValueError(f"expected sources of one size and length, at least one frame, got {told}")
    return shapes["results"]
