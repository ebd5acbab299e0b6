"""Where models lie while a pipeline runs: memory modes, and the choice among them from file headers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videopainter.models.backbones.registry import codec_of, facts_of
from videopainter.models.checkpoint_files import (
    adapter_file,
    read_config,
    read_safetensors_header,
    safetensors_files,
)
from videopainter.pipelines.memory import MODES, Choice, Workload, choose, held_as, model_sizes

if TYPE_CHECKING:
    import torch

    from videopainter.pipelines.inpaint import InpaintingPipeline

logger = logging.getLogger("videopainter.loading")
MEMORY_MODES = ("auto", *MODES)


def place(pipe: InpaintingPipeline, device: torch.device, mode: str, *, tiling: bool) -> None:
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


def _offload_by_blocks(pipe: InpaintingPipeline, device: torch.device) -> None:
    """The backbone block by block; T5 and CLIP layer by layer; VAE and branch stay on the device."""
    offload_blocks(pipe.transformer, device)
    for part in (pipe.vae, pipe.branch):
        if part is not None:
            part.to(device)
    for part in (pipe.text_encoder, pipe.image_encoder):
        if part is not None:  # prompts may come as embeddings
            offload_layers(part, device)


def offload_blocks(model: Any, device: torch.device) -> None:
    """A model's blocks come to the device one by one, on a GPU the next on its way while one computes.

    Part by part, not by a pipeline's `enable_group_offload`: that moves what it is to leave out onto the device as a
    whole, T5's 9 GiB onto a card of 8.
    """
    model.enable_group_offload(
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,  # upstream takes groups of one with streams
        use_stream=device.type == "cuda",
    )


def offload_layers(model: Any, device: torch.device) -> None:
    """A model's layers come to the device one by one: text encoders' blocks lie deeper than upstream looks."""
    from diffusers.hooks import apply_group_offloading

    model.to("cpu")
    apply_group_offloading(model, onload_device=device, offload_type="leaf_level")


def choose_memory(
    model_path: Path,
    inpainting_branch: str | Path | None,
    adapters: Sequence[str | Path],
    *,
    workloads: Sequence[Workload],
    itemsize: int,
    quantization: str,
    free: int,
    mode: str = "auto",
) -> Choice:
    """The fastest mode that fits all `workloads` into `free` bytes, from file headers: nothing is loaded.

    Without any: 49 frames of the backbone's own size with guidance, without ID resampling.

    A `mode` that was asked for is kept: figures are computed, not measured. Where it seems not to fit, a warning says
    so, and what would.

    Raises:
        ValueError: in one line, where nothing fits.
    """
    facts = facts_of(read_config(model_path / "transformer"))
    parts = (part for part in ("text_encoder", "image_encoder", "transformer", "vae") if part in facts.parts)
    headers = {part: _headers(model_path / part) for part in parts}
    if inpainting_branch is not None:
        headers["branch"] = _headers(Path(inpainting_branch))
    files = [read_safetensors_header(adapter_file(path)) for path in adapters]
    headers["adapters"] = {f"{index}.{name}": entry for index, file in enumerate(files) for name, entry in file.items()}
    sizes = model_sizes(headers, facts, read_config(model_path / "vae"), itemsize=itemsize, quantization=quantization)
    height, width = facts.trained_size
    workloads = workloads or [Workload(height=height, width=width)]
    if mode == "auto":
        return choose(sizes, workloads, free)
    choice, line = held_as(sizes, workloads, free, mode)
    if line:
        logger.warning(line)
    return choice


def _headers(folder: Path) -> dict[str, Any]:
    return {name: entry for path in safetensors_files(folder) for name, entry in read_safetensors_header(path).items()}
