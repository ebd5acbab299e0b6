"""Stable Diffusion's safety checker: is a frame near one of seventeen concepts, by CLIP? The model is diffusers'."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.metrics.networks.clip_images import ClipPreprocessing
from videopainter.metrics.networks.common import exact_convolutions, reject_pointer

_CLASS = "StableDiffusionSafetyChecker"
_UPSTREAM = "diffusers.pipelines.stable_diffusion.safety_checker"


class SafetyChecker:
    """A checker of a local folder, float32. What it flags follows from thresholds that are a part of its weights."""

    def __init__(self, model: Any, preprocessing: ClipPreprocessing) -> None:
        self.model, self.preprocessing = model, preprocessing

    @staticmethod
    def check(folder: Path) -> ClipPreprocessing:
        """How frames are prepared; InputError where a folder is no checker's. Loads no weights.

        Inside a Stable Diffusion pipeline the settings lie in `feature_extractor` beside the folder.
        """
        config = read_json(folder / "config.json", "safety checker")
        found = config.get("architectures") if isinstance(config, dict) else None
        if found != [_CLASS]:
            raise InputError(f"expected a {_CLASS}, got {found}: {folder / 'config.json'}")
        weights = [*folder.glob("model*.safetensors")] or [*folder.glob("pytorch_model*.bin")]
        if not weights:
            raise InputError(f"expected model.safetensors or pytorch_model.bin, got neither: {folder}")
        for path in weights:
            reject_pointer(path)
        beside = folder.parent / "feature_extractor"
        own = (folder / "preprocessor_config.json").exists() or not beside.is_dir()
        return ClipPreprocessing.load(folder if own else beside)

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> SafetyChecker:
        """From a folder as CompVis/stable-diffusion-safety-checker is one.

        Raises InputError for files that are missing, damaged, or of another model.
        """
        preprocessing = cls.check(folder)
        model = _load(folder)
        size = model.config.vision_config.image_size
        if (size, size) != preprocessing.crop:
            raise InputError(f"expected a crop of the model's image size {size}, got {preprocessing.crop[0]}: {folder}")
        if not all(bool(value.isfinite().all()) for value in model.parameters()):
            raise InputError(f"expected a safety checker's weights, got some that are no numbers: {folder}")
        return cls(model.to(device), preprocessing)

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor) -> list[bool]:
        """Whether each frame is flagged; uint8 RGB (N, 3, H, W) on the model's device."""
        unused = [np.zeros(1) for _ in range(len(frames))]  # pictures, which it would make black
        with exact_convolutions():
            _, flagged = self.model(clip_input=self.preprocessing(frames), images=unused)
        return [bool(one) for one in flagged]


def _load(folder: Path) -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers.utils import logging as transformers_logging

    logging.getLogger(_UPSTREAM).setLevel(logging.ERROR)  # speaks of pictures that it makes black
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what does not fit is told below
    try:
        loaded: Any = StableDiffusionSafetyChecker.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
        model, found = loaded
    except Exception as error:  # damaged files raise whatever their readers do
        raise InputError(f"expected a {_CLASS}, got unreadable files ({type(error).__name__}): {folder}") from None
    finally:
        transformers_logging.set_verbosity(verbosity)
    wrong = [*found["missing_keys"], *found["mismatched_keys"]]
    if wrong:
        raise InputError(f"expected a {_CLASS}, {len(wrong)} weights are missing or do not fit ({wrong[0]}): {folder}")
    return model.eval().requires_grad_(False)
