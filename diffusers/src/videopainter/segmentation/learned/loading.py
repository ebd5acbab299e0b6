"""Loading what the flags name."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
    CLIPTokenizer,
    Sam2VideoModel,
    Sam3Model,
    Sam3TrackerVideoModel,
)

from videopainter.errors import InputError
from videopainter.segmentation.learned.original import load_original
from videopainter.segmentation.learned.sam import SamSegmenter
from videopainter.segmentation.learned.words import GroundingFinder, Sam3Finder
from videopainter.segmentation.segmenter import WeightsPlace


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def free_device_memory() -> None:
    """Gives back what torch keeps of a GPU for models that are gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_segmenter(found: WeightsPlace, device: str) -> SamSegmenter:
    """SAM 2 or SAM 3 on a device, bfloat16 on a GPU. InputError where files are missing or cut off."""
    if found.original:
        model: Any = load_original(Path(found.place))
    else:
        model = _loaded({"sam2": Sam2VideoModel, "sam3": Sam3TrackerVideoModel}[found.kind], found.place)
    return SamSegmenter(_placed(model, device), found.kind)


def load_finder(found: WeightsPlace, device: str) -> Sam3Finder | GroundingFinder:
    """SAM 3's detector or Grounding DINO on a device. InputError where files are missing or cut off."""
    if found.kind == "sam3":
        model = _placed(_loaded(Sam3Model, found.place), device)
        return Sam3Finder(model, _loaded_tokenizer(CLIPTokenizer, found.place))
    model = _loaded(AutoModelForZeroShotObjectDetection, found.place).to(device)
    return GroundingFinder(model, _loaded_tokenizer(AutoTokenizer, found.place))


def _loaded(cls: Any, place: str) -> Any:
    try:
        model, told = cls.from_pretrained(place, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"expected weights that can be read, got {_first(error)}: {place}") from None
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])
        raise InputError(f"expected all weights of {cls.__name__}, {len(missing)} are missing ({missing[0]}): {place}")
    return model


def _loaded_tokenizer(cls: Any, place: str) -> Any:
    try:
        return cls.from_pretrained(place)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"expected a tokenizer that can be read, got {_first(error)}: {place}") from None


def _placed(model: Any, device: str) -> Any:
    on_gpu = torch.device(device).type == "cuda"
    return model.to(device, torch.bfloat16 if on_gpu else torch.float32)


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
