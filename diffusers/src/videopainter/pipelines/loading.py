"""The only place that loads models: checks first, without torch; then builds a pipeline for the memory at hand."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopainter.models.backbones.registry import backbone_from, facts_of, scheduler_name
from videopainter.models.checkpoint_files import read_config
from videopainter.models.checks import check_checkpoints
from videopainter.pipelines.memory import Choice, Workload
from videopainter.pipelines.placement import MEMORY_MODES, choose_memory, place
from videopainter.pipelines.quantization import check_quantization, loading_options
from videopainter.pipelines.step_cache import StepCache, enable_step_cache

if TYPE_CHECKING:
    import torch

    from videopainter.models.backbones.leading import TokenGroup
    from videopainter.pipelines.inpaint import InpaintingPipeline

_LORA_NAME = "extra"


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
    scheduler: str = "auto",
    cache: StepCache | None = None,
    workloads: Sequence[Workload] = (),
    extra_adapters: Sequence[str | Path] = (),
    token_group: TokenGroup | None = None,
) -> InpaintingPipeline:
    """Load a backbone with its branch and ID adapter.

    Args:
        dtype: None: bfloat16 on a GPU, float32 on a CPU.
        memory: ``full`` keeps everything on the device, ``model_offload`` one model at a time, ``group_offload`` a few
            blocks at a time (overlapped with compute), ``sequential`` one layer at a time; ``auto`` chooses by free
            memory, and whether the VAE works in tiles.
        quantization: Weights of backbone and text encoder: ``int8`` or ``fp8`` (torchao), ``nf4`` (bitsandbytes, GPU).
        compile: Compile the repeated blocks.
        device: None: the GPU if there is one.
        scheduler: CogVideoX: ``dpm`` (the release's) or ``ddim``; Wan: ``unipc`` or ``euler``. ``auto``: the first.
        cache: Leaves out work where steps are alike; None: every step is computed.
        workloads: What the pipeline will do, for `memory`; see `choose_memory`.
        extra_adapters: LoRAs that will be loaded later; `memory` counts them.
        token_group: Processes that share the tokens of a video. Its leader loads what it loads alone, and tells the
            others; they load what takes part in passes.

    Raises:
        ValueError: see `check_checkpoints`; for unknown names; for weights that do not match exactly.
    """
    folder, quantization = Path(model_path), quantization or "none"
    check_checkpoints(model_path, inpainting_branch, id_adapter)
    check_quantization(quantization)
    _check_choice("memory", memory, MEMORY_MODES)
    scheduler = scheduler_name(facts_of(read_config(folder / "transformer")), scheduler)

    import torch

    from videopainter.models.token_share import share_tokens

    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    adapters = [path for path in (id_adapter, *extra_adapters) if path is not None]
    follows = token_group is not None and not token_group.leads
    if follows:
        choice = Choice(memory, False, 0)  # the leader's, which has more to hold
    else:
        choice = _memory_choice(folder, inpainting_branch, adapters, workloads, device, dtype, quantization, memory)
    if token_group is not None and token_group.leads:
        token_group.tell(
            "load",
            model_path=model_path,
            inpainting_branch=inpainting_branch,
            id_adapter=id_adapter,
            dtype=dtype,
            memory=choice.mode,
            quantization=quantization,
            compile=compile,
            cache=cache,
            extra_adapters=extra_adapters,
        )
    pipe = _build(folder, inpainting_branch, dtype, quantization, scheduler, passes_only=follows)
    if id_adapter is not None:
        pipe.load_id_adapter(id_adapter)
        _check_hole_fill(pipe, id_adapter)
    # Hooks of caches before those of offloading.
    if cache is not None:
        enable_step_cache(pipe, cache)
    if token_group is not None:
        share_tokens([model for model in (pipe.transformer, pipe.branch) if model is not None], token_group.mesh)
        pipe.token_group = token_group if token_group.leads else None
    place(pipe, device, choice.mode, tiling=choice.tiling)
    if compile:
        for model in (pipe.transformer, pipe.branch):
            if model is not None:
                model.compile_repeated_blocks()
    if token_group is not None:
        token_group.wait()  # on the host: devices wait for minutes at most
    return pipe


def add_lora(pipe: Any, path: str | Path) -> None:
    """Load one more LoRA beside what is active: a newly loaded one would take the ID adapter's place."""
    active = pipe.get_active_adapters()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two adapters are meant
        pipe.load_lora_weights(path, adapter_name=_LORA_NAME)
    pipe.set_adapters([*active, _LORA_NAME])


def _memory_choice(
    folder: Path,
    branch_path: str | Path | None,
    adapters: Sequence[str | Path],
    workloads: Sequence[Workload],
    device: torch.device,
    dtype: torch.dtype,
    quantization: str,
    mode: str,
) -> Choice:
    """Where models are kept, from the headers of their files; on a CPU as asked."""
    if device.type != "cuda":
        return Choice("full" if mode == "auto" else mode, mode not in ("auto", "full"), 0)
    import torch

    choice = choose_memory(
        folder,
        branch_path,
        adapters,
        workloads=workloads,
        itemsize=dtype.itemsize,
        quantization=quantization,
        free=torch.cuda.mem_get_info(device)[0],
        mode=mode,
    )
    if device.index is not None:
        # bitsandbytes loads onto the current device: without this all processes onto the first.
        torch.cuda.set_device(device)
    return choice


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected {', '.join(choices)}, got {value!r}")


def _build(
    folder: Path,
    branch_path: str | Path | None,
    dtype: torch.dtype,
    quantization: str,
    scheduler: str,
    *,
    passes_only: bool,
) -> InpaintingPipeline:
    """`passes_only`: without VAE and encoders."""
    from videopainter.pipelines.inpaint import PIPELINES

    transformer = load_transformer(folder, dtype, **loading_options(quantization, "diffusers"))
    branch = None if branch_path is None else load_branch(folder, branch_path, dtype)
    facts = facts_of(read_config(folder / "transformer"))
    vae = tokenizer = text_encoder = None
    more = {}
    if not passes_only:
        vae = load_vae(folder, dtype)
        tokenizer, text_encoder = load_text_encoder(folder, dtype, **loading_options(quantization, "transformers"))
        if "image_encoder" in facts.parts:
            more["image_processor"], more["image_encoder"] = load_image_encoder(folder, dtype)
    return PIPELINES[facts.pipeline](
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=load_scheduler(folder, scheduler),
        branch=branch,
        **more,
    )


# ---- parts of a checkpoint, on the CPU, in evaluation mode


def load_transformer(folder: str | Path, dtype: torch.dtype, **options: Any) -> Any:
    """The backbone of a checkpoint."""
    return load_exactly(_classes(folder).transformer, Path(folder) / "transformer", dtype, **options)


def load_branch(folder: str | Path, branch_path: str | Path, dtype: torch.dtype) -> Any:
    """A context encoder for the checkpoint in `folder`."""
    return load_exactly(_classes(folder).branch, Path(branch_path), dtype)


def load_vae(folder: str | Path, dtype: torch.dtype) -> Any:
    """The VAE of a checkpoint."""
    return load_exactly(_classes(folder).vae, Path(folder) / "vae", dtype)


def load_text_encoder(folder: str | Path, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """The (tokenizer, text encoder) of a checkpoint."""
    from transformers import AutoTokenizer

    from videopainter.models.finite import check_weights

    tokenizer = AutoTokenizer.from_pretrained(Path(folder) / "tokenizer", local_files_only=True)
    encoder, info = _classes(folder).text_encoder.from_pretrained(
        Path(folder) / "text_encoder", dtype=dtype, local_files_only=True, output_loading_info=True, **options
    )
    # transformers fills in at random what is missing, and T5 leaves out what UMT5 has in every block.
    unknown = {name for name in info["unexpected_keys"] if name.startswith("encoder.")}
    _refuse_odd(type(encoder), Path(folder) / "text_encoder", info["missing_keys"], unknown)
    check_weights(encoder.state_dict().items(), Path(folder) / "text_encoder")
    return tokenizer, encoder.eval()


def load_image_encoder(folder: str | Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The (image processor, image encoder) of a checkpoint whose backbone sees images."""
    from transformers import CLIPImageProcessor, CLIPVisionModel

    from videopainter.models.finite import check_weights

    folder = Path(folder)
    processor = CLIPImageProcessor.from_pretrained(folder / "image_processor", local_files_only=True)
    cls: Any = CLIPVisionModel
    encoder, info = cls.from_pretrained(
        folder / "image_encoder", dtype=dtype, local_files_only=True, output_loading_info=True
    )
    # Some are published with the projection to CLIP's text, which is not asked.
    more = {name for name in info["unexpected_keys"] if "visual_projection" not in name}
    _refuse_odd(type(encoder), folder / "image_encoder", info["missing_keys"], more)
    check_weights(encoder.state_dict().items(), folder / "image_encoder")
    return processor, encoder.eval()


def load_scheduler(folder: str | Path, name: str | None = None) -> Any:
    """The noise schedule of a checkpoint, in its own scheduler or in the one of this name (see `load_pipeline`)."""
    import diffusers

    folder = Path(folder)
    config = read_config(folder / "scheduler", "scheduler_config.json")
    if name is None:
        return getattr(diffusers, config["_class_name"]).from_pretrained(folder / "scheduler")
    facts = facts_of(read_config(folder / "transformer"))
    options = facts.scheduler_options(config, name)
    return getattr(diffusers, facts.schedulers[name]).from_pretrained(folder / "scheduler", **options)


def _classes(folder: str | Path) -> Any:
    return backbone_from(read_config(Path(folder) / "transformer")).classes


def load_exactly(cls: Any, folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """`from_pretrained` of a diffusers model that refuses missing or unknown weights, and weights that are no numbers.

    Raises:
        ValueError: naming the first of them.
    """
    from videopainter.models.finite import check_weights

    model, info = cls.from_pretrained(
        folder, torch_dtype=dtype, output_loading_info=True, local_files_only=True, use_safetensors=True, **options
    )
    _refuse_odd(cls, folder, info["missing_keys"], info["unexpected_keys"])
    check_weights(model.state_dict().items(), folder)
    return model.eval()


def _refuse_odd(cls: Any, folder: Path, missing: Collection[str], unknown: Collection[str]) -> None:
    for kind, names in (("missing", missing), ("unknown", unknown)):
        if names:
            raise ValueError(
                f"{folder}: expected exactly the weights of {cls.__name__}, "
                f"{len(names)} {kind}, such as {sorted(names)[0]}"
            )


def _check_hole_fill(pipe: InpaintingPipeline, id_adapter: str | Path) -> None:
    assert pipe.id_adapter is not None
    if pipe.branch is not None and pipe.branch.config.hole_fill != pipe.id_adapter.hole_fill:
        raise ValueError(
            f"{id_adapter}: expected an ID adapter trained with holes filled with {pipe.branch.config.hole_fill} "
            f"as the branch, got {pipe.id_adapter.hole_fill}"
        )
