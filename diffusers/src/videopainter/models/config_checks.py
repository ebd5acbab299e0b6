"""The JSON files of checkpoints, checked before anything is built from them: types, ranges, and against the weights.

A config that says `num_layers: 100000` would build for minutes, and one that says `"2"` fails inside a library. Every
number that sizes something is bounded by its family (`FamilyConfigs`), and compared with the weight files' headers.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from videopainter.files import read_json
from videopainter.flags import Range
from videopainter.models.backbones.registry import configs_of
from videopainter.models.checkpoint_files import FORMS
from videopainter.models.config_values import FamilyConfigs, Header, Rules, refuse, text_like

_MOST_HEADER = 2**27
_SCHEDULER_FILE = "scheduler_config.json"


def check_configs(
    model_path: str | Path, inpainting_branch: str | Path | None = None, id_adapter: str | Path | None = None
) -> None:
    """Look through the JSON of a backbone, a branch and the notes of an ID adapter; what is missing others tell.

    Raises:
        InputError: in one line, for the first value that cannot be, or that the weights beside it contradict.
    """
    configs = _check_backbone(Path(model_path))
    if inpainting_branch is not None and configs is not None:
        _check_part(configs, "branch", Path(inpainting_branch))
    if id_adapter is not None and Path(id_adapter).is_file():
        _check_notes(Path(id_adapter))


def _check_backbone(folder: Path) -> FamilyConfigs | None:
    """What the family's configs may say; None where it is not known, which others tell."""
    for name in ("model_index.json", "tokenizer/tokenizer_config.json", "image_processor/preprocessor_config.json"):
        if (folder / name).is_file():
            _object(folder / name)
    config = _config(
        folder / "transformer/config.json",
        {"_class_name": text_like(r"\w*Transformer3DModel", "a transformer of CogVideoX or Wan")},
    )
    configs = configs_of(config) if config is not None else None
    if configs is None:
        return None
    _config(folder / "model_index.json", configs.rules.get("index", {}))
    for part in ("transformer", "vae", "text_encoder", "image_encoder", "scheduler"):
        if part in configs.rules:
            _check_part(configs, part, folder / part)
    for part, key, transformers in configs.joints:
        found = (_config(folder / part / "config.json", {}) or {}).get(key)
        wanted = (config or {}).get(transformers)
        if found is not None and wanted is not None and found != wanted:
            refuse(key, f"{wanted} as the transformer's {transformers}", found, folder / part / "config.json")
    if (folder / "scheduler").is_dir() and not (folder / "scheduler" / _SCHEDULER_FILE).is_file():
        refuse("scheduler", f"a {_SCHEDULER_FILE}", "none", folder / "scheduler")
    if (folder / "tokenizer").is_dir():
        _check_tokenizer(folder / "tokenizer")
    return configs


def _check_part(configs: FamilyConfigs, part: str, folder: Path) -> None:
    file = folder / (_SCHEDULER_FILE if part == "scheduler" else "config.json")
    config = _config(file, configs.rules[part])
    if config is not None:
        configs.compare(part, config, _header(folder), file)


def _check_tokenizer(folder: Path) -> None:
    """Without its model transformers makes a tokenizer that knows no words, and prompts become noise."""
    if not (folder / "tokenizer_config.json").is_file():
        refuse("tokenizer", "a tokenizer_config.json", "none", folder)
    model = [folder / name for name in ("tokenizer.json", "spiece.model")]
    if not any(file.is_file() and file.stat().st_size for file in model):
        refuse("tokenizer", "its model (spiece.model or tokenizer.json)", "none", folder)
    if model[0].is_file():
        _object(model[0])


def _check_notes(file: Path) -> None:
    """What an ID adapter's file says of itself."""
    notes = (_read_header(file) or {}).get("__metadata__") or {}
    form = notes.get("id_resample_form", "exact")
    if form not in FORMS:
        refuse("id_resample_form", " or ".join(FORMS), form, file)
    _within("hole_fill", notes.get("hole_fill", "0"), Range(least=-1, most=1), file)
    try:
        lora = json.loads(notes.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        lora = None
    if not isinstance(lora, dict):
        refuse("lora_adapter_metadata", "a JSON object", notes["lora_adapter_metadata"], file)
    _within("lora_alpha", lora.get("transformer.lora_alpha", 1), Range(above=0, most=1e6), file)


def _within(name: str, value: Any, allowed: Range, file: Path) -> None:
    try:
        good = allowed.holds(float(value))
    except (TypeError, ValueError):
        good = False
    if not good:
        refuse(name, str(allowed), value, file)


# ---- configs


def _config(file: Path, rules: Rules) -> dict[str, Any] | None:
    """A config whose values are as the rules say; None where there is no such file."""
    if not file.is_file():
        return None
    config = _object(file)
    for name, check in rules.items():
        expected = check(config[name]) if name in config else None
        if expected is not None:
            refuse(name, expected, config[name], file)
    return config


def _object(file: Path) -> dict[str, Any]:
    content = read_json(file, "config", lenient=True)  # the name of what is not finite is told by its rule
    if not isinstance(content, dict):
        refuse("config", "a JSON object", type(content).__name__, file)
    return content


# ---- headers of weights


def _header(folder: Path) -> Header:
    """Shapes in a model folder's weight files, as far as they can be read."""
    shapes: Header = {}
    for file in sorted(folder.glob("*.safetensors")):
        entries = _read_header(file) or {}
        shapes |= {name: tuple(entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}
    for index in folder.glob("*.safetensors.index.json"):
        files = _object(index).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
            refuse("weight_map", "files by names of weights", files, index)
        outside = [name for name in files.values() if Path(name).name != name]
        if outside:
            refuse("weight_map", "names of files beside it", outside[0], index)
    return shapes


def _read_header(file: Path) -> dict[str, Any] | None:
    """A safetensors file's header; None where it has none, which others tell. InputError for one that is odd."""
    try:
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 0 < length <= min(_MOST_HEADER, file.stat().st_size):
                return None
            header = json.loads(stream.read(length))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or not all(_is_entry(name, entry) for name, entry in header.items()):
        refuse("weights", "a safetensors header", "something else", file)
    return header


def _is_entry(name: str, entry: Any) -> bool:
    if name == "__metadata__" or not isinstance(entry, dict):
        return isinstance(entry, dict)
    lists = [entry.get("shape"), entry.get("data_offsets")]
    return all(
        isinstance(one, list) and all(isinstance(size, int) and size >= 0 for size in one) for one in lists
    ) and (len(lists[1]) == 2)
