"""Which weights a run uses, checked from file headers before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import videopainter
from videopainter.errors import InputError
from videopainter.files import read_json, sha256_text
from videopainter.metrics.networks.downloads import clip_folder
from videopainter.models.backbones.registry import check_form, facts_of, scheduler_name
from videopainter.models.checkpoint_files import adapter_file, read_config, read_safetensors_header
from videopainter.runs.options import ModelOptions, SamplingOptions
from videopainter.runs.results.manifest import Hasher, model_files

_TINY = Path("ckpt/tiny")
BACKBONE = "CogVideoX-5b-I2V"
BRANCH = "VideoPainter/checkpoints/branch"
# In the backbone's folder: what suits a checkpoint, flag -> value.
DEFAULTS_FILE = "inference_defaults.json"
FIRST_FRAME_FLAG = "img_inpainting_model"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Folders, files or hub ids of one run's models; `model_path` is empty where no model is used."""

    model_path: str
    inpainting_branch: str | None = None
    id_adapter: str | None = None
    lora: str | None = None

    def roles(self) -> dict[str, str]:
        """What is set, by role."""
        return {role: path for role, path in vars(self).items() if path}


def resolve_weights(options: ModelOptions) -> Weights:
    """Paths as given, or the repository's `ckpt/tiny` where no model is named.

    Raises:
        InputError: no model named and no `ckpt/tiny` found, or an adapter's rank is not `lora_rank`.
    """
    model_path, branch = options.model_path, options.inpainting_branch
    if model_path is None:
        tiny = find_tiny()
        model_path, branch = str(tiny / BACKBONE), branch or str(tiny / BRANCH)
    if branch is None:
        raise InputError(
            f"--inpainting_branch: expected one with --model_path {model_path}, got none: the backbone "
            "alone does not inpaint"
        )
    weights = Weights(
        model_path=model_path,
        inpainting_branch=branch,
        id_adapter=options.id_adapter_resample_learnable_path,
        lora=options.lora_path,
    )
    _check_ranks(weights, options.lora_rank)
    return weights


def find_tiny() -> Path:
    """The repository's own small checkpoint, found above the package (an editable install) or the current folder."""
    places = [*upwards(Path(videopainter.__file__).resolve().parent), *upwards(Path.cwd())]
    for place in places:
        if (place / _TINY / BACKBONE).is_dir():
            return place / _TINY
    raise InputError(
        f"--model_path: expected a model, got none, nor {_TINY / BACKBONE} above the package or the current folder: "
        "run from a clone of the repository, or name a model"
    )


def find_ckpt(given: str | None) -> Path:
    """The folder of the metrics' weights: as given, or `ckpt` of the repository; it need not hold any."""
    if given is not None:
        if not Path(given).is_dir():
            raise InputError(f"--ckpt: expected a folder, got none at {given}")
        return Path(given)
    places = [*upwards(Path(videopainter.__file__).resolve().parent), *upwards(Path.cwd())]
    return next((place / "ckpt" for place in places if (place / "ckpt").is_dir()), Path("ckpt"))


def choosing_clip(choice: str | None) -> Path | None:
    """The folder of the CLIP model that `--choose_first_frame` names; None where that is a number, or nothing."""
    name, colon, folder = (choice or "").partition(":")
    if name != "clip":
        return None
    return Path(folder) if colon else clip_folder(find_ckpt(None))


def upwards(folder: Path) -> list[Path]:
    return [folder, *folder.parents]


def _check_ranks(weights: Weights, expected: int | None) -> None:
    adapters = [path for path in (weights.id_adapter, weights.lora) if path is not None]
    if expected is not None and not adapters:
        raise InputError(
            f"--lora_rank {expected} belongs to --lora_path or --id_adapter_resample_learnable_path; neither is given"
        )
    for path in adapters:
        file = adapter_file(path)
        ranks = lora_ranks(file)
        if not ranks:
            raise InputError(f"expected LoRA weights (keys with lora_A), found none: {file}")
        if expected is not None and ranks != {expected}:
            raise InputError(f"--lora_rank {expected}, but the weights have rank {_numbers(ranks)}: {file}")


def sampler_name(weights: Weights, asked: str) -> str:
    """The sampler that a run has; ValueError where its backbone has no such one."""
    if not weights.model_path:
        return asked  # no model is used
    return scheduler_name(facts_of(read_config(Path(weights.model_path) / "transformer")), asked)


