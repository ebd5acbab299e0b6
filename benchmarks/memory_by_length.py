"""Peak memory of the process that inpaints 49 and 490 frames of 352×240, from file to file, one denoising step.

Each length runs in a process of its own, on the checkpoint given. Prints the peaks and their ratio.
    python benchmarks/memory_by_length.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
HEIGHT, WIDTH = 240, 352


def write_clip(folder: Path, frames: int) -> tuple[Path, Path]:
    """A drifting gradient and a moving box, as mp4 files."""
    from videopainter.data.video.writer import VideoWriter

    video, mask = folder / "video.mp4", folder / "mask.mp4"
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))
    with (
        VideoWriter(video, fps=8) as pixels,
        VideoWriter(mask, fps=8) as holes,
    ):
        for t in range(frames):
            frame = np.stack([ramp + 3 * t, ramp - t, ramp + 90], axis=-1) % 256
            hole = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            x = 20 + t % 200
            hole[80:160, x : x + 90] = 255
            pixels.write(frame[None].astype(np.uint8))
            holes.write(hole[None])
    return video, mask


def run_one(arguments: argparse.Namespace) -> None:
    from videopainter import load_pipeline
    from videopainter.data.masks.opening import open_masks
    from videopainter.data.video.reader import open_video
    from videopainter.data.video.writer import VideoWriter
    from videopainter.pipelines.settings import InpaintSettings
    from videopainter.pipelines.streaming import inpaint_stream

    with tempfile.TemporaryDirectory() as folder:
        video, mask = write_clip(Path(folder), arguments.frames)
        frames = open_video(video)
        masks = open_masks(mask, frames=frames)
        pipe = load_pipeline(arguments.model_path, inpainting_branch=arguments.inpainting_branch)
        pipe.set_progress_bar_config(disable=True)
        settings = InpaintSettings(height=HEIGHT, width=WIDTH, num_inference_steps=1)
        started, count = time.perf_counter(), 0
        with VideoWriter(Path(folder) / "out.mp4", fps=8) as writer:
            for chunk in inpaint_stream(
                pipe, frames, masks, settings=settings, prompt="a box", work_dir=Path(folder) / "work"
            ):
                count += len(chunk)
                writer.write(chunk)
        assert count == arguments.frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"frames": count, "peak_MiB": round(peak), "seconds": round(time.perf_counter() - started, 1)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tiny = ROOT / "ckpt" / "tiny"
    parser.add_argument("--model_path", default=str(tiny / "CogVideoX-5b-I2V"))
    parser.add_argument("--inpainting_branch", default=str(tiny / "VideoPainter" / "checkpoints" / "branch"))
    parser.add_argument("--frames", type=int, help="run this one length in this process")
    arguments = parser.parse_args()
    if arguments.frames:
        run_one(arguments)
        return
    peaks = []
    for frames in (49, 490):
        command = [sys.executable, __file__, *sys.argv[1:], "--frames", str(frames)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        print(output)
        peaks.append(json.loads(output)["peak_MiB"])
    print(f"ratio of the peaks: {peaks[1] / peaks[0]:.3f} (at most 1.10)")
    sys.exit(peaks[1] / peaks[0] > 1.10)


if __name__ == "__main__":
    main()
