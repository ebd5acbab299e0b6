"""The only place that loads models: checks first, without torch; then builds a pipeline for the memory at hand."""

from __future__ import annotations

import importlib.util
import json
import logging
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopainter.models.adapter_file import adapter_file
from videopainter.models.backbones.registry import codec_of
from videopainter.models.config_checks import check_configs
from videopainter.pipelines.memory import Choice, Workload, choose, held, model_sizes
from videopainter.pipelines.step_cache import StepCache, enable_step_cache

if TYPE_CHECKING:
    import torch

    from videopainter.pipelines.inpaint import VideoPainterPipeline

logger = logging.getLogger("videopainter.loading")
MEMORY_MODES = ("auto", "full", "model_offload", "group_offload", "sequential")
QUANTIZATIONS = ("none", "int8", "fp8", "nf4")
SCHEDULERS = {"dpm": "CogVideoXDPMScheduler", "ddim": "CogVideoXDDIMScheduler"}
BACKBONE_PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
BRANCH_CLASS = "CogvideoXBranchModel"
# Of branch and backbone: what must be alike for features to fit.
SHARED_CONFIG = (
    "num_attention_heads",
    "attention_head_dim",
    "out_channels",
    "patch_size",
    "patch_size_t",
    "text_embed_dim",
)


def check_checkpoints(
    model_path: str | Path, inpainting_branch: str | Path | None = None, id_adapter: str | Path | None = None
) -> None:
    """Find out in milliseconds whether these folders can be loaded together.

    Raises:
        ValueError: in one line, for a missing folder or part, a truncated weight file, or a branch or adapter of
        another
            backbone.
    """
    check_configs(model_path, inpainting_branch, id_adapter)
    backbone = _check_backbone(Path(model_path))
    if inpainting_branch is not None:
        _check_branch(Path(inpainting_branch), backbone, Path(model_path))
    if id_adapter is not None:
        _check_adapter(Path(id_adapter), backbone)


def _check_backbone(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(
            f"model: expected a folder with a CogVideoX checkpoint, found none at {folder}; "
            "the README says how to download one"
        )
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder}: expected a CogVideoX checkpoint, model_index.json is missing")
    missing = [part for part in BACKBONE_PARTS if not (folder / part).is_dir()]
    if missing:
        raise ValueError(f"{folder}: expected the parts {', '.join(BACKBONE_PARTS)}; missing: {', '.join(missing)}")
    for part in ("text_encoder", "vae"):
        read_config(folder / part)
        _check_weights(folder / part)
    config = read_config(folder / "transformer")
    if not config.get("_class_name", "").endswith("Transformer3DModel") or "num_layers" not in config:
        raise ValueError(f"{folder}/transformer: expected a CogVideoX transformer, got {config.get('_class_name')}")
    _check_weights(folder / "transformer")
    return config


def _check_branch(folder: Path, backbone: dict[str, Any], model_path: Path) -> None:
    if not folder.is_dir():
        raise ValueError(f"inpainting branch: expected a folder with {BRANCH_CLASS} weights, found none at {folder}")
    config = read_config(folder)
    if config.get("_class_name") != BRANCH_CLASS:
        raise ValueError(f"{folder}: expected a {BRANCH_CLASS}, got {config.get('_class_name')}")
    for name in SHARED_CONFIG:
        if config.get(name) != backbone.get(name):
            raise ValueError(
                f"{folder}: expected a branch for {model_path} ({name} {backbone.get(name)}), "
                f"got {name} {config.get(name)}"
            )
    if config["num_layers"] > backbone["num_layers"]:
        raise ValueError(f"{folder}: expected at most {backbone['num_layers']} layers, got {config['num_layers']}")
    _check_weights(folder)


def _check_adapter(path: Path, backbone: dict[str, Any]) -> None:
    file = adapter_file(path)
    header = read_safetensors_header(file)
    downs = [entry["shape"] for key, entry in header.items() if key.endswith("lora_A.weight")]
    width = backbone["num_attention_heads"] * backbone["attention_head_dim"]
    if not downs:
        raise ValueError(f"{file}: expected LoRA weights of a backbone's attention, got none")
    if downs[0][1] != width:
        raise ValueError(f"{file}: expected an ID adapter for a backbone {width} wide, got one {downs[0][1]} wide")


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{folder}: expected a model folder, {name} is missing")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: one, or the shards that its index names.

    Raises:
        ValueError: if there is none, or a shard is missing.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        files = [path for path in sorted(folder.glob("*.safetensors")) if "lora" not in path.name]
        if not files:
            raise ValueError(f"{folder}: expected weights in .safetensors files, found none")
        return files
    names = sorted(set(json.loads(indices[0].read_text())["weight_map"].values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder}: {indices[0].name} names weights that are missing: {', '.join(missing)}")
    return [folder / name for name in names]


def _check_weights(folder: Path) -> None:
    for path in weight_files(folder):
        read_safetensors_header(path)


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """Names, shapes and places of a file's tensors, without metadata.

    Raises:
        ValueError: if it is not a safetensors file, or shorter than its header says (a broken download, a git-lfs
        pointer).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= size - 8:
            raise ValueError(f"{path}: expected a safetensors file, got {size} bytes that are not (git-lfs pointer?)")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise ValueError(f"{path}: expected a safetensors file, its header is damaged") from None
    header.pop("__metadata__", None)
    end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if end != size:
        raise ValueError(f"{path}: expected {end} bytes of weights, got {size}; is the download complete?")
    return header


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """A safetensors file's own notes; `read_safetensors_header` has checked the file."""
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)).get("__metadata__") or {}


