"""Which clips are worth it: sharp, moving, neither dark nor blank; and each only once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from videopainter.data.video.reader import VideoFrames
from videopainter.flags import flag
from videopainter.preparation.stages.stage import Row, RowDropped, SetStage, Stage
from videopainter.vision.flow import DenseFlow

# Scores are of frames made this high, so that they mean the same for all sizes; of so many places in a clip.
_HEIGHT, _PLACES = 180, 5
# Motion is told per second, from frames an eighth of one apart: training's rate.
_APART = Fraction(1, 8)
_HASH_SIDE, _HASH_FROM = 8, 32


@dataclass(frozen=True, kw_only=True)
class ClipScoreOptions:
    """Which clips are kept. The thresholds are ours: the paper gives none."""

    _argument_group_name: ClassVar[str] = "which clips are kept (thresholds of ours: the paper gives none)"

    min_sharpness: float = flag(20.0, "Variance of the Laplacian, of frames 180 pixels high.", least=0)
    min_motion: float = flag(
        0.5, "Mean optical flow, in percent of the height per second; below, clips are stills.", least=0
    )
    max_motion: float = flag(200.0, "Above, cameras are shaken and cuts were missed.", above=0)
    min_brightness: float = flag(16.0, "Mean of the grey levels, 0 to 255.", least=0, most=255)
    max_same_bits: int = flag(
        4,
        "Clips whose 64-bit perceptual hashes differ in at most so many bits are the same; -1: none are.",
        least=-1,
        most=64,
    )


class ScoreStage(Stage):
    """Measures a clip at five places: sharpness, motion, brightness; drops what is below the thresholds."""

    name = "score"
    inputs = ("video", "size", "mtime", "start_frame", "end_frame", "fps")
    outputs = ("sharpness", "motion", "brightness", "hash")

    def __init__(self, options: ClipScoreOptions) -> None:
        self.options = options

    def settings(self) -> Mapping[str, Any]:
        thresholds = {name: value for name, value in asdict(self.options).items() if name != "max_same_bits"}
        return {"version": 1, **thresholds}

    def setup(self) -> None:
        """The flow's tables."""
        self._flow = DenseFlow("fast")

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        start, end = row["start_frame"], row["end_frame"]
        apart = max(1, round(Fraction(row["fps"]) * _APART))
        places = np.unique(np.linspace(start, max(start, end - 1 - apart), _PLACES).round().astype(int))
        pairs = _read_pairs(Path(row["video"]), places, apart, end)
        seconds = float(apart / Fraction(row["fps"]))
        scores = {
            "sharpness": float(np.median([cv2.Laplacian(first, cv2.CV_64F).var() for first, _ in pairs])),
            "motion": float(np.mean([self._motion(first, second) for first, second in pairs])) / seconds,
            "brightness": float(np.mean([first.mean() for first, _ in pairs])),
        }
        self._judge(scores)
        hashed = perceptual_hash(pairs[len(pairs) // 2][0])
        return [{**{name: round(value, 3) for name, value in scores.items()}, "hash": f"{hashed:016x}"}]

    def _motion(self, first: np.ndarray, second: np.ndarray) -> float:
        """Mean length of the flow, in percent of the height."""
        flow = self._flow(first, second)
        return 100 * float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean()) / first.shape[0]

    def _judge(self, scores: Mapping[str, float]) -> None:
        options = self.options
        for kind, fails, name in (
            ("dark", scores["brightness"] < options.min_brightness, "brightness"),
            ("not sharp", scores["sharpness"] < options.min_sharpness, "sharpness"),
            ("still", scores["motion"] < options.min_motion, "motion"),
            ("shaken", scores["motion"] > options.max_motion, "motion"),
        ):
            if fails:
                raise RowDropped(kind, f"{name} {scores[name]:.1f}")


class NearDuplicates(SetStage):
    """Of clips that look the same the first one is kept."""

    name = "near_duplicates"
    inputs = ("hash",)

    def __init__(self, options: ClipScoreOptions) -> None:
        self.bits = options.max_same_bits

    def drop(self, rows: Sequence[Row]) -> Mapping[str, RowDropped]:
        kept = np.empty(len(rows), np.uint64)
        names: list[str] = []
        dropped: dict[str, RowDropped] = {}
        for row in rows:
            value = np.uint64(int(row["hash"], 16))
            bits = np.bitwise_count(kept[: len(names)] ^ value)
            if len(bits) and bits.min() <= self.bits:
                dropped[row["id"]] = RowDropped("near duplicate", f"of {names[int(bits.argmin())]}")
            else:
                kept[len(names)] = value
                names.append(row["id"])
        return dropped


def perceptual_hash(grey: np.ndarray) -> int:
    """64 bits of a grey picture: which of its lowest 8×8 frequencies are above their median (Zauner 2010)."""
    small = cv2.resize(grey, (_HASH_FROM, _HASH_FROM), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_HASH_SIDE, :_HASH_SIDE].ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _read_pairs(video: Path, places: np.ndarray, apart: int, end: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grey frames at `places` and `apart` frames behind each, uint8 (180, W)."""
    wanted = sorted({int(at) for place in places for at in (place, min(place + apart, end - 1))})
    frames = VideoFrames(video, threads=1, check_end=False)
    try:
        size = (_HEIGHT, max(16, round(frames.width * _HEIGHT / frames.height)))
        grey = {at: _grey(pixels, size) for at, pixels in zip(wanted, frames.pick(wanted, size), strict=True)}
    finally:
        frames.close()
    return [(grey[int(place)], grey[int(min(place + apart, end - 1))]) for place in places]


def _grey(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] != size:
        pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
