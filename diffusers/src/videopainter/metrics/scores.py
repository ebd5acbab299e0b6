"""The numbers of one video: what scoring makes, reports read, and a file keeps in between."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from videopainter.errors import InputError
from videopainter.files import read_json, write_json
from videopainter.metrics.catalog import METRICS


@dataclass(kw_only=True)
class VideoScores:
    """Numbers of one video by metric key (see `catalog.METRICS`).

    per_frame: (T,) for metrics of frames, (T - 1,) for pairs; NaN where a frame says nothing (an empty mask, a frame
        that is all hole), infinity for the PSNR of equal images.
    per_video: metrics of level "video".
    features: I3D features (1024,) of "original" and "result"; empty without the weights.
    left_out: metric key -> why there is no number.
    details: whatever else a report shows: captions ("prompt", "region_prompt"), frames, size, files, seed, ...
    """

    index: int
    name: str
    per_frame: dict[str, np.ndarray] = field(default_factory=dict)
    per_video: dict[str, float] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of what decided the scores: files, settings, weights; empty where it was not noted."""
        return str(self.details.get("fingerprint", ""))

    def value(self, key: str) -> float | None:
        """The video's number; None where there is none. Of frames the mean: see `mean_of_frames`."""
        if METRICS[key].level == "set":
            return None
        if key in self.per_video:
            return self.per_video[key]
        return mean_of_frames(self.per_frame[key]) if key in self.per_frame else None

    def save(self, path: Path) -> None:
        """Write `path` (JSON), whole or not at all; every number is kept to the bit."""
        content = asdict(self)
        for group in ("per_frame", "features"):
            content[group] = {key: np.asarray(values, np.float64).tolist() for key, values in content[group].items()}
        write_json(path, content)

    @classmethod
    def load(cls, path: Path) -> VideoScores:
        """What `save` wrote; InputError for a file that is something else."""
        try:
            content = read_json(path, "scores", lenient=True)
            for group in ("per_frame", "features"):  # null is NaN, "inf" infinity
                content[group] = {key: np.array(values, np.float64) for key, values in content[group].items()}
            content["per_video"] = {key: float(np.float64(value)) for key, value in content["per_video"].items()}
            return cls(**content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"scores: expected a file of them, got {type(error).__name__}, in {path}") from None


def mean_of_frames(values: np.ndarray) -> float | None:
    """Mean of the frames that say something: NaN is left out, and infinity where any frame is finite.

    None if no frame says anything; infinity if all that do are infinite (nothing was changed anywhere).
    """
    said = values[~np.isnan(values)]
    if not len(said):
        return None
    finite = said[np.isfinite(said)]
    return float(finite.mean()) if len(finite) else float(said[0])
