"""What `gpu.py` measures: one function per kind of case, over the product's own pipeline, decoding and training.

Models are built with random weights where they run (the published sizes of CogVideoX-5B-I2V, or tiny ones); nothing is
read but the tiny checkpoint's tokenizer.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from videopainter import VideoPainterPipeline
from videopainter.cli.train import read_options
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSample
from videopainter.models.backbones.cogvideox.published import (
    build_backbone,
    build_branch,
    build_scheduler,
    build_text_encoder,
    build_vae,
)
from videopainter.models.backbones.registry import backbone_from, backbone_of, codec_of
from videopainter.pipelines.conditioning import to_uint8_frames
from videopainter.pipelines.placement import place
from videopainter.pipelines.quantization import quantization_config
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.step_cache import StepCache, enable_step_cache
from videopainter.pipelines.streaming import inpaint_stream
from videopainter.runs.record import reset_peak_memory
from videopainter.training.encoding import EncodedBatch, ImageConditioning
from videopainter.training.engine import Engine, frozen_dtype, make_accelerator
from videopainter.training.model import InpaintingModel, freeze_all_but_branch, freeze_all_but_lora
from videopainter.training.objective import Objective
from videopainter.training.optimizers import build_lr_scheduler, build_optimizer
from videopainter.training.sources import CaptionEncoder, Encoder
from videopainter.training.tracking.progress import peak_memory

TOKENIZER = Path(__file__).parents[1] / "ckpt" / "tiny" / "CogVideoX-5b-I2V" / "tokenizer"
FULL_RUN = 50  # steps of the time to the first frame that is told
PROMPT = "a street"


@dataclass(frozen=True)
class Size:
    """Models (changes to the published configurations) and the clip they work on."""

    height: int
    width: int
    frames: int  # of a window
    shared: int  # frames that neighbouring windows share
    rank: int
    backbone: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)


SIZES = {
    "5b": Size(480, 720, 49, 13, 256),
    "tiny": Size(
        32,
        48,
        9,
        5,
        4,
        backbone={
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "time_embed_dim": 16,
            "text_embed_dim": 32,
            "num_layers": 3,
            "sample_width": 6,
            "sample_height": 4,
            "sample_frames": 9,
            "max_text_seq_length": 12,
        },
        vae={"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 2},
        text={"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    ),
}


@dataclass(frozen=True)
class Setting:
    """Where a case runs."""

    size: Size
    device: torch.device
    steps: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """One way to inpaint; the rest is as by default: everything on the device, bfloat16, one window."""

    memory: str = "full"
    quantization: str = "none"
    form: str = "off"  # of ID resampling
    prev_clip_weight: float = 0.0
    cache: str | None = None
    compile: bool = False
    backend: str | None = None
    window: float = 1.0  # frames of a window, in windows of the default length
    video: float = 1.0  # frames of the video, likewise
    steps: int = 1  # times the steps asked for


# ---- inference


def measure_inpainting(case: Inpainting, setting: Setting) -> dict[str, Any]:
    """Seconds of a guided step (branch and backbone), peak memory, and when the first frame is there."""
    pipe = build_pipeline(case, setting)
    steps, size = setting.steps * case.steps, setting.size
    settings = InpaintSettings(
        height=size.height,
        width=size.width,
        num_frames=frames_of(case.window, size),
        overlap_frames=size.shared,
        num_inference_steps=steps,
        id_resample=case.form,
        prev_clip_weight=case.prev_clip_weight,
    )
    frames, masks = make_clip(frames_of(case.video, size), size)
    seconds: list[float] = []
    _time_steps(pipe, setting.device, seconds)
    with measured(setting.device) as row:
        began = now(setting.device)
        chunks = inpaint_stream(pipe, ArrayFrames(frames), ArrayMasks(masks), settings=settings, prompt=PROMPT)
        next(chunks)
        first = now(setting.device) - began
        for _ in chunks:
            pass
    # A cache leaves out whole steps: their mean; otherwise the median, as the first steps warm up.
    warm = seconds[1:] or seconds
    step = statistics.fmean(seconds) if case.cache else statistics.median(warm)
    more = (FULL_RUN - steps) * len(seconds) / steps
    return row | {"step_s": step, "first_step_s": seconds[0], "first_frame_s": first + more * step}


def build_pipeline(case: Inpainting, setting: Setting) -> VideoPainterPipeline:
    """The pipeline of a case, placed as `load_pipeline` would."""
    size, device, dtype = setting.size, setting.device, setting.dtype
    with device:
        rank = size.rank if case.form != "off" else 0
        transformer = build_backbone(dtype=dtype, rank=rank, **size.backbone)
        branch_options = {name: value for name, value in size.backbone.items() if name != "num_layers"}
        branch = build_branch(dtype=dtype, **branch_options)
        vae, text_encoder = build_vae(dtype=dtype, **size.vae), build_text_encoder(dtype=dtype, **size.text)
    if case.quantization != "none":
        quantize(transformer, case.quantization)
        quantize(text_encoder, case.quantization)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    pipe = VideoPainterPipeline(tokenizer, text_encoder, vae, transformer, build_scheduler(), branch)
    pipe.set_progress_bar_config(disable=True)
    if case.cache is not None:
        enable_step_cache(pipe, StepCache(name=case.cache))
    place(pipe, device, case.memory, tiling=case.memory in ("group_offload", "sequential"))
    if case.backend is not None:
        transformer.set_attention_backend(case.backend)
        branch.set_attention_backend(case.backend)
    if case.compile:
        transformer.compile_repeated_blocks()
        branch.compile_repeated_blocks()
    return pipe


def quantize(model: torch.nn.Module, kind: str) -> None:
    """What loading with the product's configuration of this name does to weights, on a model that is there already."""
    config = quantization_config(kind, "diffusers")
    if kind != "nf4":
        from torchao.quantization import quantize_

        quantize_(model, config.quant_type)
        return
    import bitsandbytes
    from diffusers.quantizers.bitsandbytes import replace_with_bnb_linear

    dense = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    replace_with_bnb_linear(model, modules_to_not_convert=[], quantization_config=config)
    for name, source in dense.items():
        target = model.get_submodule(name)
        weight = bitsandbytes.nn.Params4bit(source.weight.data.cpu(), requires_grad=False, quant_type="nf4")
        target.weight, target.bias = weight.to(source.weight.device), source.bias


