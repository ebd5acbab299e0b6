"""The JSON files of checkpoints, checked before anything is built from them: types, ranges, and against the weights.

A config that says `num_layers: 100000` would build for minutes, and one that says `"2"` fails inside a library. Every
number that sizes something is bounded here; what the weight files' headers can tell is compared with them.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from videopainter.errors import InputError
from videopainter.files import read_json
from videopainter.flags import Range, shown

Check = Callable[[Any], str | None]  # what was expected, None where the value is good
Header = dict[str, tuple[int, ...]]  # shapes by name
_MOST_HEADER = 2**27


def _whole(least: int, most: int, *, none: bool = False) -> Check:
    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if good or (none and value is None) else f"a whole number from {least} to {most}"

    return check


def _number(none: bool = False, **limits: float) -> Check:
    allowed = Range(**limits)

    def check(value: Any) -> str | None:
        good = isinstance(value, int | float) and not isinstance(value, bool) and allowed.holds(value)
        return None if good or (none and value is None) else str(allowed)

    return check


def _one_of(*names: str | None) -> Check:
    return lambda value: None if value in names else " or ".join(map(str, names))


def _named(pattern: str, what: str) -> Check:
    return lambda value: None if isinstance(value, str) and re.fullmatch(pattern, value) else what


def _widths(value: Any) -> str | None:
    good = isinstance(value, list) and 2 <= len(value) <= 8 and all(_whole(1, 8192)(one) is None for one in value)
    return None if good else "a list of 2 to 8 whole numbers from 1 to 8192"


_SIZES: dict[str, Check] = {
    "num_layers": _whole(1, 1000),
    "num_attention_heads": _whole(1, 1024),
    "attention_head_dim": _whole(1, 4096),
    "in_channels": _whole(1, 4096),
    "out_channels": _whole(1, 4096, none=True),
}
# Of CogVideoX; of other families the sizes alone are looked at.
_TRANSFORMER: dict[str, Check] = {
    **_SIZES,
    "sample_height": _whole(1, 2048),
    "sample_width": _whole(1, 2048),
    "sample_frames": _whole(1, 100_000),
    "max_text_seq_length": _whole(1, 4096),
    "patch_size": _whole(1, 64),
    "patch_size_t": _whole(1, 64, none=True),
    "text_embed_dim": _whole(1, 65_536),
    "time_embed_dim": _whole(1, 65_536),
}
_BRANCH = {**_TRANSFORMER, "hole_fill": _number(least=-1, most=1)}
_VAE: dict[str, Check] = {
    "_class_name": _one_of("AutoencoderKLCogVideoX"),
    "block_out_channels": _widths,
    "latent_channels": _whole(1, 1024),
    "layers_per_block": _whole(1, 64),
    "scaling_factor": _number(above=0, most=1e6),
    "shift_factor": _number(none=True),
    "norm_num_groups": _whole(1, 8192),
}
_TEXT: dict[str, Check] = {
    "d_model": _whole(1, 65_536),
    "d_ff": _whole(1, 2**20),
    "d_kv": _whole(1, 4096),
    "num_heads": _whole(1, 1024),
    "num_layers": _whole(1, 1000),
    "vocab_size": _whole(1, 10**7),
}
_SCHEDULER: dict[str, Check] = {
    "_class_name": _one_of("CogVideoXDPMScheduler", "CogVideoXDDIMScheduler"),
    "num_train_timesteps": _whole(1, 100_000),
    "beta_start": _number(above=0, below=1),
    "beta_end": _number(above=0, below=1),
    "beta_schedule": _one_of("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": _one_of("epsilon", "sample", "v_prediction"),
    "timestep_spacing": _one_of("leading", "linspace", "trailing"),
    "snr_shift_scale": _number(above=0, most=1000),
}
_PARTS = {"transformer": _TRANSFORMER, "vae": _VAE, "text_encoder": _TEXT, "scheduler": _SCHEDULER}
_SCHEDULER_FILE = "scheduler_config.json"
_FORMS = ("exact", "compact")


def check_configs(
    model_path: str | Path, inpainting_branch: str | Path | None = None, id_adapter: str | Path | None = None
) -> None:
    """Look through the JSON of a backbone, a branch and the notes of an ID adapter; what is missing others tell.

    Raises:
        InputError: in one line, for the first value that cannot be, or that the weights beside it contradict.
    """
    _check_backbone(Path(model_path))
    if inpainting_branch is not None:
        folder = Path(inpainting_branch)
        config = _config(folder / "config.json", _BRANCH)
        if config is not None and config.get("_class_name") == "CogvideoXBranchModel":
            _compare_transformer(config, _header(folder), folder / "config.json", channels=2 * _latents(config) + 1)
    if id_adapter is not None and Path(id_adapter).is_file():
        _check_notes(Path(id_adapter))


def _check_backbone(folder: Path) -> None:
    for name in ("model_index.json", "tokenizer/tokenizer_config.json"):
        if (folder / name).is_file():
            _object(folder / name)
    config = _config(
        folder / "transformer/config.json", {"_class_name": _named(r"\w*Transformer3DModel", "a CogVideoX transformer")}
    )
    if config is None or not re.match("CogVideoX|VideoPainter", config["_class_name"]):
        return
    found = {part: _config(folder / part / _file(part), rules) for part, rules in _PARTS.items()}
    if (folder / "scheduler").is_dir() and found["scheduler"] is None:
        _fail("scheduler", f"a {_SCHEDULER_FILE}", "none", folder / "scheduler")
    headers = {part: _header(folder / part) for part in ("transformer", "vae", "text_encoder")}
    _compare_transformer(config, headers["transformer"], folder / "transformer/config.json", config.get("in_channels"))
    if found["vae"] is not None:
        _compare_vae(found["vae"], headers["vae"], folder / "vae/config.json")
    if found["text_encoder"] is not None:
        _compare_text(found["text_encoder"], headers["text_encoder"], folder / "text_encoder/config.json")
    if (folder / "tokenizer").is_dir():
        _check_tokenizer(folder / "tokenizer")


def _check_tokenizer(folder: Path) -> None:
    """Without its model transformers makes a tokenizer that knows no words, and prompts become noise."""
    if not (folder / "tokenizer_config.json").is_file():
        _fail("tokenizer", "a tokenizer_config.json", "none", folder)
    model = [folder / name for name in ("tokenizer.json", "spiece.model")]
    if not any(file.is_file() and file.stat().st_size for file in model):
        _fail("tokenizer", "its model (spiece.model or tokenizer.json)", "none", folder)
    if model[0].is_file():
        _object(model[0])


def _check_notes(file: Path) -> None:
    """What an ID adapter's file says of itself."""
    notes = (_read_header(file) or {}).get("__metadata__") or {}
    form = notes.get("id_resample_form", "exact")
    if form not in _FORMS:
        _fail("id_resample_form", " or ".join(_FORMS), form, file)
    _within("hole_fill", notes.get("hole_fill", "0"), Range(least=-1, most=1), file)
    try:
        lora = json.loads(notes.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        lora = None
    if not isinstance(lora, dict):
        _fail("lora_adapter_metadata", "a JSON object", notes["lora_adapter_metadata"], file)
    _within("lora_alpha", lora.get("transformer.lora_alpha", 1), Range(above=0, most=1e6), file)


def _within(name: str, value: Any, allowed: Range, file: Path) -> None:
    try:
        good = allowed.holds(float(value))
    except (TypeError, ValueError):
        good = False
    if not good:
        _fail(name, str(allowed), value, file)


# ---- configs


def _file(part: str) -> str:
    return _SCHEDULER_FILE if part == "scheduler" else "config.json"


def _config(file: Path, rules: Mapping[str, Check]) -> dict[str, Any] | None:
    """A config whose values are as the rules say; None where there is no such file."""
    if not file.is_file():
        return None
    config = _object(file)
    for name, check in rules.items():
        expected = check(config[name]) if name in config else None
        if expected is not None:
            _fail(name, expected, config[name], file)
    return config


def _object(file: Path) -> dict[str, Any]:
    content = read_json(file, "config", lenient=True)  # the name of what is not finite is told by its rule
    if not isinstance(content, dict):
        _fail("config", "a JSON object", type(content).__name__, file)
    return content


def _fail(name: str, expected: str, got: object, file: Path) -> NoReturn:
    raise InputError(f"{name}: expected {expected}, got {shown(repr(got) if isinstance(got, str) else got)}, in {file}")


# ---- against the weights


def _header(folder: Path) -> Header:
    """Shapes in a model folder's weight files, as far as they can be read."""
    shapes: Header = {}
    for file in sorted(folder.glob("*.safetensors")):
        entries = _read_header(file) or {}
        shapes |= {name: tuple(entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}
    for index in folder.glob("*.safetensors.index.json"):
        files = _object(index).get("weight_map")
        if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
            _fail("weight_map", "files by names of weights", files, index)
        outside = [name for name in files.values() if Path(name).name != name]
        if outside:
            _fail("weight_map", "names of files beside it", outside[0], index)
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
        _fail("weights", "a safetensors header", "something else", file)
    return header


def _is_entry(name: str, entry: Any) -> bool:
    if name == "__metadata__" or not isinstance(entry, dict):
        return isinstance(entry, dict)
    lists = [entry.get("shape"), entry.get("data_offsets")]
    return all(
        isinstance(one, list) and all(isinstance(size, int) and size >= 0 for size in one) for one in lists
    ) and (len(lists[1]) == 2)


def _count(header: Header, prefix: str) -> int:
    """How many numbered parts the weights have under a prefix."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in header)
    return len({match[1] for match in found if match})


def _compare(name: str, stored: int | None, config: Mapping[str, Any], file: Path, *, of: object = None) -> None:
    got = config.get(name) if of is None else of
    if stored and got is not None and got != stored:
        _fail(name, f"{stored} as its weights", got, file)


def _compare_transformer(config: Mapping[str, Any], header: Header, file: Path, channels: int | None) -> None:
    _compare("num_layers", _count(header, "transformer_blocks"), config, file)
    shape = header.get("patch_embed.proj.weight")
    if shape is None:
        return
    heads, size = config.get("num_attention_heads", 30), config.get("attention_head_dim", 64)
    _compare("num_attention_heads * attention_head_dim", shape[0], config, file, of=heads * size)
    if len(shape) == 4:
        _compare("in_channels", shape[1], config, file, of=channels)
        _compare("patch_size", shape[2], config, file)
    text = header.get("patch_embed.text_proj.weight")
    _compare("text_embed_dim", text and text[1], config, file)


def _latents(config: Mapping[str, Any]) -> int:
    return config.get("out_channels") or 16


def _compare_vae(config: Mapping[str, Any], header: Header, file: Path) -> None:
    into, back = (header.get(f"{part}.conv_in.conv.weight") for part in ("encoder", "decoder"))
    widths = config.get("block_out_channels")
    if widths:
        _compare("block_out_channels", into and into[0], config, file, of=widths[0])
        _compare("block_out_channels", _count(header, "encoder.down_blocks"), config, file, of=len(widths))
    _compare("latent_channels", back and back[1], config, file)
    _compare("layers_per_block", _count(header, "encoder.down_blocks.0.resnets"), config, file)


def _compare_text(config: Mapping[str, Any], header: Header, file: Path) -> None:
    table = header.get("shared.weight") or header.get("encoder.embed_tokens.weight")
    _compare("vocab_size", table and table[0], config, file)
    _compare("d_model", table and table[1], config, file)
    _compare("num_layers", _count(header, "encoder.block"), config, file)
