"""How much device memory a run needs, and which memory mode to choose. Imports no torch: known before weights load.

Weights are added up from file headers. Activations are formulas in pixels and tokens with a family's `MemoryCosts`,
fitted to the live storages that `models/live_bytes.py` counts on the real modules at published sizes;
`tests/test_memory.py` holds them to fresh counts.
They are computed, not measured: RESERVE stands for what is not seen (CUDA context, workspaces, fragments).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from videopainter.models.backbones.cogvideox.facts import COGVIDEOX_COSTS
from videopainter.models.backbones.costs import MemoryCosts
from videopainter.models.backbones.grid import FINEST, LatentGrid
from videopainter.models.backbones.protocol import Facts

GIB = 2**30
RESERVE, USABLE = GIB, 0.95
MODES = ("full", "model_offload", "group_offload", "sequential")  # fastest first

_PREVIOUS_SHARE = 1.05  # the previous clip's tokens, normalised for one block
# What a step cache keeps from step to step; pyramid attention broadcast the attention outputs of every block.
_CACHED = {"none": 0.0, "first_block": 3.0, "mag": 1.0, "taylorseer": 0.1}
# Where processes share tokens: what attention sends and gets, by tokens of the part (`benchmarks/context_parallel.py`).
_EXCHANGED = 8.0
_TEXT = 0.1 * GIB  # T5-XXL on two prompts; CLIP on an image takes less
_QUANTIZED = {"int8": 1.0, "fp8": 1.0, "nf4": 0.5 + 4 / 64}  # bytes per weight; a scale for 64 weights in nf4


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a job does: pixels, frames of a window, guidance, ID resampling.

    Args:
        form: Of ID resampling; None: off.
        hole_share: The largest share of a window's tokens that lies in the hole, 0..1.
        hands_on: Windows take the previous one's memory and leave theirs (`prev_clip_weight` > 0, several windows).
        step_cache: By name (`StepCache`).
        processes: That share the tokens; what is counted is what the first of them needs, which has all other models.
    """

    height: int
    width: int
    num_frames: int = 49
    guidance: bool = True
    form: str | None = None
    hole_share: float = 1.0
    hands_on: bool = False
    step_cache: str = "none"
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Bytes of weights on the device by part, and the sizes that activations depend on."""

    text_encoder: int
    transformer: int  # with adapters
    vae: int
    image_encoder: int = 0
    branch: int = 0
    largest_block: int = 0  # of the backbone
    outside_blocks: int = 0
    largest_leaf: int = 0  # of all parts: T5's embedding
    width: int = 3072
    num_layers: int = 42
    text_tokens: int = 226
    grid: LatentGrid = FINEST
    tile: tuple[int, int] = (240, 360)
    costs: MemoryCosts = COGVIDEOX_COSTS
    channels: int = COGVIDEOX_COSTS.channels  # of the VAE at full resolution
    itemsize: int = 2

    @property
    def total(self) -> int:
        return self.text_encoder + self.image_encoder + self.transformer + self.vae + self.branch


@dataclass(frozen=True)
class Choice:
    """A memory mode, whether the VAE tiles, and the peak in bytes, without RESERVE."""

    mode: str
    tiling: bool
    peak: float


# ---- activations


def encode_bytes(sizes: ModelSizes, work: Workload, *, tiling: bool) -> float:
    """Peak of encoding a window."""
    costs = sizes.costs
    pixels, part = work.height * work.width, _tile_pixels(sizes, work, tiling, costs.encode_tile)
    each = costs.encode if part < costs.large else costs.encode_large
    return (part * each + pixels * costs.encode_frame * work.num_frames) * _vae_factor(sizes)


def decode_bytes(sizes: ModelSizes, work: Workload, *, tiling: bool) -> float:
    """Peak of the streamed decode, at any length."""
    pixels, part = work.height * work.width, _tile_pixels(sizes, work, tiling)
    costs = sizes.costs
    peak = pixels * costs.decode if part == pixels else part * costs.tiled_decode + pixels * costs.tiled_whole
    return peak * _vae_factor(sizes)


def step_bytes(sizes: ModelSizes, work: Workload) -> float:
    """Peak of a denoising step; with `hands_on`, at the last step of a window between two others."""
    batch = 2 if work.guidance else 1
    whole, unit = video_tokens(sizes, work) + sizes.text_tokens, batch * sizes.width * sizes.itemsize
    # A part of a video may have all of the hole.
    tokens, share = math.ceil(whole / work.processes), min(1.0, work.hole_share * work.processes)
    units = sizes.costs.step
    if work.form is not None:
        base, slope = sizes.costs.exact if work.form == "exact" else sizes.costs.compact[batch]
        units = max(units, base + slope * share)
    units += sizes.num_layers if work.step_cache == "pab" else _CACHED[work.step_cache]
    kept = 0.0
    if work.form is not None and work.hands_on:
        units += _PREVIOUS_SHARE * share
        # The previous clip's tokens, in whose place come the own ones, block by block.
        kept = (sizes.num_layers + 1) * math.ceil(share * video_tokens(sizes, work) / work.processes)
    if work.processes > 1:
        second = {None: 0.0, "exact": 1.0}.get(work.form, share)
        units += _EXCHANGED * (1 + second)
        kept += whole  # as they are embedded, until the first block is through
    return unit * (units * tokens + kept)


def video_tokens(sizes: ModelSizes, work: Workload) -> int:
    """Video tokens of a window."""
    return sizes.grid.num_tokens(work.num_frames, work.height, work.width)


def _tile_pixels(sizes: ModelSizes, work: Workload, tiling: bool, larger: int = 1) -> int:
    """Pixels that go through the VAE at a time, in tiles so many times as high and wide."""
    if not tiling:
        return work.height * work.width
    return min(work.height, larger * sizes.tile[0]) * min(work.width, larger * sizes.tile[1])


def _vae_factor(sizes: ModelSizes) -> float:
    return sizes.channels / sizes.costs.channels * sizes.itemsize / 2


# ---- modes


def peak_bytes(sizes: ModelSizes, work: Workload, mode: str, *, tiling: bool) -> float:
    """Weights and activations at a run's peak in a memory mode."""
    encode, decode = (part(sizes, work, tiling=tiling) for part in (encode_bytes, decode_bytes))
    step = step_bytes(sizes, work)
    if mode == "full":
        return sizes.total + max(encode, step, decode, _TEXT)
    if mode == "model_offload":
        # The VAE stays beside the backbone until another model follows it.
        stages = (
            sizes.text_encoder + _TEXT,
            sizes.vae + sizes.image_encoder + _TEXT,
            sizes.vae + max(encode, decode),
            sizes.transformer + sizes.vae + step,
        )
        return sizes.branch + max(stages)
    if mode == "group_offload":
        # The block at work, the one that is on its way, and the one that is leaving.
        backbone = sizes.outside_blocks + 3 * sizes.largest_block + step
        return sizes.branch + sizes.vae + max(sizes.largest_leaf + _TEXT, encode, decode, backbone)
    assert mode == "sequential"
    return sizes.largest_leaf + max(encode, step, decode, _TEXT)


