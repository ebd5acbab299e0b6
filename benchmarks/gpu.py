"""Seconds and memory of everything that needs a GPU, at the sizes of CogVideoX-5B-I2V with random weights.

    python benchmarks/gpu.py                    # all that the results lack; call again until it says "done"
    python benchmarks/gpu.py --part memory      # one part, anew
    python benchmarks/gpu.py --size tiny --steps 2   # small models: whether everything runs, on a CPU too

A call starts no case after --minutes. Results go to --output (JSON) and, as tables, to the .md beside it; a case that
fails is reported in its row and stops no other. The time to the first frame is told for 50 steps: what was measured,
and the steps that were not run.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from gpu_parts import (
    SIZES,
    Inpainting,
    Setting,
    measure_decoding,
    measure_inpainting,
    measure_training,
    release,
)

from videopainter.files import read_json, write_json, write_text

Case = tuple[Callable[[Any, Setting], dict[str, Any]], Any]


def inpainting(**options: Any) -> Case:
    return measure_inpainting, Inpainting(**options)


def decoding(video: float, *, tiled: bool) -> Case:
    return measure_decoding, {"video": video, "tiled": tiled}


def training(kind: str, *, cached: bool) -> Case:
    return measure_training, {"kind": kind, "cached": cached}


TWO_WINDOWS = {"video": 1.75}  # 85 frames where a window has 49
PARTS: dict[str, dict[str, Case]] = {
    "memory": {mode: inpainting(memory=mode) for mode in ("full", "model_offload", "group_offload", "sequential")},
    "quantization": {
        "bf16": inpainting(),
        **{kind: inpainting(quantization=kind) for kind in ("int8", "fp8", "nf4")},
    },
    "id": {
        "off": inpainting(),
        "exact": inpainting(form="exact"),
        "compact": inpainting(form="compact"),
        "exact, two windows handed on": inpainting(form="exact", prev_clip_weight=1.0, **TWO_WINDOWS),
        "compact, two windows handed on": inpainting(form="compact", prev_clip_weight=1.0, **TWO_WINDOWS),
    },
    # Random weights: how much first_block leaves out says nothing about trained ones.
    "cache": {name: inpainting(cache=name, steps=3) for name in ("first_block", "taylorseer", "pab")},
    "compile": {
        "compiled": inpainting(compile=True),
        "compiled, exact ID": inpainting(compile=True, form="exact"),
        "compiled, int8": inpainting(compile=True, quantization="int8"),
        "compiled, pab": inpainting(compile=True, cache="pab", steps=3),
    },
    "attention": {
        name: inpainting(backend=name)
        for name in ("native", "_native_flash", "_native_cudnn", "_native_efficient", "flash", "flex", "sage")
    },
    "frames": {
        "one window": inpainting(),
        "twice the frames, one window": inpainting(window=2.0, video=2.0),
        "twice the frames, windows that overlap": inpainting(video=2.0),
    },
    "training": {
        f"{name}, {how}": training(kind, cached=how == "latent cache")
        for kind, name in (("branch", "branch"), ("id_adapter", "ID adapter"))
        for how in ("encoded on the fly", "latent cache")
    },
    "decode": {
        f"{name}, {how}": decoding(video, tiled=how == "tiled")
        for video, name in ((1.0, "one window"), (2.0, "twice the frames"))
        for how in ("whole frames", "tiled")
    },
}
COLUMNS = {
    "step_s": ("s per step", "{:.2f}"),
    "first_step_s": ("first step, s", "{:.2f}"),
    "frame_s": ("s per frame", "{:.3f}"),
    "first_frame_s": ("first frame, s", "{:.1f}"),
    "peak_gib": ("peak GiB", "{:.1f}"),
    "error": ("failed", "{}"),
}


def measure(part: str, name: str, setting: Setting) -> dict[str, Any]:
    """One row; a failure is a row, too."""
    function, case = PARTS[part][name]
    row: dict[str, Any] = {"part": part, "name": name, "steps": setting.steps}
    began = time.perf_counter()
    try:
        row |= function(case, setting)
    except Exception as error:  # a missing library, too little memory: the other cases are worth having
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    release(setting.device)
    return row | {"took_s": time.perf_counter() - began}


class Results:
    """Rows by part and name, in a JSON file that grows; refused where it is of another machine or size."""

    def __init__(self, path: Path, size: str, device: torch.device) -> None:
        self.path, self.rows = path, {}
        self.about = {"size": size, "device": device_name(device), "torch": torch.__version__}
        self.about |= {"diffusers": diffusers.__version__}
        if path.exists():
            found = read_json(path, "earlier figures", lenient=True)
            for key in ("size", "device"):
                if found["about"][key] != self.about[key]:
                    raise SystemExit(
                        f"error: {path} holds figures of {key} {found['about'][key]}, this is {self.about[key]}"
                    )
            self.rows = {(row["part"], row["name"]): row for row in found["rows"]}

    def lacks(self, part: str, name: str) -> bool:
        return "step_s" not in (row := self.rows.get((part, name), {})) and "frame_s" not in row

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row, in place of an older one, and write both files."""
        self.rows[row["part"], row["name"]] = row
        order = [(part, name) for part, cases in PARTS.items() for name in cases]
        rows = [self.rows[key] for key in order if key in self.rows]
        write_json(self.path, {"about": self.about, "rows": rows}, indent=1)
        write_text(self.path.with_suffix(".md"), to_markdown(self.about, rows))


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def to_markdown(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A table for every part, with the columns that it has."""
    lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
    for part in PARTS:
        of_part = [row for row in rows if row["part"] == part]
        if of_part:
            lines += [f"### {part}", "", *_table(of_part), ""]
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    columns = [key for key in COLUMNS if any(key in row for row in rows)]
    titles = ["", *(COLUMNS[key][0] for key in columns)]
    lines = [f"| {' | '.join(titles)} |", f"| {' | '.join('---' for _ in titles)} |"]
    for row in rows:
        cells = [COLUMNS[key][1].format(row[key]) if key in row else "" for key in columns]
        lines.append(f"| {' | '.join([row['name'], *cells])} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="measure this part anew; as often as you like")
    parser.add_argument("--case", action="append", help="of these parts, only cases of this name")
    parser.add_argument("--size", choices=SIZES, default="5b")
    parser.add_argument(
        "--steps", type=int, default=4, help="denoising or training steps, 2 or more: all but the first are timed"
    )
    parser.add_argument("--minutes", type=float, default=8, help="no case starts later than this")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu.json"))
    arguments = parser.parse_args(argv)
    if arguments.steps < 2:  # the first compiles and warms up
        parser.error(f"--steps: expected 2 or more, got {arguments.steps}")
    began = time.perf_counter()
    device = torch.device(arguments.device)
    results = Results(arguments.output, arguments.size, device)
    setting = Setting(SIZES[arguments.size], device, arguments.steps)
    wanted = [
        (part, name)
        for part in arguments.part or PARTS
        for name in PARTS[part]
        if (arguments.part or results.lacks(part, name)) and name in (arguments.case or PARTS[part])
    ]
    for number, (part, name) in enumerate(wanted):
        if time.perf_counter() - began > 60 * arguments.minutes:
            print(f"{len(wanted) - number} cases left: call again", flush=True)
            return 0
        print(f"{part}: {name} ...", file=sys.stderr, flush=True)
        row = measure(part, name, setting)
        results.add(row)
        print("\n".join(_table([row])[2:]), flush=True)
    print(f"done: {arguments.output.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
