"""How well the tracker without weights follows an object: mean J and contour F, and what its alarm is worth.

Real clips (DAVIS's bmx-trees, and tennis without its shadow) and synthetic scenes with exact masks, from a given first
mask, a box, a click, the best of three candidates of a click, and a box with three strokes; beside the first mask kept
still, flow alone, and GrabCut per frame.
    python benchmarks/tracking.py --davis ../shared/clips/davis [--frames 30] [--scenes 4] [--starts given box]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np

from videopainter.data.images import write_image
from videopainter.data.masks.opening import open_masks
from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.video.reader import open_video
from videopainter.segmentation.builtin import BuiltinSegmenter
from videopainter.segmentation.prompts import BoxPrompt, MaskPrompt, PointPrompt, Prompt, StrokePrompt
from videopainter.segmentation.segmenter import FrameMask, FrameView
from videopainter.segmentation.tracker.alarm import grabcut
from videopainter.segmentation.tracker.labelling import opened
from videopainter.segmentation.tracker.picture import grown, shrunk
from videopainter.vision.flow import DenseFlow, warp

STARTS = ("given", "box", "click", "best", "strokes")
BASELINES = ("still", "flow", "grabcut")
FIRST_SCENE = 500  # seeds that no test looks at
# Tennis: rows below his knees; what is wider there has his shadow in it; how much redder than blue the court is.
KNEES, SHADOW_WIDTH, COURT = 130, 75, 40
BAD = 0.5  # a frame with a smaller J


@dataclass(frozen=True)
class Scene:
    name: str
    real: bool
    frames: np.ndarray  # uint8 (T, H, W, 3)
    truth: np.ndarray  # bool (T, H, W)


def davis(folder: Path, length: int) -> Iterator[Scene]:
    for name in ("tennis", "bmx-trees"):
        source = open_video(folder / "JPEGImages_432_240" / name)
        count = min(length, len(source))
        truth = open_masks(folder / "test_masks" / name, frames=source).read(0, count)
        if name == "tennis":
            truth = np.stack([without_shadow(*pair) for pair in zip(source.read(0, count), truth, strict=True)])
        yield Scene(name, True, source.read(0, count), truth)


def without_shadow(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The player alone: below the first long row of the mask the court's own hue is his shadow."""
    long = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((1, SHADOW_WIDTH), np.uint8)).any(1)
    rows = KNEES + np.flatnonzero(long[KNEES:])
    if not len(rows):
        return mask
    top = int(rows[0])
    legs = grown(np.broadcast_to(mask[top - 8 : top].any(0), mask.shape), 8)
    red, blue = (cv2.blur(frame[..., k], (3, 3)).astype(int) for k in (0, 2))
    cut = mask.copy()
    cut[top:] &= (legs & (red - blue < COURT))[top:]
    return opened(cut)


def synthetic(count: int, length: int) -> Iterator[Scene]:
    for seed in range(FIRST_SCENE, FIRST_SCENE + count):
        clip = render_clip(seed, num_frames=length, height=240, width=360, rich=True)
        largest = np.bincount(clip.masks[0].ravel())[1:].argmax() + 1
        yield Scene(f"scene {seed}", False, clip.frames, clip.masks == largest)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum()) if (a | b).any() else 1.0


def contour_f(a: np.ndarray, b: np.ndarray) -> float:
    """F of two outlines, up to .8 % of the diagonal apart, as DAVIS counts."""
    reach = max(1, round(0.008 * float(np.hypot(*a.shape))))
    lines = [mask & ~shrunk(mask, 1) for mask in (a, b)]
    if not lines[0].any() or not lines[1].any():
        return float(lines[0].any() == lines[1].any())
    precision = (lines[0] & grown(lines[1], reach)).sum() / lines[0].sum()
    recall = (lines[1] & grown(lines[0], reach)).sum() / lines[1].sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


# ---- prompts as a person would give them