def fits(peak: float, free: float) -> bool:
    """Whether so much fits into `free` bytes, with the reserve."""
    return peak + RESERVE <= USABLE * free


def choose(sizes: ModelSizes, works: Sequence[Workload], free: float) -> Choice:
    """The fastest way of running that fits all of `works` into `free` bytes of device memory.

    The VAE works in tiles only where it must: tiles are decoded one and a half times.

    Raises:
        ValueError: in one line, where nothing fits; it names what takes most, and says what would fit.
    """
    choice = _first_fit(sizes, works, free)
    if choice is None:
        least, work = _largest(sizes, works, "sequential", tiling=True)
        raise ValueError(
            f"memory: expected at least {(least + RESERVE) / USABLE / GIB:.1f} GiB of free device memory for "
            f"{_run_words(work)}, got {free / GIB:.1f}; {_advice(sizes, works, work, free)}"
        )
    return choice


def held_as(sizes: ModelSizes, works: Sequence[Workload], free: float, mode: str) -> tuple[Choice, str]:
    """A mode that was asked for, in tiles only where it must; and a line where it does not fit, else an empty one."""
    choice = _first_fit(sizes, works, free, (mode,))
    if choice is not None:
        return choice, ""
    peak, work = _largest(sizes, works, mode, tiling=True)
    other = _first_fit(sizes, works, free)
    advice = f"--memory {other.mode} would fit" if other is not None else _advice(sizes, works, work, free)
    return Choice(mode, True, peak), (
        f"memory {mode} takes about {(peak + RESERVE) / USABLE / GIB:.1f} GiB for {_run_words(work)}, "
        f"{free / GIB:.1f} are free: it may run out of memory; {advice}"
    )


def _first_fit(
    sizes: ModelSizes, works: Sequence[Workload], free: float, modes: Sequence[str] = MODES
) -> Choice | None:
    for mode in modes:
        # Offloaded runs tile anyhow where a block of the backbone is the unit: the frame would be what is largest.
        for tiling in (False, True) if mode in ("full", "model_offload") else (True,):
            peak, _ = _largest(sizes, works, mode, tiling=tiling)
            if fits(peak, free):
                return Choice(mode, tiling, peak)
    return None


def _largest(sizes: ModelSizes, works: Sequence[Workload], mode: str, *, tiling: bool) -> tuple[float, Workload]:
    """The largest peak in a mode, and whose it is: a few pixels less may need more, by their ID resampling."""
    peaks = [peak_bytes(sizes, work, mode, tiling=tiling) for work in works]
    return max(peaks), works[peaks.index(max(peaks))]


def _run_words(work: Workload) -> str:
    size = f"{work.width}x{work.height}, {work.num_frames} frames"
    if work.processes > 1:
        size = f"{size}, tokens shared by {work.processes} processes"
    if work.step_cache != "none":
        size = f"{size}, step cache {work.step_cache}"
    if work.form is None:
        return size
    return f"{size}, {work.form} ID resampling of {100 * work.hole_share:.0f} %{' handed on' if work.hands_on else ''}"


