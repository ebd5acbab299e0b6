"""What of a step's work can be left out: guidance outside of some steps, and tokens far from the hole in late steps.

A trial beside the product, which has neither. Guidance in an interval of steps: Kynkäänniemi et al., "Applying guidance
in a limited interval improves sample and distribution quality in diffusion models", arXiv 2404.07724. Near the hole
alone: from some step on the model sees the rectangle of tokens around the hole (positions are the whole picture's), as
replace_gt restores the rest anyway.

`ckpt/tiny` on held-out drawn clips, object and background to be painted from the caption; truth is the clip. `--wan`:
Wan with random weights, whose pictures mean nothing: time, and how far the result is from every step's full work.
    python benchmarks/step_savings.py [--clips 4] [--wan]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from step_caches import TINY, psnr

from videopainter import load_pipeline
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.synthetic.scenes import render_clip
from videopainter.pipelines import denoise
from videopainter.pipelines.inpaint import InpaintingPipeline
from videopainter.pipelines.prompts import PromptTrack
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.store import WindowStore
from videopainter.pipelines.streaming import denoise_windows, finished_frames, make_job

SEED, FRAMES = 900_000, 17
Box = tuple[slice, slice]  # of latents
_Whole = denoise._Predictor


@dataclass(frozen=True, kw_only=True)
class Saving:
    """`guided`: the share of steps in which guidance is on, from and to; `near`: the share from which on only tokens
    near the hole are seen, those within so many tokens of it (None: never)."""

    name: str
    guided: tuple[float, float] = (0.0, 1.0)
    near: tuple[float, int] | None = None


SAVINGS = (
    Saving(name="every step whole"),
    Saving(name="guidance off", guided=(0.0, 0.0)),
    Saving(name="guided in the first half", guided=(0.0, 0.5)),
    Saving(name="guided from .2 to .7", guided=(0.2, 0.7)),
    Saving(name="near the hole from .5 on, 1 token around", near=(0.5, 1)),
    Saving(name="near the hole from .25 on, 1 token around", near=(0.25, 1)),
)


class _Thrifty(_Whole):
    """The guided output of a window with some of the work left out; counts CPU seconds."""

    saving, seconds = SAVINGS[0], 0.0

    def __init__(self, pipe: Any, process: Any, steps: Any, conditions: Any, settings: Any, run: Any) -> None:
        given = (pipe, process, steps, conditions, settings, run)
        super().__init__(*given)
        self.passes: dict[tuple[bool, bool], _Whole] = {}
        self.box = _box_around(conditions.touched, pipe.backbone.grid.patch, self.saving.near)
        for guided in (True, False):
            own = settings if guided else replace(settings, guidance_scale=1.0)
            alone = run if guided else replace(run, prompt_embeds=run.prompt_embeds[-1:])
            for near in (True, False):
                seen = conditions.map(lambda x: x[(..., *self.box)]) if near else conditions
                made = _Whole(pipe, process, steps, seen, own, alone)
                if near:
                    whole = pipe.backbone.positions(conditions.masked_latents)
                    grid = pipe.backbone.grid.token_grid(conditions.mask.shape[1], *conditions.mask.shape[-2:])
                    made.clip = replace(made.clip, positions=_part(whole, grid, self.box, pipe.backbone.grid.patch))
                self.passes[guided, near] = made

    def __call__(self, latents: torch.Tensor, step: int, *, remember: bool) -> torch.Tensor:
        began, share = time.thread_time(), step / len(self.steps)
        near = self.saving.near is not None and share >= self.saving.near[0]
        made = self.passes[self.saving.guided[0] <= share < self.saving.guided[1], near]
        if near:
            output = torch.zeros_like(latents, dtype=torch.float32)
            output[(..., *self.box)] = made(latents[(..., *self.box)], step, remember=remember)
        else:
            output = made(latents, step, remember=remember)
        _Thrifty.seconds += time.thread_time() - began
        return output


def _box_around(touched: torch.Tensor, patch: int, near: tuple[float, int] | None) -> Box:
    """Rows and columns of latents, whole tokens, in which the hole lies in any frame."""
    seen, slices = touched[0].amax(dim=(0, 1)) > 0, []
    for axis in (1, 0):
        at = seen.any(axis).nonzero().flatten()
        margin = (near[1] if near else 0) * patch
        first = max(0, int(at[0]) // patch * patch - margin)
        last = min(seen.shape[1 - axis], -(-(int(at[-1]) + 1) // patch) * patch + margin)
        slices.append(slice(first, last))
    return slices[0], slices[1]


def _part(tables: Any, grid: tuple[int, int, int], box: Box, patch: int) -> Any:
    """The tables of the tokens in a box."""
    if isinstance(tables, tuple):
        return tuple(_part(one, grid, box, patch) for one in tables)
    axis = next(k for k, length in enumerate(tables.shape) if length == grid[0] * grid[1] * grid[2])
    rows, columns = (slice(side.start // patch, side.stop // patch) for side in box)
    kept = tables.unflatten(axis, grid)[(*[slice(None)] * (axis + 1), rows, columns)]
    return kept.flatten(axis, axis + 2)


@contextmanager
def thrifty(saving: Saving) -> Iterator[None]:
    """Windows are denoised with this left out."""
    _Thrifty.saving, _Thrifty.seconds = saving, 0.0
    with mock.patch.object(denoise, "_Predictor", _Thrifty):
        yield


class Clips:
    """Drawn clips: frames, holes (around an object), and prompt embeddings."""

    def __init__(self, pipe: InpaintingPipeline, *, wan: bool) -> None:
        self.pipe, self.wan = pipe, wan

    def make(self, seed: int) -> tuple[np.ndarray, np.ndarray, PromptTrack]:
        scene = render_clip(seed, num_frames=FRAMES, height=64, width=96, bold=True)
        masks = np.stack([cv2.dilate(one.astype(np.uint8), np.ones((5, 5))) > 0 for one in scene.footprint(1)])
        if self.wan:
            draw = torch.randn(
                2, 1, 7, self.pipe.transformer.config.text_dim, generator=torch.Generator().manual_seed(seed)
            )
            return scene.frames, masks, PromptTrack.from_embeds(self.pipe, draw[0], draw[1])
        return scene.frames, masks, PromptTrack.encode(self.pipe, scene.caption, "", guidance=True)


def _pipeline(wan: bool) -> InpaintingPipeline:
    if wan:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from wan_models import make_pipeline  # pyright: ignore[reportMissingImports]

        return make_pipeline()
    pipe = load_pipeline(TINY / "CogVideoX-5b-I2V", inpainting_branch=TINY / "VideoPainter" / "checkpoints" / "branch")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--num_inference_steps", type=int, default=20)
    parser.add_argument("--guidance_scale", type=float, default=6.0)
    parser.add_argument("--wan", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe = _pipeline(arguments.wan)
    clips = Clips(pipe, wan=arguments.wan)
    settings = InpaintSettings(
        num_inference_steps=arguments.num_inference_steps,
        guidance_scale=arguments.guidance_scale,
        num_frames=FRAMES,
        use_dynamic_cfg=not arguments.wan,
        height=64,
        width=96,
    )
    truth, full, seconds = defaultdict(list), defaultdict(list), defaultdict(float)
    for seed in range(SEED, SEED + arguments.clips):
        frames, masks, prompts = clips.make(seed)
        whole = None
        for saving in SAVINGS:
            with thrifty(saving):
                job = make_job(pipe, ArrayFrames(frames), ArrayMasks(masks), settings=settings, prompts=prompts)
                store = WindowStore()
                list(denoise_windows(pipe, job, store))
            result = np.concatenate(list(finished_frames(pipe, job, store)))
            whole = result if whole is None else whole
            truth[saving.name].append(psnr(result[masks], frames[masks]))
            full[saving.name].append(psnr(result[masks], whole[masks]))
            seconds[saving.name] += _Thrifty.seconds
            print(f"clip {seed}, {saving.name}: {_Thrifty.seconds:.1f} s", file=sys.stderr, flush=True)
    base = SAVINGS[0].name
    print("| work | faster | PSNR in the hole, dB | against every step whole | distance from it, dB |")
    print("| --- | --- | --- | --- | --- |")
    for name, each in truth.items():
        change = np.array(each) - np.array(truth[base])
        error = np.std(change, ddof=1) / len(change) ** 0.5 if len(change) > 1 else 0.0
        shown = f"{np.mean(each):.2f} | {change.mean():+.2f} ± {error:.2f} | {np.mean(full[name]):.1f}"
        print(f"| {name} | {seconds[base] / seconds[name]:.2f} | {shown} |")


if __name__ == "__main__":
    main()
