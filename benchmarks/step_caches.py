"""Time of denoising with step caches against every step computed, and how far the result is from that, in the hole.

`ckpt/tiny` and the demo's clip, several windows with ID memory handed on. Ratios of one run.
    python benchmarks/step_caches.py [--num_inference_steps 50]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videopainter import load_pipeline
from videopainter.data.clip import ArrayFrames, ArrayMasks
from videopainter.data.video.reader import open_video
from videopainter.pipelines.settings import InpaintSettings
from videopainter.pipelines.step_cache import StepCache
from videopainter.pipelines.streaming import inpaint_stream

ROOT = Path(__file__).parents[1]
TINY = ROOT / "ckpt" / "tiny"
CASES = (
    ("first_block", 0.05),
    ("first_block", 0.1),
    ("first_block", 0.2),
    ("first_block", 0.3),
    ("taylorseer", 2),
    ("taylorseer", 3),
    ("taylorseer", 5),
    ("pab", 2),
    ("pab", 3),
)


def read_demo() -> tuple[np.ndarray, np.ndarray, str]:
    """Frames (T, H, W, 3), masks (T, H, W) and prompt of `data/demo`."""
    video, mask = (open_video(ROOT / "data" / "demo" / f"{name}.mp4") for name in ("video", "mask"))
    masks = mask.read(0, len(mask))[..., 0] > 127
    return video.read(0, len(video)), masks, (ROOT / "data" / "demo" / "prompt.txt").read_text().strip()


def inpaint(cache: StepCache | None, settings: InpaintSettings, clip: tuple[Any, Any, str]) -> tuple[np.ndarray, float]:
    """The result, and CPU seconds of all passes of the backbone."""
    pipe = load_pipeline(
        TINY / "CogVideoX-5b-I2V",
        inpainting_branch=TINY / "VideoPainter" / "checkpoints" / "branch",
        id_adapter=TINY / "VideoPainterID" / "checkpoints",
        cache=cache,
    )
    pipe.set_progress_bar_config(disable=True)
    seconds, began = 0.0, 0.0

    def before(*_: Any) -> None:
        nonlocal began
        began = time.thread_time()

    def after(*_: Any) -> None:
        nonlocal seconds
        seconds += time.thread_time() - began

    pipe.transformer.register_forward_pre_hook(before)
    pipe.transformer.register_forward_hook(after)
    frames, masks, prompt = clip
    chunks = inpaint_stream(pipe, ArrayFrames(frames), ArrayMasks(masks), settings=settings, prompt=prompt)
    return np.concatenate(list(chunks)), seconds


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_inference_steps", type=int, default=50)
    parser.add_argument("--num_frames", type=int, default=17)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = arguments.num_inference_steps
    settings = InpaintSettings(
        num_inference_steps=steps, num_frames=arguments.num_frames, overlap_frames=5, prev_clip_weight=0.5
    )
    clip = read_demo()
    whole, base = inpaint(None, settings, clip)
    print(f"{len(whole)} frames, {steps} steps, backbone {base:.1f} s with every step computed\n")
    print("| cache | threshold | time | PSNR in the hole, dB |\n| --- | --- | --- | --- |", flush=True)
    for name, threshold in CASES:
        result, seconds = inpaint(StepCache(name=name, threshold=threshold), settings, clip)
        distance = psnr(result[clip[1]], whole[clip[1]])
        print(f"| {name} | {threshold:g} | {seconds / base:.2f} | {distance:.1f} |", flush=True)


if __name__ == "__main__":
    main()