def load_pipeline(
    model_path: str | Path,
    *,
    inpainting_branch: str | Path | None = None,
    id_adapter: str | Path | None = None,
    dtype: torch.dtype | None = None,
    memory: str = "auto",
    quantization: str | None = None,
    compile: bool = False,
    device: str | torch.device | None = None,
    scheduler: str = "dpm",
    cache: StepCache | None = None,
    workload: Workload | None = None,
    extra_adapters: Sequence[str | Path] = (),
) -> VideoPainterPipeline:
    """Load a backbone with its branch and ID adapter.

    Args:
        dtype: None: bfloat16 on a GPU, float32 on a CPU.
        memory: ``full`` keeps everything on the device, ``model_offload`` one model at a time, ``group_offload`` a
        few blocks
            at a time (overlapped with compute), ``sequential`` one layer at a time; ``auto`` chooses by free memory,
            and whether the VAE works in tiles.
        quantization: Weights of backbone and text encoder: ``int8`` or ``fp8`` (torchao), ``nf4`` (bitsandbytes, GPU).
        compile: Compile the repeated blocks.
        device: None: the GPU if there is one.
        scheduler: ``dpm`` (the release's) or ``ddim``.
        cache: Leaves out work where steps are alike; None: every step is computed.
        workload: The largest thing that the pipeline will do, for `memory`. None: 49 frames of the backbone's own size
            with guidance, without ID resampling.
        extra_adapters: LoRAs that will be loaded later; `memory` counts them.

    Raises:
        ValueError: see `check_checkpoints`; for unknown names; for weights that do not match exactly.
    """
    check_checkpoints(model_path, inpainting_branch, id_adapter)
    _check_choice("memory", memory, MEMORY_MODES)
    check_quantization(quantization or "none")
    _check_choice("scheduler", scheduler, tuple(SCHEDULERS))

    import torch

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    choice = Choice("full" if memory == "auto" else memory, memory not in ("auto", "full"), 0)
    if device.type == "cuda":
        choice = choose_memory(
            Path(model_path),
            inpainting_branch,
            [path for path in (id_adapter, *extra_adapters) if path is not None],
            workload=workload,
            itemsize=dtype.itemsize,
            quantization=quantization or "none",
            free=torch.cuda.mem_get_info(device)[0],
            mode=memory,
        )
    if device.type == "cuda" and device.index is not None:
        # bitsandbytes loads onto the current device: without this all processes onto the first.
        torch.cuda.set_device(device)
    pipe = _build(Path(model_path), inpainting_branch, dtype, quantization or "none", scheduler)
    if id_adapter is not None:
        pipe.load_id_adapter(id_adapter)
        _check_hole_fill(pipe, id_adapter)
    if cache is not None:
        enable_step_cache(pipe, cache)
    place(pipe, device, choice.mode, tiling=choice.tiling)
    if compile:
        pipe.transformer.compile_repeated_blocks()
        if pipe.branch is not None:
            pipe.branch.compile_repeated_blocks()
    return pipe


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected {', '.join(choices)}, got {value!r}")


def _build(
    folder: Path, branch_path: str | Path | None, dtype: torch.dtype, quantization: str, scheduler: str
) -> VideoPainterPipeline:
    import diffusers
    from diffusers import AutoencoderKLCogVideoX
    from transformers import AutoTokenizer, T5EncoderModel

    from videopainter.models.context_branch import CogvideoXBranchModel
    from videopainter.models.finite import check_weights
    from videopainter.models.transformer import VideoPainterTransformer3DModel
    from videopainter.pipelines.inpaint import VideoPainterPipeline

    quantized = _quantization_options(quantization)
    transformer = load_strictly(VideoPainterTransformer3DModel, folder / "transformer", dtype, **quantized("diffusers"))
    branch = load_strictly(CogvideoXBranchModel, Path(branch_path), dtype) if branch_path is not None else None
    vae = load_strictly(AutoencoderKLCogVideoX, folder / "vae", dtype)
    text_encoder = T5EncoderModel.from_pretrained(
        folder / "text_encoder", dtype=dtype, local_files_only=True, **quantized("transformers")
    )
    check_weights(text_encoder.state_dict().items(), folder / "text_encoder")
    return VideoPainterPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        text_encoder=text_encoder.eval(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=getattr(diffusers, SCHEDULERS[scheduler]).from_pretrained(folder / "scheduler"),
        branch=None if branch is None else branch.eval(),
    )


