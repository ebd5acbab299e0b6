"""One frame's mask from its prompts, and from the mask that was tracked there, if there is one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import cv2
import numpy as np

from videopainter.data.masks.opening import light_pixels
from videopainter.errors import InputError
from videopainter.segmentation.prompts import MaskPrompt, Prompt, draw
from videopainter.segmentation.recent import Recent
from videopainter.segmentation.segmenter import ReadFrame, nothing_found
from videopainter.segmentation.tracker.corrections import corrected
from videopainter.segmentation.tracker.picture import Picture
from videopainter.segmentation.tracker.seeds import SeedCandidate, seed_from_box, seed_from_clicks
from videopainter.segmentation.tracker.surroundings import NEIGHBOURS, Surroundings, look_around

_INSIDE, _OUTSIDE = 0.95, 0.03  # how far a solved mask is believed
_LEAST = 12  # pixels of an object


def surroundings_of(read: ReadFrame, frame: int, length: int, recent: Recent[Surroundings]) -> Surroundings:
    """A frame and what its neighbours tell of it; `read(number)` gives uint8 RGB (H, W, 3) of 0 .. length - 1.

    `recent` has those of the last frames, by their pixels: who clicks once clicks again.
    """
    wanted = {frame}
    for distance in NEIGHBOURS:
        other = frame + distance if frame + distance < length else frame - distance
        if 0 <= other < length:
            wanted.add(other)
    frames = {number: read(number) for number in sorted(wanted)}
    pictures = {number: Picture(pixels) for number, pixels in frames.items()}
    digest = hashlib.sha256()
    for picture in pictures.values():
        digest.update(picture.rgb.tobytes())
    size = frames[frame].shape[:2]
    key = digest.digest(), frame, tuple(pictures), size
    return recent.get(key, lambda: look_around(pictures, frame, size))


def candidates(around: Surroundings, prompts: Sequence[Prompt]) -> list[SeedCandidate]:
    """Up to three masks of different sizes that the clicks (and strokes) of one frame may mean, likeliest first."""
    picture = around.picture
    drawn = draw(prompts, height=picture.height, width=picture.width, scale=picture.scale)
    inside = drawn.inside + _places(drawn.strokes_inside)
    if not inside:
        return []
    outside = drawn.outside + _places(drawn.strokes_outside)
    key = tuple(inside), tuple(outside)
    return around.meant.get(key, lambda: seed_from_clicks(around, inside, outside))


def solve(
    around: Surroundings, prompts: Sequence[Prompt], *, tracked: np.ndarray | None = None, candidate: int = 1
) -> np.ndarray:
    """The object's probability float32 (H, W) at working size in a frame that has prompts.

    `tracked`: what was tracked there; clicks and strokes correct it, boxes and masks replace it. InputError where
    nothing is found.
    """
    picture = around.picture
    drawn = draw(prompts, height=picture.height, width=picture.width, scale=picture.scale)
    masks = [_given(prompt.file, picture) for prompt in prompts if isinstance(prompt, MaskPrompt)]
    masks += [seed_from_box(around, box).mask for box in drawn.boxes]
    inside, outside = drawn.strokes_inside.copy(), drawn.strokes_outside.copy()
    if masks:
        start = np.logical_or.reduce(masks)
    elif tracked is not None and (tracked > 0.5).any():
        start = None
    else:
        found = candidates(around, prompts)
        if not found:
            raise InputError(nothing_found(prompts))
        start = found[min(candidate, len(found)) - 1].mask
    prob = tracked if start is None else np.where(start, _INSIDE, _OUTSIDE).astype(np.float32)
    assert prob is not None
    for places, target in ((drawn.inside, inside), (drawn.outside, outside)):
        for place in places:
            cv2.circle(view := target.astype(np.uint8), place, 2, 1, -1)
            target |= view.astype(bool)
    clicks_only = start is not None and not masks
    if (inside.any() or outside.any()) and not clicks_only:
        prob = corrected(picture, prob, inside, outside)
    if (prob > 0.5).sum() < _LEAST:
        raise InputError(nothing_found(prompts))
    return prob


def _places(strokes: np.ndarray) -> list[tuple[int, int]]:
    """Some pixels (x, y) of strokes."""
    rows, columns = np.nonzero(strokes)
    step = 1 + len(rows) // 12
    return [(int(x), int(y)) for x, y in zip(columns[::step], rows[::step], strict=True)]


def _given(file: str, picture: Picture) -> np.ndarray:
    mask = light_pixels(file).astype(np.float32)
    return cv2.resize(mask, (picture.width, picture.height), interpolation=cv2.INTER_AREA) > 0.5
