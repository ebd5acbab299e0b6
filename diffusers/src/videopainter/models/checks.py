"""Whether checkpoint folders fit together: milliseconds, without torch, before anything loads."""

from __future__ import annotations

from pathlib import Path

from videopainter.models.backbones.protocol import Facts
from videopainter.models.backbones.registry import check_form, facts_of, is_backbone
from videopainter.models.checkpoint_files import (
    adapter_file,
    read_config,
    read_safetensors_header,
    read_safetensors_metadata,
    safetensors_files,
)
from videopainter.models.config_checks import check_configs


def check_checkpoints(
    model_path: str | Path, inpainting_branch: str | Path | None = None, id_adapter: str | Path | None = None
) -> None:
    """Find out whether these folders can be loaded together.

    Raises:
        ValueError: in one line, for a missing folder or part, a truncated weight file, or a branch or adapter of
            another backbone.
    """
    check_configs(model_path, inpainting_branch, id_adapter)
    backbone = _check_backbone(Path(model_path))
    if inpainting_branch is not None:
        _check_branch(Path(inpainting_branch), backbone, Path(model_path))
    if id_adapter is not None:
        _check_adapter(Path(id_adapter), backbone)


def _check_backbone(folder: Path) -> Facts:
    if not folder.is_dir():
        raise ValueError(
            f"model: expected a folder with a checkpoint of CogVideoX or Wan, found none at {folder}; "
            "the README says how to download one"
        )
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder}: expected a checkpoint of CogVideoX or Wan, model_index.json is missing")
    config = read_config(folder / "transformer")
    if not is_backbone(config) or "num_layers" not in config:
        raise ValueError(
            f"{folder}/transformer: expected a transformer of CogVideoX or Wan, got {config.get('_class_name')}"
        )
    facts = facts_of(config)
    missing = [part for part in facts.parts if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"{folder}: expected the parts {', '.join(facts.parts)}; missing: {', '.join(missing)}")
    foreign = [part for part in facts.foreign_parts if (folder / part).is_dir()]
    if foreign:
        raise ValueError(
            f"{folder}: expected a checkpoint without {foreign[0]}: that kind of {facts.family} is not supported"
        )
    for part in ("text_encoder", "image_encoder", "vae", "transformer"):
        if part in facts.parts:
            read_config(folder / part)
            _check_weights(folder / part)
    if "image_processor" in facts.parts:
        read_config(folder / "image_processor", "preprocessor_config.json")
    return facts


def _check_branch(folder: Path, backbone: Facts, model_path: Path) -> None:
    expected = backbone.branch_class
    if not folder.is_dir():
        raise ValueError(f"inpainting branch: expected a folder with {expected} weights, found none at {folder}")
    config = read_config(folder)
    if config.get("_class_name") != expected:
        raise ValueError(f"{folder}: expected a {expected}, got {config.get('_class_name')}")
    for name in backbone.shared_config:
        if config.get(name) != backbone.config.get(name):
            raise ValueError(
                f"{folder}: expected a branch for {model_path} ({name} {backbone.config.get(name)}), "
                f"got {name} {config.get(name)}"
            )
    layers = config.get("num_layers")
    if layers is None or layers > backbone.num_layers:
        raise ValueError(f"{folder}: expected at most {backbone.num_layers} layers, got num_layers {layers}")
    _check_weights(folder)


def _check_adapter(path: Path, backbone: Facts) -> None:
    file = adapter_file(path)
    check_form(backbone, read_safetensors_metadata(file).get("id_resample_form", "exact"), file)
    header = read_safetensors_header(file)
    names = [key for key in header if key.endswith("lora_A.weight")]
    downs = [header[key]["shape"] for key in names]
    if not downs:
        raise ValueError(f"{file}: expected LoRA weights of a backbone's attention, got none")
    if not any(key.startswith(f"transformer.{backbone.blocks}.") for key in names):
        raise ValueError(f"{file}: expected an ID adapter for {backbone.family} ({backbone.blocks}), got {names[0]}")
    if downs[0][1] != backbone.width:
        raise ValueError(
            f"{file}: expected an ID adapter for a backbone {backbone.width} wide, got one {downs[0][1]} wide"
        )


def _check_weights(folder: Path) -> None:
    for path in safetensors_files(folder):
        read_safetensors_header(path)