def load_strictly(cls: Any, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """`from_pretrained` of a diffusers model that refuses missing or unknown weights, and weights that are no numbers.

    Raises:
        ValueError: naming the first of them.
    """
    from videopainter.models.finite import check_weights

    model, info = cls.from_pretrained(
        folder, torch_dtype=dtype, output_loading_info=True, local_files_only=True, use_safetensors=True, **options
    )
    for kind, names in (("missing", info["missing_keys"]), ("unknown", info["unexpected_keys"])):
        if names:
            raise ValueError(
                f"{folder}: expected exactly the weights of {cls.__name__}, "
                f"{len(names)} {kind}, such as {sorted(names)[0]}"
            )
    check_weights(model.state_dict().items(), folder)
    return model


def check_quantization(quantization: str) -> None:
    """Whether the name is known and its library installed; ValueError otherwise. Imports nothing heavy."""
    _check_choice("quantization", quantization, QUANTIZATIONS)
    library = {"none": None, "nf4": "bitsandbytes"}.get(quantization, "torchao")
    if library is not None and importlib.util.find_spec(library) is None:
        raise ValueError(
            f"quantization {quantization}: expected {library} to be installed: pip install -e 'diffusers[quant]'"
        )


def _quantization_options(quantization: str) -> Any:
    """A function from library ("diffusers", "transformers") to the keyword for its `from_pretrained`."""
    if quantization == "none":
        return lambda library: {}
    return lambda library: {"quantization_config": quantization_config(quantization, library)}


def quantization_config(quantization: str, library: str) -> Any:
    module = importlib.import_module(library)
    if quantization == "nf4":
        import torch

        return module.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    torchao = importlib.import_module("torchao.quantization")
    kind = torchao.Int8WeightOnlyConfig() if quantization == "int8" else torchao.Float8WeightOnlyConfig()
    return module.TorchAoConfig(kind)


def _check_hole_fill(pipe: VideoPainterPipeline, id_adapter: str | Path) -> None:
    assert pipe.id_adapter is not None
    if pipe.branch is not None and pipe.branch.config.hole_fill != pipe.id_adapter.hole_fill:
        raise ValueError(
            f"{id_adapter}: expected an ID adapter trained with holes filled with {pipe.branch.config.hole_fill} "
            f"as the branch, got {pipe.id_adapter.hole_fill}"
        )


def place(pipe: VideoPainterPipeline, device: torch.device, mode: str, *, tiling: bool) -> None:
    """Put the models where a memory mode says; `tiling` lets the VAE work in tiles."""
    if tiling:
        codec_of(pipe.vae).tile()
    if mode == "full":
        pipe.to(device)
    elif mode == "model_offload":
        pipe.enable_model_cpu_offload(device=device)
    elif mode == "sequential":
        # Not upstream's `enable_sequential_cpu_offload`: that breaks on T5's tied embedding (accelerate 1.15).
        pipe.enable_group_offload(onload_device=device, offload_type="leaf_level")
    else:
        _offload_by_blocks(pipe, device)


def _offload_by_blocks(pipe: VideoPainterPipeline, device: torch.device) -> None:
    """The backbone block by block, the next on its way while one computes (upstream takes groups of one with streams).

    T5's blocks lie deeper than upstream looks: as one group all of it, 9 GiB, would be loaded; so layer by layer.
    """
    from diffusers.hooks import apply_group_offloading

    pipe.enable_group_offload(
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        exclude_modules=["vae", "branch", "text_encoder"],
    )
    if pipe.text_encoder is not None:  # prompts may come as embeddings
        pipe.text_encoder.to("cpu")
        apply_group_offloading(pipe.text_encoder, onload_device=device, offload_type="leaf_level")


def choose_memory(
    model_path: Path,
    inpainting_branch: str | Path | None,
    adapters: Sequence[str | Path],
    *,
    workload: Workload | None,
    itemsize: int,
    quantization: str,
    free: int,
    mode: str = "auto",
) -> Choice:
    """The fastest mode that fits into `free` bytes, from file headers: nothing is loaded.

    A `mode` that was asked for is kept: figures are computed, not measured. Where it seems not to fit, a warning says
    so, and what would.

    Raises:
        ValueError: in one line, where nothing fits.
    """
    headers = {part: _headers(model_path / part) for part in ("text_encoder", "transformer", "vae")}
    if inpainting_branch is not None:
        headers["branch"] = _headers(Path(inpainting_branch))
    files = [read_safetensors_header(adapter_file(path)) for path in adapters]
    headers["adapters"] = {f"{index}.{name}": entry for index, file in enumerate(files) for name, entry in file.items()}
    config = read_config(model_path / "transformer")
    sizes = model_sizes(headers, config, read_config(model_path / "vae"), itemsize=itemsize, quantization=quantization)
    if workload is None:
        scale = 8
        workload = Workload(height=scale * config["sample_height"], width=scale * config["sample_width"])
    if mode == "auto":
        return choose(sizes, workload, free)
    choice, line = held(sizes, workload, free, mode)
    if line:
        logger.warning(line)
    return choice


def _headers(folder: Path) -> dict[str, Any]:
    return {name: entry for path in weight_files(folder) for name, entry in read_safetensors_header(path).items()}