def box_of(mask: np.ndarray) -> BoxPrompt:
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = (float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    return BoxPrompt(frame=0, x0=x0, y0=y0, x1=x1, y1=y1)


def deepest(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel that is farthest from a mask's edge: where one clicks."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def stroke_on(wrong: np.ndarray, *, positive: bool) -> StrokePrompt:
    """A short line in the middle of the largest part of what is wrong."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8))
    part = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y = deepest(part)
    ends = [(x, y)]
    padded = np.pad(part, 12)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        reach = next((k for k in range(12) if not padded[y + dy * k + 12, x + dx * k + 12]), 12)
        ends.append((x + dx * max(0, reach - 2), y + dy * max(0, reach - 2)))
    far = max(ends, key=lambda end: abs(end[0] - x) + abs(end[1] - y))
    return StrokePrompt(frame=0, places=((float(x), float(y)), (float(far[0]), float(far[1]))), positive=positive)


class Runner:
    """Tracks one scene from several starts."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder = scene, folder
        self.segmenter = BuiltinSegmenter()
        self.view = FrameView(read=lambda k: scene.frames[k], number=0, length=len(scene.frames))

    def anchor(self, start: str) -> np.ndarray:
        first = self.scene.truth[0]
        if start == "given":
            write_image(self.folder / "mask.png", first.astype(np.uint8) * 255)
            return self.segmenter.solve(self.view, [MaskPrompt(frame=0, file=str(self.folder / "mask.png"))])
        if start in ("click", "best"):
            x, y = deepest(first)
            prompts = [PointPrompt(frame=0, x=x, y=y)]
            found = [self.segmenter.solve(self.view, prompts, candidate=k) for k in range(1, 2 + 2 * (start == "best"))]
            return max(found, key=lambda anchor: jaccard(self.mask(anchor), first))
        prompts: list[Prompt] = [box_of(first)]
        for _ in range(3 if start == "strokes" else 0):
            mask = self.mask(self.segmenter.solve(self.view, prompts))
            missed, extra = first & ~mask, mask & ~first
            if not missed.any() and not extra.any():
                break
            positive = missed.sum() >= extra.sum()
            prompts.append(stroke_on(missed if positive else extra, positive=bool(positive)))
        return self.segmenter.solve(self.view, prompts)

    def mask(self, anchor: np.ndarray) -> np.ndarray:
        return self.segmenter.follower().start(self.scene.frames[0], anchor).mask

    def track(self, start: str) -> tuple[list[FrameMask], float]:
        """Masks, and seconds per frame."""
        follower, anchor = self.segmenter.follower(), self.anchor(start)
        masks = [follower.start(self.scene.frames[0], anchor)]
        begun = time.perf_counter()
        masks += [follower.step(frame) for frame in self.scene.frames[1:]]
        return masks, (time.perf_counter() - begun) / max(1, len(masks) - 1)


def baseline(name: str, scene: Scene) -> list[np.ndarray]:
    masks, flow = [scene.truth[0]], DenseFlow("medium")
    prob = scene.truth[0].astype(np.float32)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in scene.frames]
    for k in range(1, len(scene.frames)):
        if name == "flow":
            prob = warp(prob, flow(gray[k], gray[k - 1]))
            masks.append(prob > 0.5)
        elif name == "grabcut" and masks[-1].any():
            labels = np.where(masks[-1], cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
            labels[shrunk(masks[-1], 4)], labels[~grown(masks[-1], 10)] = cv2.GC_FGD, cv2.GC_BGD
            masks.append(grabcut(scene.frames[k], labels, rounds=2))
        else:
            masks.append(masks[-1])
    return masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--davis", type=Path, help="DAVIS in the benchmark's layout")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--starts", nargs="*", default=[*STARTS, *BASELINES])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    real = davis(options.davis, options.frames) if options.davis else ()
    scenes = [*real, *synthetic(options.scenes, options.frames)]
    table: dict[str, dict[str, object]] = defaultdict(dict)
    counts: dict[bool, np.ndarray] = {True: np.zeros(3, int), False: np.zeros(3, int)}  # bad, flagged, both
    with tempfile.TemporaryDirectory() as folder:
        for scene in scenes:
            runner = Runner(scene, Path(folder))
            for start in options.starts:
                if start in BASELINES:
                    masks, seconds = baseline(start, scene), None
                else:
                    found, seconds = runner.track(start)
                    masks = [one.mask for one in found]
                    counts[scene.real] += alarm_counts(found, scene.truth)
                table[scene.name][start] = row_of(masks, scene.truth, seconds)
                print(scene.name, start, table[scene.name][start], flush=True)
    for kind, real in (("real", True), ("synthetic", False)):
        bad, flagged, both = (int(n) for n in counts[real])
        print(f"alarm on {kind} clips: {bad} bad frames, {flagged} flagged, {both} both")
    print(json.dumps(summary(table, scenes), indent=1))


def alarm_counts(found: Sequence[FrameMask], truth: np.ndarray) -> np.ndarray:
    """(frames whose mask is bad, frames that are flagged, both); the first frame is not the tracker's."""
    bad = np.array([jaccard(one.mask, mask) < BAD for one, mask in zip(found, truth, strict=True)])[1:]
    flagged = np.array([one.state != "tracked" for one in found])[1:]
    return np.array([bad.sum(), flagged.sum(), (bad & flagged).sum()])


def row_of(masks: Sequence[np.ndarray], truth: np.ndarray, seconds: float | None) -> dict[str, float]:
    pairs = list(zip(masks, truth, strict=True))
    row = {
        "J": float(np.mean([jaccard(*pair) for pair in pairs])),
        "F": float(np.mean([contour_f(*pair) for pair in pairs])),
    }
    row["first"] = jaccard(*pairs[0])
    return {name: round(value, 3) for name, value in (row | ({} if seconds is None else {"seconds": seconds})).items()}


def summary(table: dict[str, dict[str, object]], scenes: Sequence[Scene]) -> dict[str, dict[str, float]]:
    """Mean J over the synthetic scenes, and over the real clips, by start."""
    out: dict[str, dict[str, float]] = {}
    for kind, real in (("real", True), ("synthetic", False)):
        names = [scene.name for scene in scenes if scene.real == real]
        starts = table[names[0]] if names else {}
        out[kind] = {s: round(float(np.mean([table[n][s]["J"] for n in names])), 3) for s in starts}  # type: ignore[index]
    return out


if __name__ == "__main__":
    main()
