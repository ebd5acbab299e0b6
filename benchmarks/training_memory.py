"""Memory of a training of CogVideoX-5B sizes, per GPU and in main memory: branch and ID adapter, 49×480×720 pixels.

Nothing of that size is allocated. Parameters are counted on our own classes; activations are found by running a step of
the real modules on tensors without storage (torch's FakeTensorMode) and adding up what is alive at each moment, with a
few blocks and a few more: memory is linear in the blocks. `--check` runs a small model on this CPU and compares its
process's peak with the same prediction.
    python benchmarks/training_memory.py [--check]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging
from peft import LoraConfig
from torch._subclasses.fake_tensor import FakeTensorMode

from videopainter import CogvideoXBranchModel, VideoPainterTransformer3DModel
from videopainter.models.backbones.cogvideox.published import (
    build_text_encoder,
    build_vae,
    default_dtype,
    without_storage,
)
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_adapter import TARGET_MODULES
from videopainter.models.id_resample import HoleTokens, IDResample
from videopainter.models.live_bytes import LiveBytes, fused_attention, weights_of
from videopainter.training.model import InpaintingModel, freeze_all_but_branch, freeze_all_but_lora

GIB = 2**30
RANK = 256
CARDS = (24, 40, 48, 80)  # GB on the label, taken as GiB, as the drivers show them
# CUDA context, NCCL's buffers, and what the allocator cannot use.
OVERHEAD, USABLE = 1.5 * GIB, 0.95


@dataclass(frozen=True)
class Size:
    """A backbone and the clip it is trained on."""

    heads: int = 48
    blocks: int = 42
    text_dim: int = 4096
    text_length: int = 226
    latents: tuple[int, int, int] = (13, 60, 90)

    @property
    def tokens(self) -> int:
        """Video tokens."""
        frames, height, width = self.latents
        return frames * (height // 2) * (width // 2)


BIG = Size()
SMALL = Size(heads=6, blocks=6, text_dim=64, text_length=32, latents=(5, 30, 46))


# ---- the modules, of any size


def build(size: Size, kind: str, blocks: int, dtype: torch.dtype, trained_dtype: torch.dtype) -> InpaintingModel:
    """Backbone and branch as the trainer makes them: frozen weights of one dtype, trained ones of another."""
    config: dict[str, Any] = {
        "num_attention_heads": size.heads,
        "attention_head_dim": 64,
        "text_embed_dim": size.text_dim,
        "max_text_seq_length": size.text_length,
        "use_rotary_positional_embeddings": True,
    }
    with default_dtype(dtype):
        transformer = VideoPainterTransformer3DModel(in_channels=32, num_layers=blocks, **config)
    with default_dtype(trained_dtype if kind == "branch" else dtype):
        branch = CogvideoXBranchModel(in_channels=32, num_layers=2, **config)
    model = InpaintingModel(transformer, branch, id_form="exact" if kind == "id" else None)
    if kind == "branch":
        freeze_all_but_branch(model)
        return model.train()
    with default_dtype(trained_dtype):
        rank = RANK if size == BIG else 16
        transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank / 2, target_modules=list(TARGET_MODULES)))
    for name, parameter in transformer.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(trained_dtype)
    freeze_all_but_lora(model)
    return model.train()


def without_memory(size: Size, kind: str, blocks: int, dtype: torch.dtype, trained: torch.dtype) -> InpaintingModel:
    """The same inside a FakeTensorMode (in which peft cannot build)."""
    with torch.device("meta"):
        model = build(size, kind, blocks, dtype, trained)
    without_storage(model)
    # As on a GPU: half precision on a CPU would go without the fused kernel.
    for part in (model.transformer, model.branch):
        part.set_attention_backend("native")
    return model


def training_step(model: InpaintingModel, size: Size, dtype: torch.dtype, *, autocast: bool) -> None:
    """Forward and backward of one clip; gradients are dropped as soon as they are there (they count as states)."""
    frames, height, width = size.latents
    noisy = torch.randn(1, frames, 16, height, width, dtype=dtype)
    condition = torch.randn(1, frames, 17, height, width, dtype=dtype)
    text = torch.randn(1, size.text_length, size.text_dim, dtype=dtype)
    rotary = (torch.randn(size.tokens, 64), torch.randn(size.tokens, 64))
    # The hole's tokens: a quarter. (`HoleTokens.from_mask` looks at values, which tensors without storage do not have.)
    hole = HoleTokens(torch.arange(size.tokens // 4)[None], None)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        predicted = backbone_of(model.transformer).predict(
            model.transformer,
            model.branch,
            noisy,
            noisy,
            condition,
            text,
            torch.full((1,), 500),
            rotary,
            background=torch.ones(1, size.tokens, dtype=torch.bool),
            id_resample=IDResample(hole, model.id_form) if model.id_form else None,
        )
    (predicted.float() - noisy.float()).square().mean().backward()


# ---- activations


def activation_bytes(
    size: Size, kind: str, *, checkpointing: bool, autocast: bool, dtype: torch.dtype = torch.bfloat16
) -> float:
    """Peak of one clip's step above weights and gradients, extrapolated in the number of blocks."""
    # Linear once the peak lies in the backbone: with few blocks it may lie in the branch's backward pass.
    few, more = (12, 14) if checkpointing else (4, 6)
    if size.blocks <= more:
        return _traced(size, kind, size.blocks, checkpointing, autocast, dtype)
    low, high = (_traced(size, kind, blocks, checkpointing, autocast, dtype) for blocks in (few, more))
    return high + (high - low) / (more - few) * (size.blocks - more)


