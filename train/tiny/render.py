"""Render the synthetic clips that the tiny checkpoint is trained on.

Every clip is rendered whole, without one of its objects, and with that object's footprint, into
`<work>/<name>_{frames,without,footprint}.npy` and `<work>/<name>_captions.json`.
"""

from __future__ import annotations

import argparse
import json
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from videopainter.data.synthetic.scenes import render_clip, sample_scene

HEIGHT, WIDTH = 96, 144


def render_pair(job: tuple[int, dict]):
    """One scene: frames, frames without the object, its footprint, both captions, the object's caption."""
    seed, size = job
    clip = render_clip(seed, **size)
    removed = 1 + seed % len(clip.object_captions)
    empty = render_clip(seed, **size, without=removed)
    captions = {"seed": seed, "full": clip.caption, "without": empty.caption}
    captions["object"] = clip.object_captions[removed - 1]
    item = sample_scene(seed, bold=True).objects[removed - 1]
    captions |= {"shape": item.shape, "colour": item.colour}
    return clip.frames, empty.frames, clip.footprint(removed), captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", required=True, help="what the files' names begin with")
    parser.add_argument("--clips", type=int, required=True)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--first_seed", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    if (args.work / f"{args.name}_captions.json").exists():
        return
    args.work.mkdir(parents=True, exist_ok=True)
    shape = (args.clips, args.frames, HEIGHT, WIDTH)
    stores = {
        "frames": open_memmap(args.work / f"{args.name}_frames.npy", "w+", np.uint8, (*shape, 3)),
        "without": open_memmap(args.work / f"{args.name}_without.npy", "w+", np.uint8, (*shape, 3)),
        "footprint": open_memmap(args.work / f"{args.name}_footprint.npy", "w+", np.bool_, shape),
    }
    captions = []
    look = {"num_frames": args.frames, "height": HEIGHT, "width": WIDTH, "bold": True}
    jobs = [(args.first_seed + index, look) for index in range(args.clips)]
    with Pool(args.processes) as pool:
        for index, (full, without, footprint, words) in enumerate(pool.imap(render_pair, jobs, chunksize=8)):
            stores["frames"][index], stores["without"][index] = full, without
            stores["footprint"][index] = footprint
            captions.append(words)
    # Written last: its presence says that the arrays are whole.
    (args.work / f"{args.name}_captions.json").write_text(json.dumps(captions, indent=0))


if __name__ == "__main__":
    main()
