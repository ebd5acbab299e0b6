"""Time and memory of one backbone step with ID resampling off, exact and compact, as ratios of one run.

A backbone of random weights; a quarter of the tokens lies in the hole. On a GPU memory is what torch allocated at its
peak above the weights; on a CPU it is counted by torch's profiler.
    python benchmarks/id_resample.py [--width 3072 --layers 42 --device cuda --dtype bfloat16 ...]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from videopainter import VideoPainterTransformer3DModel
from videopainter.models.backbones.registry import backbone_of
from videopainter.models.id_resample import ClipMemory, HoleTokens, IDResample

HEAD = 64


def build(arguments: argparse.Namespace) -> VideoPainterTransformer3DModel:
    torch.manual_seed(0)
    model = VideoPainterTransformer3DModel(
        num_attention_heads=arguments.width // HEAD,
        attention_head_dim=HEAD,
        in_channels=32,
        num_layers=arguments.layers,
        text_embed_dim=64,
        max_text_seq_length=226,
        use_rotary_positional_embeddings=True,
    )
    return model.to(device=arguments.device, dtype=getattr(torch, arguments.dtype)).eval()


def variants(model: VideoPainterTransformer3DModel, tokens: int, batch: int) -> dict[str, Any]:
    """Functions that make the `id_resample` argument of a step, by name."""
    mask = torch.zeros(batch, tokens, dtype=torch.bool, device=model.device)
    mask[:, : tokens // 4] = True
    hole = HoleTokens.from_mask(mask)
    width = model.config.num_attention_heads * HEAD
    hidden = [torch.randn(batch, hole.index.shape[1], width, device=model.device, dtype=model.dtype)]
    memory = ClipMemory(hole, hidden * model.config.num_layers)
    makers: dict[str, Any] = {"off": lambda: None}
    for form in ("exact", "compact"):
        makers[form] = lambda form=form: IDResample(hole, form)
        makers[f"{form}, from the previous clip"] = lambda form=form: IDResample(
            hole, form, previous=memory, prev_clip_weight=0.5
        )
        makers[f"{form}, handing on"] = lambda form=form: IDResample(hole, form, remember=True)
    return makers


@torch.no_grad()
def measure(
    model: VideoPainterTransformer3DModel, inputs: dict[str, Any], make: Any, repeats: int
) -> tuple[float, float]:
    """Median seconds of a step, and the peak of memory above what is there before it, in MiB."""
    cuda = model.device.type == "cuda"

    def step() -> None:
        model(**inputs, id_resample=make(), return_dict=False)
        if cuda:
            torch.cuda.synchronize()

    step()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), (_cuda_peak(step) if cuda else _cpu_peak(step))


def _cuda_peak(step: Any) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _cpu_peak(step: Any) -> float:
    """The highest sum of live allocations that torch's profiler records."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--latents", type=int, nargs=3, default=(5, 30, 46), metavar=("T", "H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    model = build(arguments)
    frames, height, width = arguments.latents
    options = {"device": model.device, "dtype": model.dtype}
    inputs = {
        "hidden_states": torch.randn(arguments.batch, frames, 32, height, width, **options),
        "encoder_hidden_states": torch.randn(arguments.batch, 226, 64, **options),
        "timestep": torch.full((arguments.batch,), 500, device=model.device),
        "image_rotary_emb": backbone_of(model).positions(
            torch.empty(1, frames, 16, height, width, device=model.device)
        ),
    }
    tokens = frames * (height // 2) * (width // 2)
    where = f"{arguments.device} {arguments.dtype}"
    print(f"{arguments.layers} blocks, {arguments.width} wide, {tokens} video tokens, {where}")
    print("| ID resampling | s per step | ratio | MiB above weights | ratio |\n| --- | --- | --- | --- | --- |")
    base: tuple[float, float] | None = None
    for name, make in variants(model, tokens, arguments.batch).items():
        seconds, memory = measure(model, inputs, make, arguments.repeats)
        base = base or (seconds, memory)
        print(
            f"| {name} | {seconds:.3f} | {seconds / base[0]:.2f} | {memory:.0f} | {memory / base[1]:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