def check_resampling(weights: Weights, asked: str) -> None:
    """ValueError for a form of ID resampling (`--id_resample`) that the backbone's family does not have."""
    if weights.model_path and asked not in ("auto", "off"):
        check_form(facts_of(read_config(Path(weights.model_path) / "transformer")), asked)


def check_tokens(weights: Weights, height: int | None, width: int | None) -> None:
    """ValueError for `--height` or `--width` that are not whole tokens of the backbone."""
    if weights.model_path:
        facts_of(read_config(Path(weights.model_path) / "transformer")).grid.check_size(height, width)


def check_heads(weights: Weights, processes: int) -> None:
    """InputError where attention's heads cannot be shared out over processes that share a video's tokens."""
    if processes == 1:
        return
    heads = read_config(Path(weights.model_path) / "transformer")["num_attention_heads"]
    if heads % processes:
        counts = ", ".join(str(count) for count in range(1, heads + 1) if heads % count == 0)
        raise InputError(
            f"--context_parallel: expected a divisor of the backbone's {heads} attention heads ({counts}), "
            f"got {processes}, for {weights.model_path}"
        )


def check_lora_fits(weights: Weights) -> None:
    """InputError where the extra LoRA's attention projections are not of the backbone's width."""
    if weights.lora is None:
        return
    width = facts_of(read_config(Path(weights.model_path) / "transformer")).width
    file = adapter_file(weights.lora)
    for key, entry in read_safetensors_header(file).items():
        if key.endswith("attn1.to_q.lora_A.weight") and entry["shape"][1] != width:
            raise InputError(
                f"--lora_path: expected a LoRA of a backbone {width} wide, got one {entry['shape'][1]} wide: {file}"
            )


def lora_ranks(file: Path) -> set[int]:
    """Ranks in a LoRA file: the first size of every `lora_A` (or `lora.down`) matrix."""
    header = read_safetensors_header(file)
    down = [entry for key, entry in header.items() if "lora_A" in key or "lora.down" in key]
    return {int(entry["shape"][0]) for entry in down}


def weight_digests(roles: dict[str, str], hasher: Hasher) -> dict[str, str]:
    """One sha256 per role over names and contents of its files; hub ids stand for themselves."""
    return {role: _digest(path, hasher) for role, path in roles.items()}


def file_digests(path: str, hasher: Hasher) -> dict[str, str]:
    """{name inside the folder: sha256} of the weights and configs at `path`; empty for a hub id."""
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    files = model_files(path)
    digests = hasher.files(files)
    return {file.relative_to(root).as_posix(): digests[str(file)] for file in files}


def _digest(path: str, hasher: Hasher) -> str:
    digests = file_digests(path, hasher)
    lines = [f"{name} {digest}" for name, digest in digests.items()]
    return sha256_text("\n".join(lines)) if lines else path


def _numbers(values: set[int]) -> str:
    return ", ".join(str(value) for value in sorted(values))


def checkpoint_defaults(given: Mapping[str, Any]) -> Mapping[str, str]:
    """What the folder of `--model_path` names for flags of `SamplingOptions` and for `--img_inpainting_model`, as text;
    empty without the file.

    Raises:
        InputError: the file is no JSON object of such flags with plain values.
    """
    folder = Path(given["model_path"]) if given.get("model_path") else _tiny_backbone()
    file = folder / DEFAULTS_FILE if folder is not None else None
    if file is None or not file.is_file():
        return {}
    content = read_json(file, "inference defaults")
    known = {one.name for one in fields(SamplingOptions)} | {FIRST_FRAME_FLAG}
    if not isinstance(content, dict):
        raise InputError(f"inference defaults: expected an object of flags, got {type(content).__name__}, in {file}")
    for name, value in content.items():
        if name not in known or not isinstance(value, str | int | float | bool):
            raise InputError(
                f"inference defaults: expected sampling flags or {FIRST_FRAME_FLAG} with plain values, "
                f"got {name!r}, in {file}"
            )
    return {name: str(value) for name, value in content.items()}


def _tiny_backbone() -> Path | None:
    try:
        return find_tiny() / BACKBONE
    except InputError:
        return None  # told when weights are resolved, if it matters
