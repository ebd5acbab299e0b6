"""What copying from other frames is worth, where it is known what lies behind the hole.

Every clip by every method, each in a process of its own: PSNR, SSIM and HaarPSI of the whole hole, how much of it was
copied and how good that is, pixels that are quite wrong, flicker, time and memory. Real clips have a hole laid over
what is seen (their folder: see `--clips`), drawn ones an object that the truth is drawn without.
    python benchmarks/propagation.py                                # all clips of --clips, and the drawn ones
    python benchmarks/propagation.py --only "tennis|scene" --frames 24
    python benchmarks/propagation.py --methods propagation model "propagation + model" --height 96 --width 144
    python benchmarks/propagation.py --clip street=street.mp4       # a hole that moves over a clip of your own
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from propagation_clips import Case, KnownClip, Size, all_cases, picked

from videopainter.data.clip import ArrayFrames, ArrayMasks, Clip
from videopainter.propagation.footage import Footage
from videopainter.propagation.seam import closed, propagated
from videopainter.propagation.settings import QUALITIES
from videopainter.propagation.sources import candidates_near
from videopainter.vision.fillers import telea
from videopainter.vision.homographies import scaled

ROOT = Path(__file__).parents[1]
METHODS = ("Telea", "filler", "temporal median", "propagation", "model", "propagation + model")
WITHOUT_MODEL = METHODS[:4]
WRONG = 24  # grey levels, of the worst of the three colours
MEDIAN_OF = 15  # aligned frames


# ---- methods: frames and holes in; the result, and what of the hole was copied


def by_filler(clip: Clip, work: Path) -> tuple[np.ndarray, np.ndarray]:
    frames, holes = clip.frames.read(0, len(clip)), clip.masks.read(0, len(clip))
    return np.stack([closed(frame, hole) for frame, hole in zip(frames, holes)]), np.zeros_like(holes)


def by_telea(clip: Clip, work: Path) -> tuple[np.ndarray, np.ndarray]:
    holes = clip.masks.read(0, len(clip))
    return telea(clip.frames.read(0, len(clip)), holes), np.zeros_like(holes)


def by_median(clip: Clip, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of the nearest frames brought into place by the camera's motion, where three at least show background."""
    footage = Footage(clip.frames, clip.masks, QUALITIES["default"])
    frames, holes = clip.frames.read(0, len(clip)).copy(), clip.masks.read(0, len(clip))
    copied = np.zeros_like(holes)
    with ThreadPoolExecutor(2) as pool:
        for t, hole in enumerate(holes):
            footage.move_to(t, t + 1, pool)
            if hole.any():
                _median_into(footage, t, frames[t], copied[t])
                frames[t] = closed(frames[t], hole & ~copied[t])
    return frames, copied


def _median_into(footage: Footage, t: int, frame: np.ndarray, copied: np.ndarray) -> None:
    motions, hole = footage.motions(t), footage.view(t).hole
    near = sorted((s for s in candidates_near(t, footage.reach) if s in motions), key=lambda s: abs(s - t))
    shown: list[np.ndarray] = []
    for s in near[: 2 * MEDIAN_OF]:
        view, size = footage.view(s), hole.shape[::-1]
        motion = scaled(motions[s], 1 / footage.scale)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        got = cv2.warpPerspective(view.frame, motion, size, flags=flags).astype(np.float32)
        free = cv2.warpPerspective(
            (~view.hole).astype(np.uint8), motion, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        )
        got[free == 0] = np.nan
        shown.append(got[hole])
    if not shown:
        return
    stack = np.stack(shown)
    enough = (~np.isnan(stack[..., 0])).sum(axis=0) >= 3
    pixels = np.argwhere(hole)[enough]
    frame[pixels[:, 0], pixels[:, 1]] = np.rint(np.nanmedian(stack[:, enough], axis=0)).astype(np.uint8)
    copied[pixels[:, 0], pixels[:, 1]] = True