def _traced(size: Size, kind: str, blocks: int, checkpointing: bool, autocast: bool, dtype: torch.dtype) -> int:
    with fused_attention(), FakeTensorMode():
        model = without_memory(size, kind, blocks, dtype, torch.float32 if autocast else dtype)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
        if checkpointing:
            model.transformer.enable_gradient_checkpointing()
            model.branch.enable_gradient_checkpointing()
        with LiveBytes(weights_of(model)) as memory:
            training_step(model, size, dtype, autocast=autocast)
        return memory.peak


def encoding_bytes(*, tiling: bool) -> int:
    """Peak of the VAE's encoding of 49 frames of 480×720 in bfloat16, above its weights."""
    with torch.device("meta"):
        vae = build_vae()
    with FakeTensorMode(), torch.no_grad():
        without_storage(vae)
        if tiling:
            vae.enable_tiling(tile_sample_min_height=240, tile_sample_min_width=360)
        video = torch.randn(1, 3, 49, 480, 720, dtype=torch.bfloat16)
        with LiveBytes(vae.parameters()) as memory:
            vae.encode(video)
        return memory.peak


# ---- states: weights, gradients, optimizer


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters."""

    frozen: int
    trained: int
    largest_block: int


def count(kind: str, size: Size = BIG) -> Counts:
    with torch.device("meta"):
        model = build(size, kind, size.blocks, torch.bfloat16, torch.float32)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    block = sum(p.numel() for p in model.transformer.transformer_blocks[0].parameters())
    return Counts(total - trained, trained, block)


def encoder_bytes() -> int:
    """Weights of VAE and text encoder (T5-XXL's encoder) in bfloat16; a latent cache saves them."""
    with torch.device("meta"):
        modules = (build_text_encoder(), build_vae())
        return sum(parameter.nbytes for module in modules for parameter in module.parameters())


@dataclass(frozen=True)
class Way:
    """A way for GPUs to work together. `autocast`: trained weights are float32, products bfloat16."""

    name: str
    gpus: int
    autocast: bool


WAYS = (
    Way("1 GPU", 1, True),
    Way("1 GPU, 8-bit Adam", 1, True),
    Way("8 GPUs, DDP", 8, True),
    Way("8 GPUs, ZeRO-2, optimizer on CPU", 8, False),
    Way("8 GPUs, ZeRO-2", 8, False),
    Way("8 GPUs, ZeRO-3", 8, False),
    Way("8 GPUs, FSDP2", 8, True),
)
BUCKETS = 2 * 2 * 500_000_000  # DeepSpeed's reduce and all-gather buckets, 5e8 bfloat16 numbers each


def states(way: Way, counts: Counts) -> tuple[float, float]:
    """Bytes of weights, gradients and Adam's state: on each GPU, and in main memory for all of them together.

    f frozen and t trained numbers on N GPUs; Adam keeps two float32 numbers for each trained one:
        1 GPU, DDP   2f + (4 + 4 + 8)t                                    trained weights and gradients in float32
        8-bit Adam   2f + (4 + 4 + 2)t
        ZeRO-2       2f + 2t + (2 + 4 + 8)t/N + buckets                   bfloat16, float32 master weights shared out
        on CPU       2f + 2t + buckets; main memory (4 + 4 + 8)t
        ZeRO-3       (2f + 2t + 2t + 12t)/N + buckets + 2·1e9             whole parameters that live at a time
        FSDP2        (4f + (4 + 4 + 8)t)/N + two whole bfloat16 blocks    the shards of frozen weights are float32, too
    DeepSpeed's buckets are no larger than what they carry.
    """
    f, t, n = counts.frozen, counts.trained, way.gpus
    buckets = min(BUCKETS, 2 * 2 * t)
    if "on CPU" in way.name:
        return 2 * f + 2 * t + buckets, 16 * t
    if "ZeRO-2" in way.name:
        return 2 * f + 2 * t + 14 * t / n + buckets, 0
    if "ZeRO-3" in way.name:
        return (2 * f + 16 * t) / n + buckets + 2 * min(1_000_000_000, f), 0
    if "FSDP2" in way.name:
        return (4 * f + 16 * t) / n + 2 * 2 * counts.largest_block, 0
    return 2 * f + (10 if "8-bit" in way.name else 16) * t, 0


# ---- the table


def print_table() -> None:
    encoders, encoding = encoder_bytes(), encoding_bytes(tiling=True)
    whole = encoding_bytes(tiling=False)
    print(f"VAE and text encoder: {encoders / GIB:.1f} GiB; encoding a clip: {encoding / GIB:.1f} GiB above them")
    print(f"with tiling, {whole / GIB:.1f} GiB without.")
    for kind, title in (("branch", "Branch, 2 blocks"), ("id", f"ID adapter, LoRA of rank {RANK}, exact form")):
        counts = count(kind)
        activations = {
            (checkpointing, autocast): activation_bytes(BIG, kind, checkpointing=checkpointing, autocast=autocast)
            for checkpointing in (True, False)
            for autocast in (True, False)
        }
        print(f"\n{title}: {counts.trained / 1e6:.0f} M parameters trained, {counts.frozen / 1e9:.2f} G frozen\n")
        print("| | states | activations, checkpointing | without | GPU total | with cache | main memory | fits on |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for way in WAYS:
            gpu, host = states(way, counts)
            saved, full = (activations[checkpointing, way.autocast] for checkpointing in (True, False))
            total = gpu + encoders + max(saved, encoding) + OVERHEAD
            cached = gpu + saved + OVERHEAD
            figures = [gpu, saved, full, total, cached, host]
            cells = " | ".join(f"{figure / GIB:.1f}" for figure in figures)
            print(f"| {way.name} | {cells} | {fits(total)}; cache: {fits(cached)} |", flush=True)


def fits(total: float) -> str:
    """The smallest card that holds so many bytes."""
    return next((f"{card} GB" for card in CARDS if total <= USABLE * card * GIB), "none")


# ---- the check


def check() -> bool:
    """Measured against predicted, each in a process of its own."""
    good = True
    print("| step on this CPU, float32 | predicted MiB | measured MiB | ratio |\n| --- | --- | --- | --- |")
    for kind in ("branch", "id"):
        for checkpointing in (False, True):
            command = [sys.executable, __file__, "--measure", kind, *(["--checkpointing"] if checkpointing else [])]
            # Memory that is given up goes back to the system at once, as a peak of the process needs it.
            variables = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=variables).stdout
            measured = float(output.split()[-1])
            predicted = activation_bytes(
                SMALL, kind, checkpointing=checkpointing, autocast=False, dtype=torch.float32
            ) + 12 * trained_numbers(kind)
            ratio = predicted / measured
            good = good and 0.85 <= ratio <= 1.15
            name = f"{kind}, {'with' if checkpointing else 'without'} checkpointing"
            print(f"| {name} | {predicted / 2**20:.0f} | {measured / 2**20:.0f} | {ratio:.2f} |", flush=True)
    return good


def trained_numbers(kind: str) -> int:
    return count(kind, SMALL).trained


def measure(kind: str, checkpointing: bool) -> None:
    """Prints how far the process's resident memory rises above the model's in two steps with AdamW."""
    torch.manual_seed(0)
    _steps(Size(heads=1, blocks=2, text_dim=64, text_length=8, latents=(1, 8, 8)), kind, checkpointing)  # loads kernels
    print(_steps(SMALL, kind, checkpointing))


def _steps(size: Size, kind: str, checkpointing: bool) -> int:
    model = build(size, kind, size.blocks, torch.float32, torch.float32)
    if checkpointing:
        model.transformer.enable_gradient_checkpointing()
        model.branch.enable_gradient_checkpointing()
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.0)  # every page is there
    optimizer = torch.optim.AdamW(trained, fused=True)
    before = _resident()
    for _ in range(2):
        training_step(model, size, torch.float32, autocast=False)
        optimizer.step()
        for parameter in trained:
            assert parameter.grad is not None
            parameter.grad.zero_()  # stays, as gradients in buckets do
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with a small model on this CPU instead")
    parser.add_argument("--measure", choices=("branch", "id"), help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    if arguments.measure:
        measure(arguments.measure, arguments.checkpointing)
    elif arguments.check:
        sys.exit(not check())
    else:
        print_table()


if __name__ == "__main__":
    main()
