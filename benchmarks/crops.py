"""A small hole in a large video on a crop around it (`--crop auto`), and on all of it: PSNR in the hole, and time.

`ckpt/tiny`, drawn clips four times as high as it works (4K is to 480x720 as 4.5 to 1) with an elliptic hole that stays
or walks; the truth is what the hole hides. The first frame is the clip's own (`true`, as a good filler's) or filled by
`opencv`. Two windows. Ratios of one run.
    python benchmarks/crops.py [--clips 2] [--first_frame opencv] [--sheet outputs/crops.png]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from step_caches import TINY, psnr

from videopainter import load_pipeline
from videopainter.data import crops
from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.data.crops import CropPath
from videopainter.data.panels import contact_sheet
from videopainter.data.reshape import resize_frames
from videopainter.data.synthetic.scenes import render_clip
from videopainter.pipelines.conditioning import to_uint8_frames, to_video_tensor
from videopainter.pipelines.first_frame import OpenCVFiller
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.streaming import inpaint_stream
from videopainter.runs.candidates import filled_frame

HEIGHT, WIDTH, FRAMES = 256, 384, 29
# Hole's half height and width, and columns that it walks in a frame.
HOLES = {"stays": (20, 14, 0), "walks": (20, 14, 9), "larger, walks": (36, 24, 8)}
MODEL_SIZE, AUTO = "whole, at the model's size (`--crop none`)", "**`--crop auto`**"
STILL = "the same, in one place"
USUAL = (MODEL_SIZE, AUTO, STILL)
LARGE = "whole, at the video's size (one clip)"  # it takes minutes
SEED = 900_000
CasePath = Callable[[np.ndarray], CropPath]


def drawn(seed: int, hole: tuple[int, int, int]) -> Clip:
    """A scene with fine textures, and its hole."""
    scene = render_clip(seed, num_frames=FRAMES, height=HEIGHT, width=WIDTH, rich=True)
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    half_height, half_width, step = hole
    for t in range(FRAMES):
        left = 40 + half_width + step * t if step else WIDTH // 2
        picture = cv2.ellipse(
            np.zeros((HEIGHT, WIDTH), np.uint8), (left, 150), (half_width, half_height), 0, 0, 360, 1, -1
        )
        masks[t] = picture > 0
    return Clip(name=str(seed), frames=ArrayFrames(scene.frames), masks=ArrayMasks(masks), prompt=scene.caption)


def cases(pipe: Any) -> Iterator[tuple[str, InpaintSettings, CasePath]]:
    """Name, settings, and what the model sees of a video with such holes (boxes)."""
    plain = {"num_inference_steps": 4, "guidance_scale": 1.0, "num_frames": 17, "overlap_frames": 5}
    settings = InpaintSettings(crop="auto", first_frame_gt=True, **plain)
    facts = pipe.backbone.facts

    def path(boxes: np.ndarray, margin: float = 0.5) -> CropPath:
        with mock.patch.object(crops, "_MARGIN", margin):
            sizes = lambda height, width: settings.working_size(facts, height, width)  # noqa: E731
            return crops.crop_path(boxes, (HEIGHT, WIDTH), sizes, facts.trained_size, facts.grid.multiple)

    def still(boxes: np.ndarray) -> CropPath:
        union = [boxes[:, 0].min(), boxes[:, 1].max(), boxes[:, 2].min(), boxes[:, 3].max()]
        return path(np.tile(union, (len(boxes), 1)))

    def whole(boxes: np.ndarray) -> CropPath:
        return CropPath.whole(HEIGHT, WIDTH, len(boxes))

    yield MODEL_SIZE, settings, whole
    yield AUTO, settings, path
    yield STILL, settings, still
    yield "the same, margin .25", settings, lambda boxes: path(boxes, 0.25)
    yield "the same, margin 1", settings, lambda boxes: path(boxes, 1.0)
    full = InpaintSettings(height=HEIGHT, width=WIDTH, first_frame_gt=True, **plain)
    yield LARGE, full, whole


def inpaint(pipe: Any, clip: Clip, settings: InpaintSettings, path: CasePath, first: str) -> tuple[np.ndarray, float]:
    """The result, and its CPU seconds, looking for the hole included."""
    began, filler = time.thread_time(), OpenCVFiller()
    crop = path(crops.hole_boxes(clip.masks))
    chunks = inpaint_stream(
        pipe,
        clip.frames,
        clip.masks,
        settings=settings,
        prompt=clip.prompt,
        first_frame=clip.frames.read(0, 1)[0] if first == "true" else filled_frame(filler, clip, 0, crop.box(0)),
        crop=crop,
    )
    return np.concatenate(list(chunks)), time.thread_time() - began


def ceiling(pipe: Any, clip: Clip, settings: InpaintSettings, path: CasePath) -> float:
    """PSNR in the hole of the true clip, encoded and decoded at that size: what a perfect model could come to."""
    crop = path(crops.hole_boxes(clip.masks))
    height, width = settings.working_size(pipe.backbone.facts, crop.height, crop.width)
    truth, masks = (crop.cut(source.read(0, FRAMES), 0) for source in (clip.frames, clip.masks))
    with torch.no_grad():
        latents = pipe.codec.encode(to_video_tensor(resize_frames(truth, height, width)))
        pieces = [to_uint8_frames(one) for one in pipe.codec.decode_stream([latents], latents.shape[1])]
    shown = resize_frames(np.concatenate(pieces), crop.height, crop.width)
    return psnr(shown[masks], truth[masks])


def pictures(clip: Clip, results: dict[str, np.ndarray], frame: int) -> dict[str, list[np.ndarray]]:
    """What is around the hole in a frame, in the original and in every result."""
    rows, columns = (np.flatnonzero(clip.masks.read(frame, frame + 1)[0].any(axis)) for axis in (1, 0))
    place = np.s_[max(rows[0] - 30, 0) : rows[-1] + 30, max(columns[0] - 30, 0) : columns[-1] + 30]
    frames = {"original": clip.frames.read(0, FRAMES), **results}
    return {name.replace("*", "").replace("`", ""): [video[frame][place]] for name, video in frames.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--first_frame", choices=("true", "opencv"), default="true")
    parser.add_argument("--hole", choices=HOLES, action="append")
    parser.add_argument("--few", action="store_true", help="without other margins, and all of it at the video's size")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pipe = load_pipeline(TINY / "CogVideoX-5b-I2V", inpainting_branch=TINY / "VideoPainter" / "checkpoints" / "branch")
    pipe.set_progress_bar_config(disable=True)
    print(
        "| hole | what the model sees | PSNR in the hole, dB | the VAE alone | time |\n| --- | --- | --- | --- | --- |",
        flush=True,
    )
    sheet: dict[str, list[np.ndarray]] = {}
    for name in arguments.hole or HOLES:
        values, most, seconds = defaultdict(list), defaultdict(list), defaultdict(list)
        for seed in range(SEED, SEED + arguments.clips):
            clip, results = drawn(seed, HOLES[name]), {}
            masks, truth = clip.masks.read(0, FRAMES), clip.frames.read(0, FRAMES)
            for case, settings, path in cases(pipe):
                if case not in USUAL and (arguments.few or (case == LARGE and (name, seed) != ("walks", SEED))):
                    continue
                results[case], taken = inpaint(pipe, clip, settings, path, arguments.first_frame)
                assert np.array_equal(results[case][~masks], truth[~masks])
                values[case].append(psnr(results[case][1:][masks[1:]], truth[1:][masks[1:]]))
                seconds[case].append(taken)
                most[case].append(ceiling(pipe, clip, settings, path))
                print(f"{name}, clip {seed}, {case}: {taken:.1f} s", file=sys.stderr, flush=True)
            if name != "stays" and seed < 900_002:
                for column, rows in pictures(clip, results, 20).items():
                    sheet.setdefault(column, []).extend(rows)
        first = np.mean(next(iter(seconds.values())))
        for case, each in values.items():
            shown = f"{np.mean(each):.1f} | {np.mean(most[case]):.1f} | {np.mean(seconds[case]) / first:.2f}"
            print(f"| {name} | {case} | {shown} |", flush=True)
    if arguments.sheet is not None:
        contact_sheet(sheet, arguments.sheet)


if __name__ == "__main__":
    main()