def _advice(sizes: ModelSizes, works: Sequence[Workload], largest: Workload, free: float) -> str:
    """The smallest change that would fit."""
    shorter = min(largest.num_frames, 25)
    changes: list[tuple[str, dict[str, Any]]] = []
    if largest.step_cache != "none":
        changes.append(("--cache none", {"step_cache": "none"}))
    if largest.form == "exact":
        changes.append(("an ID adapter of the compact form (--id_resample compact)", {"form": "compact"}))
    if largest.hands_on:
        changes.append(("--prev_clip_weight 0", {"hands_on": False}))
    if largest.form is not None:
        changes.append(("--id_resample off", {"form": None}))
    changes.append((f"--inpainting_frames {shorter}", {"num_frames": shorter}))
    for divisor in (1.5, 2, 3, 4):
        token = sizes.grid.multiple
        height, width = (max(token, int(side / divisor) // token * token) for side in (largest.height, largest.width))
        changes.append((f"--height {height} --width {width}", {"height": height, "width": width}))
    for words, fields in changes:
        if _first_fit(sizes, [_changed(work, fields) for work in works], free) is not None:
            return f"{words} would fit"
    return "a device with more memory would do"


def _changed(work: Workload, fields: Mapping[str, Any]) -> Workload:
    """`work` with a flag set; what it does not do anyway is not added."""
    if work.form is None:
        fields = {name: value for name, value in fields.items() if name != "form"}
    return replace(work, **{**fields, "num_frames": min(work.num_frames, fields.get("num_frames", work.num_frames))})


# ---- weights, from file headers


def tensor_bytes(header: Mapping[str, Mapping[str, Any]], itemsize: int, quantization: str = "none") -> dict[str, int]:
    """What each tensor of a safetensors header takes once it is loaded: quantized where it is a linear layer's."""
    each = _QUANTIZED.get(quantization)
    return {name: _loaded(name, entry["shape"], itemsize, each) for name, entry in header.items()}


def _loaded(name: str, shape: list[int], itemsize: int, quantized: float | None) -> int:
    numbers = math.prod(shape)
    linear = len(shape) == 2 and name.endswith(".weight") and not any(k in name for k in ("shared", "embed_tokens"))
    if quantized is None or not linear or "relative_attention_bias" in name:
        return numbers * itemsize
    return math.ceil(numbers * quantized) + shape[0] * 4  # and a scale per row


def block_sizes(tensors: Mapping[str, int], prefix: str) -> tuple[int, int]:
    """Bytes of the largest block, and of all that lies outside blocks."""
    blocks: dict[str, int] = {}
    outside = 0
    for name, size in tensors.items():
        if name.startswith(prefix):
            key = name.split(".")[1]
            blocks[key] = blocks.get(key, 0) + size
        else:
            outside += size
    return max(blocks.values(), default=0), outside


def model_sizes(
    headers: Mapping[str, Mapping[str, Any]],
    backbone: Facts,
    vae_config: Mapping[str, Any],
    *,
    itemsize: int = 2,
    quantization: str = "none",
) -> ModelSizes:
    """Sizes from safetensors headers by part: text_encoder, image_encoder (where there is one), transformer, vae,
    branch, adapters (all LoRAs together)."""
    kinds = {"text_encoder": quantization, "transformer": quantization}
    parts = {part: tensor_bytes(header, itemsize, kinds.get(part, "none")) for part, header in headers.items()}
    # T5's embedding may stand in its file twice; it is one tensor.
    text = {name: size for name, size in parts["text_encoder"].items() if "encoder.embed_tokens" not in name}
    adapters = sum(parts.get("adapters", {}).values())
    block, outside = block_sizes(parts["transformer"], f"{backbone.blocks}.")
    leaves: Iterable[int] = (size for part in (text, parts["transformer"], parts["vae"]) for size in part.values())
    return ModelSizes(
        text_encoder=sum(text.values()),
        transformer=sum(parts["transformer"].values()) + adapters,
        vae=sum(parts["vae"].values()),
        image_encoder=sum(parts.get("image_encoder", {}).values()),
        branch=sum(parts.get("branch", {}).values()),
        largest_block=block + adapters // backbone.num_layers,
        outside_blocks=outside,
        largest_leaf=max(leaves),
        width=backbone.width,
        num_layers=backbone.num_layers,
        text_tokens=backbone.text_tokens,
        grid=backbone.grid,
        tile=backbone.tile,
        costs=backbone.costs,
        channels=backbone.vae_channels(vae_config),
        itemsize=itemsize,
    )


def filler_mode(part_bytes: Mapping[str, int], free: float) -> str:
    """How an image pipeline (FLUX.1-Fill) is held: ``model_offload`` where its largest part fits, else
    ``group_offload``."""
    return "model_offload" if fits(max(part_bytes.values()) + FILLER_ROOM, free) else "group_offload"


# An image of two megapixels (the largest that is painted) through FLUX's VAE, untiled; its transformer's step takes
# 0.9 GiB.
FILLER_ROOM = 1_540 * 2**21