def by_propagation(clip: Clip, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """As `--propagate only` does it."""
    from videopainter.runs.options import PropagationOptions
    from videopainter.runs.propagation import propagation_settings

    quality = os.environ["QUALITY"]
    settings = propagation_settings(PropagationOptions(propagate="only", propagation_quality=quality))  # type: ignore[arg-type]
    made = propagated(clip, work / "copied", settings)
    return made.frames.read(0, len(made)), clip.masks.read(0, len(clip)) & ~made.masks.read(0, len(made))


def by_door(*flags: str) -> Callable[[Clip, Path], tuple[np.ndarray, np.ndarray]]:
    """The tiny checkpoint, from file to file."""

    def run(clip: Clip, work: Path) -> tuple[np.ndarray, np.ndarray]:
        from videopainter.cli.inpaint import inpaint, read_options
        from videopainter.data.video.reader import open_video
        from videopainter.data.video.writer import VideoWriter

        holes = clip.masks.read(0, len(clip))
        with (
            VideoWriter(work / "video.mkv", fps=8, lossless=True) as video,
            VideoWriter(work / "mask.mkv", fps=8, lossless=True) as mask,
        ):
            video.write(clip.frames.read(0, len(clip)))
            mask.write(np.repeat(holes[..., None], 3, axis=-1) * np.uint8(255))
        arguments = ["--video", str(work / "video.mkv"), "--mask", str(work / "mask.mkv"), "--lossless"]
        arguments += ["--output_path", str(work / "out.mkv"), "--guidance_scale", "1", "--num_inference_steps", "4"]
        arguments += ["--prompt", "An empty scene.", "--match_edges", "--quiet", "--dilate_size", "0", *flags]
        code = inpaint(read_options(arguments))
        if code:
            raise SystemExit(code)
        result = open_video(work / "out.mkv")
        return result.read(0, len(result)), np.zeros_like(holes)

    return run


RUNS = {
    "Telea": by_telea,
    "filler": by_filler,
    "temporal median": by_median,
    "propagation": by_propagation,
    "model": by_door("--img_inpainting_model", "none"),
    "propagation + model": by_door("--propagate", "all", "--img_inpainting_model", "none"),
}


def run_one(method: str, work: Path) -> None:
    """In a process of its own: reads and writes arrays in `work`; prints what it took."""
    frames, holes = np.load(work / "frames.npy", mmap_mode="r"), np.load(work / "holes.npy")
    clip = Clip(name="clip", frames=ArrayFrames(frames), masks=ArrayMasks(holes))
    started, cpu = time.perf_counter(), time.process_time()
    result, copied = RUNS[method](clip, work)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    np.save(work / "result.npy", result)
    np.save(work / "copied.npy", copied)
    print(json.dumps({"wall": seconds / len(clip), "cpu": cpu / len(clip), "peak_mib": _peak_mib()}))


def _peak_mib() -> float:
    # Not getrusage: after a fork its peak is the parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def measured(method: str, clip: KnownClip, quality: str, pictures: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.save(work / "frames.npy", clip.frames)
        np.save(work / "holes.npy", clip.holes)
        command = [sys.executable, __file__, "--one", method, "--work", folder]
        ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"QUALITY": quality})
        if ran.returncode:
            raise RuntimeError(f"{method}: {ran.stderr.strip()[-2000:]}")
        result, copied = np.load(work / "result.npy"), np.load(work / "copied.npy")
        if pictures is not None:
            write_picture(pictures, clip, result, copied)
        found = scores(clip, result, copied) | json.loads(ran.stdout.splitlines()[-1])
        if (work / "out.json").exists():  # a door's own account
            facts = json.loads((work / "out.json").read_text()).get("propagation", {})
            found["coverage"] = facts.get("copied_share", 0.0)
        return found


# ---- scores


def scores(clip: KnownClip, result: np.ndarray, copied: np.ndarray) -> dict[str, Any]:
    """Of all holes' pixels together; SSIM and HaarPSI are means over frames."""
    from videopainter.metrics.fidelity import hole_fidelity
    from videopainter.metrics.networks.perceptual import haarpsi

    truth, holes, copied = clip.truth, clip.known, copied & clip.known
    some = holes.any(axis=(1, 2))
    ssim = hole_fidelity(truth[some], result[some], holes[some])["hole_ssim"]
    haar = haarpsi(truth[some], result[some], holes[some])
    return {
        "psnr": _psnr(truth[holes], result[holes]),
        "ssim": float(np.nanmean(ssim)),
        "haarpsi": float(np.nanmean(haar)),
        "wrong": _wrong(truth[holes], result[holes]),
        "coverage": float(copied[holes].mean()),
        "copied_psnr": _psnr(truth[copied], result[copied]) if copied.any() else None,
        "copied_wrong": _wrong(truth[copied], result[copied]) if copied.any() else None,
        "flicker": _flicker(clip, result),
    }


