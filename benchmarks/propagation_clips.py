"""Clips for `propagation.py`: what lies behind their holes is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from videopainter.data.masks.opening import open_masks
from videopainter.data.records import record_paths
from videopainter.data.reshape import covering_box
from videopainter.data.synthetic.scenes import SyntheticClip, render_clip
from videopainter.data.video.reader import open_video


@dataclass(frozen=True, kw_only=True)
class KnownClip:
    """A method gets `frames` uint8 (T, H, W, 3) and `holes` bool (T, H, W).

    `truth` is what is behind the holes, where it is `known`: bool, within them.
    """

    frames: np.ndarray
    truth: np.ndarray
    holes: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many frames, and how large."""

    frames: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip by name; `tuned` says that thresholds were chosen with it at hand."""

    name: str
    tuned: bool
    make: Callable[[Size], KnownClip]


PEXELS = {"855": "000000000855_854996.mp4", "112": "000000112319_6693826.mp4", "134": "000000134923_7169873.mp4"}
DOG = "000005000000.0.mp4"
SCENES = (105, 90_211, 90_305, 90_408, 90_517)


def all_cases(clips: Path, more: list[str]) -> Iterator[Case]:
    """The cases whose files are there. `more`: NAME=VIDEO, clips of one's own, with a hole that moves over them."""
    for name in ("tennis", "bmx-trees"):
        if (clips / "davis/JPEGImages_432_240" / name).is_dir():
            yield Case(name=f"{name} shifted", tuned=True, make=lambda s, n=name: _shifted(clips, n, s))
            yield Case(name=f"{name} free-form", tuned=True, make=lambda s, n=name: _strokes_too(clips, n, s))
            yield Case(name=f"{name} crossed", tuned=False, make=lambda s, n=name: _free_form(_davis(clips, n, s)[0]))
    for name, path in PEXELS.items():
        if (clips / "vpbench" / record_paths(path)[0]).is_file():
            yield Case(name=f"Pexels {name}", tuned=True, make=lambda s, p=path: _with_ids(clips, p, 1, s))
            yield Case(
                name=f"Pexels {name} free-form", tuned=False, make=lambda s, p=path: _free_form(_pixels(clips, p, s))
            )
    if (clips / "vpbench" / record_paths(DOG)[0]).is_file():
        yield Case(name="dog free-form", tuned=False, make=lambda s: _free_form(_pixels(clips, DOG, s)))
    for seed in SCENES:
        yield Case(name=f"scene {seed}", tuned=False, make=lambda s, k=seed: _removal(k, s))
    yield Case(name="exposure", tuned=False, make=_exposure)
    yield Case(name="cut", tuned=False, make=_cut)
    yield Case(name="crossing", tuned=False, make=_crossing)
    yield Case(name="parallax", tuned=False, make=_parallax)
    yield Case(name="waves", tuned=False, make=_waves)
    for given in more:
        name, _, file = given.partition("=")
        yield Case(name=name, tuned=False, make=lambda s, f=file: _free_form(_video(Path(f), s)))


# ---- real clips: the hole is laid over what stays to be seen in the truth


def _video(file: Path, size: Size) -> np.ndarray:
    frames = open_video(file)
    return _fitted(frames.read(0, min(size.frames, len(frames))), size)


def _pixels(clips: Path, path: str, size: Size) -> np.ndarray:
    return _video(clips / "vpbench" / record_paths(path)[0], size)


def _with_ids(clips: Path, path: str, mask_id: int, size: Size) -> KnownClip:
    frames = open_video(clips / "vpbench" / record_paths(path)[0])
    masks = open_masks(clips / "vpbench" / record_paths(path)[1], frames=frames, mask_id=mask_id)
    stop = min(size.frames, len(frames), len(masks))
    return _same(_fitted(frames.read(0, stop), size), _fitted(masks.read(0, stop), size))


def _davis(clips: Path, name: str, size: Size) -> tuple[np.ndarray, np.ndarray]:
    pictures = sorted((clips / "davis/JPEGImages_432_240" / name).glob("*.jpg"))[: size.frames]
    masks = [clips / "davis/test_masks" / name / f"{picture.stem}.png" for picture in pictures]
    frames = np.stack([cv2.imread(str(p))[..., ::-1] for p in pictures])  # type: ignore[index]
    holes = np.stack([cv2.imread(str(m), cv2.IMREAD_GRAYSCALE) > 0 for m in masks])  # type: ignore[operator]
    return _fitted(frames, size), _fitted(holes, size)


