"""A first mask from a box, or from clicks: candidates, scored by how well their outline follows edges."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from videopainter.data.workers import processors
from videopainter.segmentation.tracker.alarm import grabcut
from videopainter.segmentation.tracker.appearance import ColourModel, colour_cells, distances
from videopainter.segmentation.tracker.labelling import filled, mean_field, opened, part_at
from videopainter.segmentation.tracker.picture import grown, grown_within, lengths, shrunk
from videopainter.segmentation.tracker.surroundings import Surroundings
from videopainter.vision.flow import pixel_grid

# Radii of the discs that a click may mean, as shares of the picture's width.
_DISCS = (0.03, 0.05, 0.08, 0.12, 0.18)
_STRIDE = 4
# Of a guess's size: how far its outline may be off. Of a box's area: less in it is no object.
_BAND, _LEAST_OF_BOX = 0.08, 0.02
CANDIDATES = 3
_AROUND = 16  # pixels round what may be the object that are surely none
_THREADS = 8
NO_OBJECT = -9.0  # the score of what is a speck, or most of the picture

Rectangle = tuple[int, int, int, int]  # x0, y0, x1, y1; the last two are outside


@dataclass(frozen=True, kw_only=True)
class SeedCandidate:
    """A mask bool (H, W) at working size; of two the one with the higher score is likelier."""

    mask: np.ndarray
    score: float


def seed_from_box(around: Surroundings, box: Rectangle) -> SeedCandidate:
    """The object in a box: unlike its rim, or moving against the camera; its outline where the colours change."""
    whole = np.zeros((around.picture.height, around.picture.width), bool)
    whole[box[1] : box[3], box[0] : box[2]] = True
    least = max(20, _LEAST_OF_BOX * whole.sum())
    first = _stands_out(around, box)
    if first.sum() >= least:
        outlined = _outlined(around, whole, first)
        if outlined.sum() >= least:
            return SeedCandidate(mask=outlined, score=edge_score(outlined, around))
    cut = _cut(around, whole)
    return SeedCandidate(mask=cut if cut.sum() >= least else whole, score=NO_OBJECT)


def seed_from_clicks(
    around: Surroundings, inside: Sequence[tuple[int, int]], outside: Sequence[tuple[int, int]] = ()
) -> list[SeedCandidate]:
    """Up to three masks of different sizes that hold the clicks `inside` (x, y) and not those `outside`; best first.

    None where all that is found is a speck, or most of the picture.
    """
    picture = around.picture
    shape = picture.height, picture.width
    distance = np.minimum.reduce([_distance(shape, at) for at in inside])
    barred = np.zeros(shape, bool)
    for at in outside:
        barred |= _distance(shape, at) < 3

    def grow(region: np.ndarray) -> SeedCandidate:
        size = max(4, int(0.25 * np.sqrt(region.sum())))
        labels = np.full(shape, cv2.GC_BGD, np.uint8)
        labels[grown_within(picture, region, min(2 * size, 40))] = cv2.GC_PR_BGD
        labels[region] = cv2.GC_PR_FGD
        labels[distance < 3] = cv2.GC_FGD
        labels[barred] = cv2.GC_BGD
        # What is far from the region costs time and tells little: in a window the masks are as good.
        window, mask = picture.window(labels != cv2.GC_BGD, _AROUND), np.zeros(shape, bool)
        mask[window] = grabcut(np.ascontiguousarray(picture.rgb[window]), labels[window], rounds=2)
        mask = opened(mask) | (distance < 3)
        mask = filled(np.logical_or.reduce([part_at(mask, *at) for at in inside])) & ~barred
        # A mask that runs into what it may not be is none.
        stopped = (mask & ~shrunk(labels != cv2.GC_BGD, 2)).sum() / max(1.0, float(np.sqrt(mask.sum())))
        return SeedCandidate(mask=mask, score=edge_score(mask, around) - 0.15 * min(float(stopped), 4))

    regions = [region for region in _regions(around, inside[0], distance) if (region & ~barred).sum() >= 30]
    # Somebody waits for a click's answer: side by side, what takes longest first; the same as one after the other.
    order = sorted(range(len(regions)), key=lambda k: -int(regions[k].sum()))
    with ThreadPoolExecutor(min(_THREADS, processors())) as pool:
        found = dict(zip(order, pool.map(grow, [regions[k] for k in order]), strict=True))
    return _different([found[k] for k in range(len(regions)) if found[k].score > NO_OBJECT])


def _regions(around: Surroundings, at: tuple[int, int], distance: np.ndarray) -> list[np.ndarray]:
    """What a click at (x, y) may mean, roughly: what moves as it does, and discs round it."""
    x, y = at
    regions = []
    own = cv2.blur(around.motion, (5, 5))[y, x]
    speed = float(np.linalg.norm(own))
    if speed > 2.5 * around.noise:
        for tolerance in (0.35, 0.6, 0.8):
            alike = lengths(around.motion - own) < tolerance * speed
            moving = opened(alike & (around.speed > 1.5 * around.noise))
            regions.append(part_at(moving, x, y))
    width = distance.shape[1]
    return regions + [distance < share * width for share in _DISCS]


def _different(found: list[SeedCandidate]) -> list[SeedCandidate]:
    """The best ones of those that are not much the same."""
    kept: list[SeedCandidate] = []
    for candidate in sorted(found, key=lambda c: -c.score):
        alike = (
            (candidate.mask & other.mask).sum() / max(1, (candidate.mask | other.mask).sum()) > 0.75 for other in kept
        )
        if not any(alike):
            kept.append(candidate)
        if len(kept) == CANDIDATES:
            break
    return kept


def _stands_out(around: Surroundings, box: Rectangle) -> np.ndarray:
    """What in a box is unlike its rim, or moves, or was not there in other frames; colours learnt, and once more."""
    picture = around.picture
    x0, y0, x1, y1 = box
    whole = np.zeros((picture.height, picture.width), bool)
    whole[y0:y1, x0:x1] = True
    window = picture.window(whole, max(16, (x1 - x0) // 2, (y1 - y0) // 2))
    inside = whole[window]
    cells = picture.describe(window, _STRIDE)
    rows, columns = cells.shape[:2]
    rows_of = cells.reshape(-1, cells.shape[-1])
    share = cv2.resize(inside.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    rim = cells[share < 0.05]
    if len(rim) < 10:  # the box is the picture
        return whole

    def enlarged(values: np.ndarray) -> np.ndarray:
        size = columns * _STRIDE, rows * _STRIDE
        large = cv2.resize(values.reshape(rows, columns), size, interpolation=cv2.INTER_LINEAR)
        return large[: inside.shape[0], : inside.shape[1]]

    unlike = np.sqrt(distances(rows_of, rim[:: 1 + len(rim) // 1500]))
    usual = float(np.median(unlike[share.ravel() < 0.05])) + 0.15
    novel = np.clip(enlarged((unlike - 2 * usual) / usual), -1.5, 2)
    own = around.motion[window] - np.median(around.motion[window][~inside], axis=0)
    speed, noise = lengths(own), around.noise
    moves = np.percentile(speed[inside], 85) > 3 * noise
    moving = np.clip((speed - 2 * noise) / (1.5 * noise), -1, 1.5) if moves else np.zeros_like(speed)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2], np.float32)
    half = np.array([(x1 - x0) / 2, (y1 - y0) / 2], np.float32)
    middle = (pixel_grid(*whole.shape)[window] - centre) / half
    prior = np.clip(1.2 - 1.6 * (middle * middle).sum(-1), -2, 1.5)
    base = np.where(inside, 0.7 * novel + 0.9 * moving + prior + 0.5 * around.revealed[window], -5)
    lab, colours = picture.smooth[window], colour_cells(picture.lab[window])
    prob = mean_field(base, lab)
    for _ in range(3):
        model = ColourModel()
        model.learn(colours, prob, np.ones_like(prob), 1)
        held = cv2.resize(prob, (columns, rows), interpolation=cv2.INTER_AREA)
        thing, rest = cells[held > 0.65], cells[held < 0.2]
        if len(thing) < 4:
            break
        near = np.sqrt(distances(rows_of, thing[:: 1 + len(thing) // 900]))
        off = np.sqrt(distances(rows_of, rest[:: 1 + len(rest) // 900]))
        like = enlarged(np.clip(4 * (off - near) / (off + near + 0.3), -2, 2))
        both = 0.5 * base + 0.5 * like + 0.7 * cv2.blur(model.score(colours), (3, 3))
        prob = mean_field(np.where(inside, both, -5), lab)
    mask = np.zeros_like(whole)
    mask[window] = prob > 0.5
    return filled(opened(mask))


def _outlined(around: Surroundings, box: np.ndarray, first: np.ndarray) -> np.ndarray:
    """A first guess bool (H, W) with its outline set by GrabCut: its middle stays, as does all that is far from it.

    Colours alone would give away parts that look like the background: what moves as one stays one.
    """
    band = int(np.clip(_BAND * np.sqrt(first.sum()), 2, 12))
    labels = np.full(first.shape, cv2.GC_BGD, np.uint8)
    labels[grown(first, band) & box] = cv2.GC_PR_BGD
    labels[first] = cv2.GC_PR_FGD
    labels[shrunk(first, band)] = cv2.GC_FGD
    return _solved(around, box, labels)


def _cut(around: Surroundings, box: np.ndarray) -> np.ndarray:
    """GrabCut from all of a box bool (H, W)."""
    return _solved(around, box, np.where(box, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8))


def _solved(around: Surroundings, box: np.ndarray, labels: np.ndarray) -> np.ndarray:
    picture = around.picture
    rows, columns = picture.window(box, 0)
    window = picture.window(box, max(12, (columns.stop - columns.start) // 2, (rows.stop - rows.start) // 2))
    mask = np.zeros(labels.shape, bool)
    mask[window] = grabcut(np.ascontiguousarray(picture.rgb[window]), labels[window], rounds=4)
    return filled(opened(mask))


def edge_score(mask: np.ndarray, around: Surroundings) -> float:
    """How well an outline follows edges of colour and motion; larger masks are a little likelier."""
    height, width = mask.shape
    if mask.sum() < 30 or mask.mean() > 0.6:
        return NO_OBJECT
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    distance = inside - cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    rows, columns = np.nonzero((distance > 0) & (distance <= 1.5))
    slope = [cv2.Sobel(distance, cv2.CV_32F, *order, ksize=5)[rows, columns] for order in ((1, 0), (0, 1))]
    steep = np.hypot(*slope) + 1e-6

    def beside(image: np.ndarray, pixels: float) -> np.ndarray:
        y = np.clip(rows + pixels * slope[1] / steep, 0, height - 1).astype(int)
        x = np.clip(columns + pixels * slope[0] / steep, 0, width - 1).astype(int)
        return image[y, x]

    lab, motion, noise = around.picture.smooth, around.motion, around.noise
    colour = np.linalg.norm(beside(lab, 2.5) - beside(lab, -2.5), axis=-1)
    moves = np.linalg.norm(beside(motion, 4) - beside(motion, -5), axis=-1)
    border = ((columns < 2) | (rows < 2) | (columns > width - 3) | (rows > height - 3)).mean()
    follows = np.minimum(colour, 30).mean() / 30 + 1.3 * np.clip((moves - noise) / (3 * noise), 0, 1).mean()
    return float(follows - border + 0.08 * np.log(mask.mean() / 0.01))


def _distance(shape: tuple[int, int], at: tuple[int, int]) -> np.ndarray:
    return lengths(pixel_grid(*shape) - np.array(at, np.float32))
