"""Who makes masks and who knows words: the flags, and what they name. Imports torch only when a model is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.flags import flag
from videopainter.segmentation.builtin import BuiltinSegmenter
from videopainter.segmentation.segmenter import Segmenter, TextFinder, WeightsKind, WeightsPlace

BUILTIN = "builtin"
_SIZES = ("large", "base_plus", "small", "tiny")
_SAM2_FILES = tuple(f"{version}_hiera_{size}.pt" for version in ("sam2.1", "sam2") for size in _SIZES)
# What a config's model_type says a folder holds.
_SEGMENTERS: dict[str, WeightsKind] = {"sam2_video": "sam2", "sam3_video": "sam3", "sam3_tracker_video": "sam3"}
_FINDERS: dict[str, WeightsKind] = {
    "sam3_video": "sam3",
    "sam3": "sam3",
    "grounding-dino": "grounding-dino",
    "mm-grounding-dino": "grounding-dino",
}


@dataclass(kw_only=True)
class SegmenterOptions:
    """Who makes the masks."""

    _argument_group_name: ClassVar[str] = "who makes the masks"

    segmenter: str = flag(
        BUILTIN,
        "builtin (no weights), sam2 or sam3 (weights below ckpt/), a SAM 2 checkpoint (sam2_hiera_large.pt), or a "
        "folder or hub id of SAM 2 or SAM 3.",
    )
    text_model: str | None = flag(
        None,
        "Who finds what --text says: a folder or hub id of Grounding DINO or SAM 3. Default: SAM 3 itself where that "
        "is the segmenter, else ckpt/grounding-dino.",
    )


@dataclass(frozen=True, kw_only=True)
class SegmenterChoice:
    """What the flags name, checked; `segmenter` None: the built-in tracker, `finder` None: nobody knows words."""

    segmenter: WeightsPlace | None
    finder: WeightsPlace | None

    def load(self, device: str | None = None) -> tuple[Segmenter, TextFinder | None]:
        """Both, on a device (None: a GPU if there is one); torch is imported only for models."""
        if self.segmenter is None and self.finder is None:
            return BuiltinSegmenter(), None
        from videopainter.segmentation.learned.loading import default_device, load_finder, load_segmenter

        device = device or default_device()
        segmenter: Segmenter = BuiltinSegmenter() if self.segmenter is None else load_segmenter(self.segmenter, device)
        return segmenter, None if self.finder is None else load_finder(self.finder, device)

    def unload(self) -> None:
        """Gives a GPU's memory back that models used which nobody holds any more."""
        if self.segmenter is not None or self.finder is not None:
            from videopainter.segmentation.learned.loading import free_device_memory

            free_device_memory()


def choose_segmenter(options: SegmenterOptions, *, words: bool) -> SegmenterChoice:
    """The weights that the flags name; `words`: whether any prompt is in words.

    Raises:
        InputError: weights are not there or of another kind; in one line that says how to get them.
    """
    segmenter = None if options.segmenter == BUILTIN else _segmenter_place(options.segmenter)
    finder = None
    if words:
        if options.text_model is not None:
            finder = _found(options.text_model, "--text_model", _FINDERS)
        elif segmenter is not None and segmenter.kind == "sam3" and _model_type(segmenter.place) == "sam3_video":
            finder = segmenter
        else:
            folder = _below_ckpt("grounding-dino")
            if folder is None:
                raise InputError(
                    "--text: expected a model that knows words, got none: --text_model FOLDER, --segmenter sam3, or "
                    "python data_utils/download_weights.py grounding-dino"
                )
            finder = _found(str(folder), "--text_model", _FINDERS)
    return SegmenterChoice(segmenter=segmenter, finder=finder)


def _segmenter_place(word: str) -> WeightsPlace:
    if word == "sam2":
        file = next((found for name in _SAM2_FILES if (found := _below_ckpt(name)) is not None), None)
        if file is None:
            raise InputError(
                "--segmenter sam2: expected ckpt/sam2_hiera_large.pt or another size, got none: "
                "python data_utils/download_weights.py sam2"
            )
        return WeightsPlace(place=str(file), kind="sam2", original=True)
    if word == "sam3":
        folder = _below_ckpt("sam3")
        if folder is None:
            raise InputError(
                "--segmenter sam3: expected the folder ckpt/sam3, got none: python data_utils/download_weights.py sam3"
            )
        word = str(folder)
    if Path(word).is_file() or Path(word).suffix in (".pt", ".pth"):
        if not Path(word).is_file():
            raise InputError(f"--segmenter: no such file: {word}")
        return WeightsPlace(place=word, kind="sam2", original=True)
    return _found(word, "--segmenter", _SEGMENTERS)


def _found(word: str, name: str, kinds: dict[str, WeightsKind]) -> WeightsPlace:
    kind = _model_type(word, name)
    if kind not in kinds:
        known = "SAM 2 or SAM 3" if kinds is _SEGMENTERS else "Grounding DINO or SAM 3"
        raise InputError(f"{name}: expected {known} ({', '.join(kinds)}), got {kind or 'a config of no model'}: {word}")
    return WeightsPlace(place=word, kind=kinds[kind])


def _model_type(word: str, name: str = "--segmenter") -> str:
    """What `config.json` of a folder, or of a hub id, says."""
    folder = Path(word)
    if folder.is_dir():
        file = folder / "config.json"
        if not file.is_file():
            raise InputError(f"{name}: expected a folder with config.json and weights, got none in {folder}")
        content = read_json(file, "model config")
        return str(content.get("model_type", "")) if isinstance(content, dict) else ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", word) or folder.parent.is_dir():
        raise InputError(f"{name}: expected a folder, a hub id or one of builtin, sam2, sam3, got {word}")
    from transformers import AutoConfig

    try:
        return str(AutoConfig.from_pretrained(word).model_type)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InputError(f"{name}: neither a folder nor a model that the hub gives: {word} ({reason})") from None


def _below_ckpt(name: str) -> Path | None:
    """A file or folder in `ckpt/` above the package (an editable install) or the current folder."""
    for place in (*Path(__file__).resolve().parents, Path.cwd(), *Path.cwd().parents):
        if (place / "ckpt" / name).exists():
            return place / "ckpt" / name
    return None
