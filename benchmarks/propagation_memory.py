"""Peak memory of `--remove` from file to file, by the number of frames and by their size. No model is loaded.

A textured wall under a camera that pans, and a hole that moves across. Each run is a process of its own.
    python benchmarks/propagation_memory.py                       # 250 and 1000 frames of 352×240
    python benchmarks/propagation_memory.py --size 3840x2160 --frames 48
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from videopainter.data.video.writer import VideoWriter

DOOR = Path(__file__).parents[1] / "infer" / "inpaint.py"
# The door, and the peak of what it held; what an exec'd process of ours says.
RUN = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("PEAK", open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def write_clip(folder: Path, frames: int, height: int, width: int) -> tuple[Path, Path]:
    """Drawn frame by frame, as mp4 files."""
    rng, total = np.random.default_rng(0), np.zeros((height, 2 * width, 3), np.float32)
    for grain in (3, 12, 50):
        blobs = rng.normal(0, 18, (height // grain + 2, 2 * width // grain + 2, 3)).astype(np.float32)
        total += cv2.resize(blobs, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    wall = np.clip(125 + total, 0, 255).astype(np.uint8)
    video, mask = folder / "video.mp4", folder / "mask.mp4"
    with VideoWriter(video, fps=24) as pixels, VideoWriter(mask, fps=24) as holes:
        for t in range(frames):
            # To and fro, so that any length shows the same wall.
            left = int(width / 2 * (1 + np.sin(t * 4 / width)))
            hole = np.zeros((height, width, 3), np.uint8)
            at = int((width * 0.6) * (0.5 + 0.5 * np.sin(t / 15)))
            hole[height // 4 : 3 * height // 4, at : at + width // 5] = 255
            pixels.write(wall[None, :, left : left + width])
            holes.write(hole[None])
    return video, mask


def peak_of(frames: int, height: int, width: int, flags: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        video, mask = write_clip(Path(folder), frames, height, width)
        output = Path(folder) / "out.mp4"
        command = [sys.executable, "-c", RUN, str(DOOR), "--remove", "--video", str(video), "--mask", str(mask)]
        started = time.perf_counter()
        ran = subprocess.run(
            [*command, "--output_path", str(output), "--quiet", *flags], stdout=subprocess.PIPE, text=True
        )
        if ran.returncode:
            raise SystemExit(f"the run ended with {ran.returncode}")
        seconds, facts = time.perf_counter() - started, json.loads((Path(folder) / "out.json").read_text())
        peak = int(ran.stdout.split("PEAK")[1]) / 1024
    return {"peak_mib": peak, "seconds": seconds, "copied": facts["propagation"]["copied_share"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--size", default="352x240", help="width x height")
    arguments, flags = parser.parse_known_args()
    width, height = (int(x) for x in arguments.size.split("x"))
    print("| size | frames | peak MiB | seconds | copied |\n| --- | --- | --- | --- | --- |")
    for frames in arguments.frames:
        found = peak_of(frames, height, width, flags)
        cells = f"{found['peak_mib']:.0f} | {found['seconds']:.0f} | {found['copied']:.2f}"
        print(f"| {width}×{height} | {frames} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