def _psnr(truth: np.ndarray, result: np.ndarray) -> float:
    error = np.square(truth.astype(np.float32) - result).mean(dtype=np.float64)
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def _wrong(truth: np.ndarray, result: np.ndarray) -> float:
    """Share of pixels (N, 3) that are quite another colour."""
    return float((cv2.absdiff(truth, result).max(axis=-1) > WRONG).mean())


def _flicker(clip: KnownClip, result: np.ndarray) -> float:
    """Grey levels by which the change from frame to frame is another than the truth's, in what both frames hide."""
    sums = count = 0.0
    for t in range(1, len(result)):
        both = clip.known[t] & clip.known[t - 1]
        change, known = (x[t][both].astype(np.int16) - x[t - 1][both] for x in (result, clip.truth))
        sums, count = sums + float(np.abs(change - known).sum()), count + change.size
    return sums / max(count, 1)


# ---- what people see


COLUMNS = {
    "copied": ("coverage", "{:.2f}"),
    "PSNR there": ("copied_psnr", "{:.1f}"),
    "wrong there, %": ("copied_wrong", "{:.2%}"),
    "hole PSNR": ("psnr", "{:.1f}"),
    "SSIM": ("ssim", "{:.3f}"),
    "HaarPSI": ("haarpsi", "{:.3f}"),
    "wrong, %": ("wrong", "{:.1%}"),
    "flicker": ("flicker", "{:.2f}"),
    "CPU s": ("cpu", "{:.2f}"),
    "wall s": ("wall", "{:.2f}"),
    "MiB": ("peak_mib", "{:.0f}"),
}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| clip | method | " + " | ".join(COLUMNS) + " |", "| --- | --- |" + " --- |" * len(COLUMNS)]
    for row in rows:
        cells = [_cell(row[key], form) for key, form in COLUMNS.values()]
        lines.append(f"| {row['clip']}{'' if row['tuned'] else ' *'} | {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", "\\* no threshold was tuned on it"])


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value).rstrip("%")


def write_picture(file: Path, clip: KnownClip, result: np.ndarray, copied: np.ndarray) -> None:
    """Five frames: truth, hole (what was copied in green, the rest in red), result, five times the error."""
    rows = []
    for t in np.linspace(0, len(result) - 1, 5).astype(int):
        marked = clip.frames[t].copy()
        marked[clip.holes[t]] = (220, 60, 60)
        marked[copied[t]] = (60, 180, 60)
        error = cv2.convertScaleAbs(cv2.absdiff(result[t], clip.truth[t]), alpha=5)
        rows.append(np.hstack([clip.truth[t], marked, result[t], error]))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet = cv2.resize(np.vstack(rows), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(file), sheet[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared/clips", help="davis/ and vpbench/ in it")
    parser.add_argument("--clip", nargs="+", default=[], metavar="NAME=VIDEO")
    parser.add_argument("--only", default="", help="a regular expression; clips whose name has it")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=WITHOUT_MODEL)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=720)
    parser.add_argument("--quality", choices=tuple(QUALITIES), default="default")
    parser.add_argument("--output", type=Path, default=Path("outputs/propagation.json"))
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of every result")
    parser.add_argument("--one", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one, arguments.work)
        return
    size = Size(frames=arguments.frames, height=arguments.height, width=arguments.width)
    rows = [
        row
        for case in picked(all_cases(arguments.clips, arguments.clip), arguments.only)
        for row in rows_of(case, size, arguments)
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(rows, indent=1))
    print("\n" + table(rows))


def rows_of(case: Case, size: Size, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    clip, rows = case.make(size), []
    for method in arguments.methods:
        name = f"{case.name} {method}".replace(" ", "_")
        picture = arguments.pictures / f"{name}.png" if arguments.pictures else None
        row = {"clip": case.name, "tuned": case.tuned, "method": method}
        rows.append(row | measured(method, clip, arguments.quality, picture))
        print(table(rows[-1:]).splitlines()[2], flush=True)
    return rows


if __name__ == "__main__":
    main()
