"""Which clips are good to look at and safe, by models: LAION's aesthetic score, Stable Diffusion's safety checker.

Either is left out where no weights are named; then the tables say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError, one_line
from videopainter.files import sha256_file
from videopainter.flags import flag
from videopainter.preparation.stages.stage import Row, RowDelayed, RowDropped, Stage, StageResources, weights_told

RATINGS = ("aesthetic", "unsafe_frames")
NOT_SCORED = "not scored"
# Evenly inside a clip, whose ends may be in the middle of a fade.
_PLACES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)
_HEADS = (".pth", ".pt", ".bin")


@dataclass(frozen=True, kw_only=True)
class ClipRatingOptions:
    """Who says what is good to look at and what is safe."""

    _argument_group_name: ClassVar[str] = (
        "what models say of clips (off without weights; thresholds ours: the paper gives none)"
    )

    aesthetic_model: str = flag(
        "",
        "LAION's aesthetic head: sa_0_4_vit_l_14_linear.pth or the improved predictor's .pth, or a folder or hub id "
        "with one such file.",
    )
    aesthetic_clip: str = flag(
        "ckpt/clip-vit-large-patch14", "The CLIP that the head was made for: a folder or hub id."
    )
    min_aesthetic: float = flag(4.5, "Mean of four frames, 1 to 10; below, clips are dropped.")
    safety_model: str = flag(
        "",
        "Stable Diffusion's safety checker, a folder or hub id (CompVis/stable-diffusion-safety-checker); a clip is "
        "dropped when one of four frames is flagged.",
    )

    @property
    def asked(self) -> bool:
        """Whether any model is named."""
        return bool(self.aesthetic_model or self.safety_model)


def unrated() -> dict[str, str]:
    """What the tables say where nobody was asked."""
    return dict.fromkeys(RATINGS, NOT_SCORED)


class RateStage(Stage):
    """Rates four frames of a clip in one batch, and drops it when they are plain or one of them is flagged.

    Raises:
        InputError: no such weights, or of another kind; before anything is loaded.
    """

    name = "rate"
    inputs = ("video", "size", "mtime", "start_frame", "end_frame")
    outputs = RATINGS
    resources = StageResources(gpus=1)

    def __init__(self, options: ClipRatingOptions) -> None:
        self.options = options
        self._head: Path | None = None
        self._clip = self._safety = Path()
        if options.aesthetic_model:
            from videopainter.metrics.networks.aesthetic import load_head
            from videopainter.metrics.networks.clip_images import ClipImages

            self._head = _head_file(options.aesthetic_model)
            self._clip = _folder(options.aesthetic_clip, "--aesthetic_clip", _CLIP_FILES)
            load_head(self._head, ClipImages.check(self._clip))
        if options.safety_model:
            from videopainter.metrics.networks.safety import SafetyChecker

            self._safety = _folder(options.safety_model, "--safety_model", _CLIP_FILES)
            SafetyChecker.check(self._safety)

    def settings(self) -> Mapping[str, Any]:
        options = self.options
        aesthetic = self._head and [sha256_file(self._head), weights_told(str(self._clip)), options.min_aesthetic]
        return {
            "version": 1,
            "aesthetic": aesthetic,
            "safety": options.safety_model and weights_told(str(self._safety)),
        }

    def setup(self) -> None:
        """The models, once for all clips of a process."""
        from videopainter.segmentation.learned.loading import default_device

        self._device = default_device()
        self._scorer = self._checker = None
        if self._head is not None:
            from videopainter.metrics.networks.aesthetic import AestheticScorer

            self._scorer = AestheticScorer.load(self._head, self._clip, self._device)
        if self.options.safety_model:
            from videopainter.metrics.networks.safety import SafetyChecker

            self._checker = SafetyChecker.load(self._safety, self._device)

    def teardown(self) -> None:
        """Their memory, also a GPU's."""
        from videopainter.segmentation.learned.loading import free_device_memory

        self._scorer = self._checker = None
        free_device_memory()

    def process(self, row: Row) -> Sequence[Mapping[str, Any]]:
        import torch

        frames = torch.from_numpy(_looks(row)).permute(0, 3, 1, 2).to(self._device)
        found: dict[str, Any] = unrated()
        if self._scorer is not None:
            score = float(np.mean(self._scorer(frames)))
            if not math.isfinite(score):
                raise RowDelayed(f"expected an aesthetic score, got {score}")
            found["aesthetic"] = round(score, 3)
        if self._checker is not None:
            found["unsafe_frames"] = sum(self._checker(frames))
        if self._scorer is not None and found["aesthetic"] < self.options.min_aesthetic:
            raise RowDropped("not aesthetic", f"score {found['aesthetic']:.2f}")
        if self._checker is not None and found["unsafe_frames"]:
            raise RowDropped("not safe", f"{found['unsafe_frames']} of {len(frames)} frames")
        return [found]


def _looks(row: Row) -> np.ndarray:
    """The frames that are rated, uint8 RGB (N, H, W, 3)."""
    length = row["end_frame"] - row["start_frame"]
    numbers = sorted({row["start_frame"] + int(place * length) for place in _PLACES})
    video = VideoFrames(Path(row["video"]), threads=1, check_end=False)
    try:
        return np.stack(list(video.pick(numbers)))
    finally:
        video.close()


# What of a hub repository is fetched; of its weights those that transformers takes.
_CLIP_FILES = ("config.json", "preprocessor_config.json", "model*.safetensors", "pytorch_model*.bin")


def _head_file(word: str) -> Path:
    if Path(word).suffix in _HEADS:
        return Path(word)
    folder = _folder(word, "--aesthetic_model", tuple(f"*{suffix}" for suffix in _HEADS))
    files = sorted(file for file in folder.iterdir() if file.suffix in _HEADS)
    if len(files) != 1:
        raise InputError(f"--aesthetic_model: expected one head ({', '.join(_HEADS)}), got {len(files)}, in {folder}")
    return files[0]


def _folder(word: str, name: str, files: tuple[str, ...]) -> Path:
    """A folder as it is, or the hub's repository of that name, fetched."""
    if word and Path(word).is_dir():
        return Path(word)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    first = word.partition("/")[0]
    if word.count("/") != 1 or first in ("", ".", "..", "~", "ckpt") or Path(first).is_dir():
        raise InputError(
            f"{name}: expected a folder or a hub id, found none at {word}: python data_utils/download_weights.py data"
        )
    try:
        return Path(snapshot_download(word, allow_patterns=list(files)))
    except (OSError, ValueError, HFValidationError) as error:
        raise InputError(f"{name}: neither a folder nor what the hub gives: {word} ({one_line(error)[:160]})") from None
