"""CPU seconds of a whole run by part, beside the same made of upstream's own pieces in the same process.

    python benchmarks/whole_run.py [--height 96 --width 144 --frames 49 --window 49 --steps 8 --turns 3]

The published VAE, a backbone of 8 blocks 512 wide, a branch of 2, random weights, float32, guidance. Upstream's side:
of every window `vae.encode` of video and masked video, its own transformer of the same size (which takes no branch
features) and our branch, its scheduler's step, `vae.decode`. Ours has beside that: masks, feature injection,
`replace_gt`, the store, pasting; it decodes once.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from diffusers import CogVideoXTransformer3DModel

from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.models.backbones.cogvideox.published import (
    BACKBONES,
    build_backbone,
    build_branch,
    build_scheduler,
    build_vae,
)
from videopainter.pipelines import streaming
from videopainter.pipelines.inpaint import VideoPainterPipeline
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.windows import plan_windows

SMALL = {"num_attention_heads": 8, "text_embed_dim": 512, "max_text_seq_length": 32}
Seconds = dict[str, float]


@contextmanager
def added(seconds: Seconds, part: str):
    start = os.times().user
    yield
    seconds[part] = seconds.get(part, 0.0) + os.times().user - start


def timed(seconds: Seconds, part: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        with added(seconds, part):
            return work(*arguments, **options)

    return run


def ours(
    pipe: VideoPainterPipeline, frames: np.ndarray, masks: np.ndarray, prompts: Any, steps: int, window: int
) -> Seconds:
    """As `inpaint_stream` makes it; decoding pastes the background, too."""
    seconds: Seconds = {}
    names = {"make_conditions": "encode", "denoise_window": "steps"}
    kept = {name: getattr(streaming, name) for name in names}
    for name, part in names.items():
        setattr(streaming, name, timed(seconds, part, kept[name]))
    try:
        settings = InpaintSettings(
            height=frames.shape[1], width=frames.shape[2], num_frames=window, num_inference_steps=steps
        )
        track = PromptTrack((0,), (torch.cat(prompts[::-1]),))
        with added(seconds, "whole"):
            job = streaming.make_job(pipe, ArrayFrames(frames), ArrayMasks(masks), settings=settings, prompts=track)
            store = WindowStore()
            for _ in streaming.denoise_windows(pipe, job, store):
                pass
            with added(seconds, "decode"):
                for _ in streaming.finished_frames(pipe, job, store):
                    pass
    finally:
        for name, work in kept.items():
            setattr(streaming, name, work)
    return seconds


@torch.no_grad()
def upstreams(
    pipe: VideoPainterPipeline, plain: Any, frames: np.ndarray, prompts: Any, steps: int, window: int
) -> Seconds:
    """The same work through upstream's models and scheduler, on the same weights of VAE and branch."""
    seconds: Seconds = {}
    vae, branch, scheduler = pipe.vae, pipe.branch, build_scheduler()
    with added(seconds, "whole"):
        for part in plan_windows(len(frames), window).windows:
            video = torch.from_numpy(frames[part.start : part.stop]).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            with added(seconds, "encode"):
                clean, masked = (vae.encode(x).latent_dist.mode().permute(0, 2, 1, 3, 4) for x in (video, video * 0.5))
            with added(seconds, "steps"):
                latents, condition = torch.randn_like(clean), torch.cat([masked, masked[:, :, :1]], dim=2)
                scheduler.set_timesteps(steps)
                tables = pipe.backbone.positions(clean)
                prompt, old, before = torch.cat(prompts[::-1]), None, None
                for t in scheduler.timesteps:
                    double = latents.repeat(2, 1, 1, 1, 1)
                    options = {"encoder_hidden_states": prompt, "timestep": t.expand(2), "image_rotary_emb": tables}
                    branch(double, branch_cond=condition.repeat(2, 1, 1, 1, 1), **options)
                    given = torch.cat([double, clean.repeat(2, 1, 1, 1, 1)], dim=2)
                    low, high = plain(given, return_dict=False, **options)[0].chunk(2)
                    latents, old = scheduler.step(low + 6 * (high - low), old, t, before, latents, return_dict=False)
                    before = t
            with added(seconds, "decode"):
                decoded = vae.decode(latents.permute(0, 2, 1, 3, 4)).sample
                ((decoded[0].permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("height", 96), ("width", 144), ("frames", 49), ("window", 49), ("steps", 8), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = {**SMALL, "sample_height": chosen.height // 8, "sample_width": chosen.width // 8}
    backbone = build_backbone(dtype=torch.float32, num_layers=8, **size)
    branch = build_branch(dtype=torch.float32, **size)
    plain = CogVideoXTransformer3DModel(**{**BACKBONES["CogVideoX-5b-I2V"], "num_layers": 8, **size})
    for model in (backbone, branch, plain):
        model.requires_grad_(False).eval()
    pipe = VideoPainterPipeline(None, None, build_vae(dtype=torch.float32).eval(), backbone, build_scheduler(), branch)
    pipe.set_progress_bar_config(disable=True)
    shape = (chosen.frames, chosen.height, chosen.width)
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    masks = np.zeros(shape, bool)
    masks[:, chosen.height // 4 : -chosen.height // 4, chosen.width // 4 : -chosen.width // 4] = True
    prompts = torch.randn(2, 1, 32, 512).unbind()
    found: dict[str, list[Seconds]] = {"upstream": [], "ours": []}
    start = time.perf_counter()
    for turn in range(chosen.turns + 1):
        count = chosen.frames if turn else 9  # the first warms up
        steps, window = chosen.steps, min(count, chosen.window)
        both = {
            "upstream": upstreams(pipe, plain, frames[:count], prompts, steps, window),
            "ours": ours(pipe, frames[:count], masks[:count], prompts, steps, window),
        }
        if turn:
            for side, seconds in both.items():
                found[side].append(seconds)
    print("| | upstream | ours | ratio |\n| --- | --- | --- | --- |")
    for part in ("encode", "steps", "decode", "whole"):
        theirs, own = (statistics.median(row[part] for row in found[side]) for side in ("upstream", "ours"))
        print(f"| {part} | {theirs:.2f} | {own:.2f} | {own / theirs:.2f} |")
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
