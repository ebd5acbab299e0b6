"""Render the demo: `data/demo/{video,mask}.mp4` and `prompt.txt`, a held-out scene whose rolling ball is to go."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.video.writer import VideoWriter

SEED, OBJECT, FRAMES, HEIGHT, WIDTH, FPS, PAN = 817093, 1, 57, 240, 360, 12, 2.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, default=Path("data/demo"))
    args = parser.parse_args()
    args.target.mkdir(parents=True, exist_ok=True)
    size = {"num_frames": FRAMES, "height": HEIGHT, "width": WIDTH, "pan": PAN, "rich": True, "bold": True}
    clip = render_clip(SEED, **size)  # type: ignore[arg-type]
    kernel = np.ones((5, 5), np.uint8)
    hole = np.stack([cv2.dilate(mask.astype(np.uint8), kernel) for mask in clip.footprint(OBJECT)]) * 255
    with VideoWriter(args.target / "video.mp4", fps=FPS, crf=16) as writer:
        writer.write(clip.frames)
    with VideoWriter(args.target / "mask.mp4", fps=FPS, crf=12) as writer:
        writer.write(np.repeat(hole[..., None], 3, axis=-1))
    (args.target / "prompt.txt").write_text(render_clip(SEED, **size, without=OBJECT).caption + "\n")


if __name__ == "__main__":
    main()