def _time_steps(pipe: VideoPainterPipeline, device: torch.device, seconds: list[float]) -> None:
    """Note how long every step takes, from the branch's beginning to the backbone's end."""
    began = [0.0]
    pipe.branch.register_forward_pre_hook(lambda *_: began.__setitem__(0, now(device)))
    pipe.transformer.register_forward_hook(lambda *_: seconds.append(now(device) - began[0]))


# ---- decoding


def measure_decoding(case: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Seconds per frame of the streamed decode of so many windows, and peak memory."""
    size, device = setting.size, setting.device
    with device:
        vae = build_vae(dtype=setting.dtype, **size.vae)
    if case["tiled"]:
        codec_of(vae).tile()
    count = (frames_of(case["video"], size) - 1) // 4 + 1
    latents = (torch.randn(1, 1, 16, size.height // 8, size.width // 8) for _ in range(count))
    with measured(device) as row:
        began, times, frames = now(device), [], 0
        for chunk in codec_of(vae, device).decode_stream(latents, count):
            frames += len(to_uint8_frames(chunk))
            times.append(now(device) - began)
    return row | {"frame_s": times[-1] / frames, "first_frame_s": times[0]}


# ---- training


def measure_training(case: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Seconds of a training step of one clip with gradient checkpointing, and peak memory."""
    size, kind = setting.size, case["kind"]
    flags = [
        "--pretrained_model_name_or_path",
        "none",
        "--meta_file_path",
        "none",
        "--mixed_precision",
        "bf16",
        "--mask_add",
    ]
    options = read_options(kind, [*flags, "--id_pool_resample_learnable"] if kind == "id_adapter" else flags)
    accelerator = make_accelerator(options)
    device = accelerator.device
    model = build_trained(kind, size, device, frozen_dtype(options.model))
    optimizer = build_optimizer([p for p in model.parameters() if p.requires_grad], options.optimizer)
    schedule = build_lr_scheduler(optimizer, options.optimizer, num_training_steps=100)
    engine = Engine(accelerator, model, optimizer, schedule, max_grad_norm=options.optimizer.max_grad_norm)
    objective = Objective(backbone_of(model.transformer), build_scheduler(), options.condition)
    batches = make_batches(size, device, frozen_dtype(options.model), cached=case["cached"])
    seconds = []
    with measured(device) as row:
        for _ in range(setting.steps + 1):
            began = now(device)
            batch = next(batches)
            engine.backward(objective.total(objective.training_losses(engine.model, batch, seed=0)))
            seconds.append(now(device) - began)
    return row | {"step_s": statistics.median(seconds[1:]), "first_step_s": seconds[0]}


def build_trained(kind: str, size: Size, device: torch.device, frozen: torch.dtype) -> InpaintingModel:
    """The module that is trained: its trained weights in float32, the others in `frozen`."""
    with device:
        transformer = build_backbone(dtype=frozen, rank=size.rank if kind == "id_adapter" else 0, **size.backbone)
        branch_options = {name: value for name, value in size.backbone.items() if name != "num_layers"}
        branch = build_branch(dtype=torch.float32 if kind == "branch" else frozen, **branch_options)
    model = InpaintingModel(transformer, branch, id_form="exact" if kind == "id_adapter" else None)
    (freeze_all_but_lora if kind == "id_adapter" else freeze_all_but_branch)(model)
    for parameter in model.trained_parameters().values():
        parameter.data = parameter.data.float()
    transformer.enable_gradient_checkpointing()
    branch.enable_gradient_checkpointing()
    return model.train()


def make_batches(size: Size, device: torch.device, dtype: torch.dtype, *, cached: bool) -> Iterator[EncodedBatch]:
    """The same clip again and again: encoded every time, or once and then read from main memory."""
    with device:
        vae, text_encoder = build_vae(dtype=dtype, **size.vae), build_text_encoder(dtype=dtype, **size.text)
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)
    backbone = backbone_from({"_class_name": "CogVideoXTransformer3DModel", **size.backbone})
    captions = CaptionEncoder(backbone, tokenizer, text_encoder, size.backbone.get("max_text_seq_length", 226))
    encode = Encoder(vae, captions, seed=0, hole_fill=0.0, images=ImageConditioning.of(backbone))
    frames, masks = make_clip(size.frames, size)
    samples = [TrainingSample(key=SampleKey(0, 0, False), frames=frames, masks=masks, caption=PROMPT, clip_row=0)]
    if not cached:
        while True:
            yield encode(samples, device)
    batch = encode(samples, device).to("cpu")
    if device.type == "cuda":
        batch = batch.pin_memory()
    del encode, captions, vae, text_encoder
    release(device)
    reset_peak_memory(str(device))
    while True:
        yield batch.to(device)


# ---- what all of them use


def frames_of(windows: float, size: Size) -> int:
    """So many windows' frames, 4k+1: 2.0 is 97 where a window has 49."""
    return round(windows * (size.frames - 1) / 4) * 4 + 1


def make_clip(count: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Noise (T, H, W, 3) with a hole of 30 % of its area (T, H, W)."""
    frames = np.random.default_rng(0).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, size.height // 5 : size.height * 4 // 5, size.width // 4 : size.width * 3 // 4] = True
    return frames, masks


def now(device: torch.device) -> float:
    """Seconds, when all that the device was given is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def measured(device: torch.device) -> Iterator[dict[str, Any]]:
    """Fills a row with the peak of memory inside: of the GPU, without one of the process."""
    release(device)
    reset_peak_memory(str(device))
    row: dict[str, Any] = {}
    yield row
    row["peak_gib"] = peak_memory(device) / 2**30


def release(device: torch.device) -> None:
    """Give back what nobody holds any more."""
    torch.compiler.reset()  # or graphs of cases before count against the limit of recompilations
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