def _shifted(clips: Path, name: str, size: Size) -> KnownClip:
    """The object's own mask, grown by four pixels in 480, and once more a third of the width to the right."""
    frames, masks = _davis(clips, name, size)
    moved, by = np.zeros_like(masks), size.width // 3
    moved[:, :, by:] = masks[:, :, :-by]
    return _beside_object(frames, _grown(masks, size), _grown(moved, size))


def _strokes_too(clips: Path, name: str, size: Size) -> KnownClip:
    """The object is to go, and strokes of a brush."""
    frames, masks = _davis(clips, name, size)
    return _beside_object(frames, _grown(masks, size), _free_form(frames).holes)


def _beside_object(frames: np.ndarray, removed: np.ndarray, holes: np.ndarray) -> KnownClip:
    """The truth is known where the object is not."""
    clip = _same(frames, holes | removed)
    return replace(clip, known=holes & ~removed)


def _free_form(frames: np.ndarray) -> KnownClip:
    """Three strokes of a brush that drift over the picture."""
    rng, (count, height, width) = np.random.default_rng(3), frames.shape[:3]
    strokes = [rng.uniform((0.2, 0.2), (0.8, 0.8)) + np.cumsum(rng.normal(0, 0.07, (6, 2)), axis=0) for _ in range(3)]
    speeds, phases = rng.uniform(0.03, 0.08, 3), rng.uniform(0, 6, 3)
    holes = np.zeros((count, height, width), np.uint8)
    for t, hole in enumerate(holes):
        for stroke, speed, phase in zip(strokes, speeds, phases):
            drift = 0.1 * np.array([np.sin(speed * t + phase), np.cos(0.7 * speed * t + phase)])
            points = ((stroke + drift) * (width, height)).astype(np.int32)
            cv2.polylines(hole, [points], False, 1, thickness=height // 14)
    return _same(frames, holes > 0)


def _same(truth: np.ndarray, holes: np.ndarray) -> KnownClip:
    """What is under the holes is grey: no method may look at it."""
    return KnownClip(frames=np.where(holes[..., None], np.uint8(127), truth), truth=truth, holes=holes, known=holes)


def _fitted(frames: np.ndarray, size: Size) -> np.ndarray:
    """The middle of frames or masks, scaled."""
    height, width = frames.shape[1:3]
    box = covering_box(height, width, size.height, size.width)
    larger = size.height > box.bottom - box.top
    if frames.dtype == np.bool_:
        scaled = [
            cv2.resize(f.astype(np.uint8), (size.width, size.height), interpolation=cv2.INTER_NEAREST)
            for f in box.crop(frames)
        ]
        return np.stack(scaled) > 0
    how = cv2.INTER_CUBIC if larger else cv2.INTER_AREA
    return np.stack([cv2.resize(f, (size.width, size.height), interpolation=how) for f in box.crop(frames)])


def _grown(masks: np.ndarray, size: Size) -> np.ndarray:
    by = max(1, round(4 * size.height / 480))
    kernel = np.ones((2 * by + 1, 2 * by + 1), np.uint8)
    return np.stack([cv2.dilate(m.astype(np.uint8), kernel) for m in masks]) > 0


# ---- drawn ones: the same scene without the object


def _draw(seed: int, size: Size, without: int | None = None, pan: float = 1.5) -> SyntheticClip:
    return render_clip(
        seed, num_frames=size.frames, height=size.height, width=size.width, pan=pan, rich=True, without=without
    )


def _removal(seed: int, size: Size, removed: int | None = None) -> KnownClip:
    """The object that covers most (or the one given) is to go, with its shadow."""
    clip = _draw(seed, size)
    removed = removed or 1 + int(clip.footprints.sum(axis=(1, 2, 3)).argmax())
    holes = _grown(clip.footprint(removed), size)
    return KnownClip(frames=clip.frames, truth=_draw(seed, size, removed).frames, holes=holes, known=holes)


def _exposure(size: Size) -> KnownClip:
    """The light changes by a third, over a second, and back."""
    clip = _removal(90_408, size)
    factors = 1 + 0.3 * np.sin(np.arange(size.frames) / 5)
    frames, truth = (
        np.clip(np.rint(x * factors[:, None, None, None]), 0, 255).astype(np.uint8) for x in (clip.frames, clip.truth)
    )
    return replace(clip, frames=frames, truth=truth)


def _cut(size: Size) -> KnownClip:
    """Another scene from the middle on."""
    half = Size(frames=size.frames // 2, height=size.height, width=size.width)
    first, second = _removal(90_712, half), _removal(90_813, half)
    names = ("frames", "truth", "holes", "known")
    return KnownClip(**{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names})


def _crossing(size: Size) -> KnownClip:
    """Of several objects one goes whose place another one crosses."""
    for seed in range(91_000, 91_100):
        small = _draw(seed, Size(frames=size.frames, height=60, width=90))
        for k in range(1, len(small.footprints) + 1):
            others = (small.footprints[np.arange(len(small.footprints)) != k - 1]).any(axis=0)
            if (others & small.footprint(k)).sum() > 0.12 * small.footprint(k).sum() > 500:
                return _removal(seed, size, k)
    raise AssertionError("no scene in which objects cross")


def _parallax(size: Size) -> KnownClip:
    """Posts near to the camera pass by twice as fast as what is behind them; the hole stands still over both."""
    far, near = _wall(1, size), _wall(2, size)
    frames = []
    for t in range(size.frames):
        behind, front = (_seen(x, size, speed * t) for x, speed in ((far, size.width / 240), (near, size.width / 120)))
        x = (np.arange(size.width) + size.width / 120 * t) % (size.width / 3)
        frames.append(np.where((x < size.width / 18)[None, :, None], front // 2, behind))
    return _same(np.stack(frames), _still_hole(size))


def _waves(size: Size) -> KnownClip:
    """The lower half moves in waves, as water does, under a camera that pans."""
    wall, frames = _wall(4, size), []
    ys = np.arange(size.height, dtype=np.float32)
    strength = np.clip((ys / size.height - 0.5) * 8, 0, 1) * size.height / 120
    for t in range(size.frames):
        still = _seen(wall, size, t * size.width / 240)
        x, y = np.meshgrid(np.arange(size.width, dtype=np.float32), ys)
        ahead = 2 * np.pi * (y / size.height * 14 - t / 9 + x / size.width * 3)
        x, y = x + strength[:, None] * np.sin(ahead), y + strength[:, None] * np.cos(1.3 * ahead + t / 5)
        frames.append(cv2.remap(still, x, y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
    return _same(np.stack(frames), _still_hole(size))


def _still_hole(size: Size) -> np.ndarray:
    hole = np.zeros((size.height, size.width), np.uint8)
    middle, axes = (size.width // 2, size.height // 2), (size.width // 10, size.height // 5)
    cv2.ellipse(hole, middle, axes, 0, 0, 360, 1, -1)
    return np.repeat(hole[None] > 0, size.frames, axis=0)


def _wall(seed: int, size: Size) -> np.ndarray:
    """Blobs of all sizes, three frames wide."""
    rng, shape = np.random.default_rng(seed), (size.height, 3 * size.width, 3)
    total = np.zeros(shape, np.float32)
    for scale in (1.5, 4, 10, 30):
        small = (max(2, int(shape[1] / scale)), max(2, int(shape[0] / scale)))
        blobs = rng.normal(0, 14 * scale**0.3, (small[1], small[0], 3)).astype(np.float32)
        total += cv2.resize(blobs, shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(125 + total, 0, 255).astype(np.uint8)


def _seen(wall: np.ndarray, size: Size, x: float) -> np.ndarray:
    """The part of a wall from column `x` on."""
    move = np.array([[1, 0, min(x, 2 * size.width)], [0, 1, 0]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(wall, move, (size.width, size.height), flags=flags)


def picked(cases: Iterator[Case], pattern: str) -> list[Case]:
    """Those whose name has the regular expression in it."""
    return [case for case in cases if re.search(pattern, case.name)]
