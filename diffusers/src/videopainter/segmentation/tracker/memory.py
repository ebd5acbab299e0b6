"""What an object looked like: cells and colours of it and of its surroundings, at its anchor and since."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from videopainter.segmentation.tracker.appearance import (
    ColourModel,
    colour_cells,
    colour_histogram,
    distances,
    histogram_overlap,
)
from videopainter.segmentation.tracker.picture import Picture, PictureWindow, grown

STRIDE = 3  # pixels of a cell's side
_RECENT = 3  # remembered frames beside the anchor
_CELLS = 900  # of object and surroundings each, per remembered frame
_RATE = 0.08  # of the colours that a new frame replaces
# How much a cell's place within the object counts beside its look: a sleeve is rather found at the shoulder.
_PLACE = 0.3

Cells = tuple[np.ndarray, np.ndarray]


class Memory:
    """Appearance of one object. Cells are described by `Picture.describe`, and by their place in the object."""

    def __init__(self) -> None:
        self.anchor: Cells | None = None
        self.recent: list[Cells] = []
        self.colours = ColourModel()
        self.anchor_colours: np.ndarray | None = None

    def learn(self, picture: Picture, prob: np.ndarray, *, anchor: bool = False) -> None:
        """Takes over a frame whose object is known: `prob` float32 (H, W)."""
        mask = prob > 0.5
        reach = int(np.clip(0.6 * np.sqrt(mask.sum()), 12, 60))
        ring = cv2.GaussianBlur(grown(mask, reach).astype(np.float32), (0, 0), 3)
        colours = colour_cells(picture.lab)
        self.colours.learn(colours, prob, ring + 0.1, 1.0 if self.anchor is None else 0.5 if anchor else _RATE)
        window = picture.window(mask, 2 * reach)
        cells = _placed(picture, window, prob)
        size = cells.shape[1::-1]
        inside = cv2.resize(prob[window], size, interpolation=cv2.INTER_AREA)
        near = cv2.resize(ring[window], size, interpolation=cv2.INTER_AREA)
        entry = _thinned(cells[inside > 0.7]), _thinned(cells[(inside < 0.15) & (near > 0.3)])
        if anchor:
            self.anchor, self.recent = entry, self.recent[-1:]
            self.anchor_colours = colour_histogram(colours, prob)
        else:
            self.recent = [*self.recent[1 - _RECENT :], entry]

    def cells_score(self, picture: Picture, window: PictureWindow, prob: np.ndarray) -> np.ndarray:
        """-3 to 3 for every pixel of a window: nearer to the object's cells, or to those around it.

        `prob` (H, W): about where the object is; where it is empty, looks alone count.
        """
        assert self.anchor is not None
        cells = _placed(picture, window, prob)
        rows = cells.reshape(-1, cells.shape[-1])
        frames = [self.anchor, *self.recent]
        inside, outside = (np.sqrt(distances(rows, np.concatenate([frame[k] for frame in frames]))) for k in (0, 1))
        score = np.clip(4 * (outside - inside) / (outside + inside + 0.15), -3, 3).reshape(cells.shape[:2])
        size = cells.shape[1] * STRIDE, cells.shape[0] * STRIDE
        height, width = (part.stop - part.start for part in window)
        return cv2.resize(score, size, interpolation=cv2.INTER_LINEAR)[:height, :width]

    def colour_score(self, picture: Picture, window: PictureWindow) -> np.ndarray:
        """-3 to 3 for every pixel of a window: the object's colours, or those around it."""
        return cv2.blur(self.colours.score(colour_cells(picture.lab[window])), (3, 3))

    def likeness(self, picture: Picture, mask: np.ndarray) -> float:
        """0 to 1: how much the colours under `mask` bool (H, W) are those of the anchor."""
        if mask.sum() < 20 or self.anchor_colours is None:
            return 0.0
        window = picture.window(mask, 0)
        colours = colour_histogram(colour_cells(picture.lab[window]), mask[window].astype(np.float32))
        return histogram_overlap(colours, self.anchor_colours)

    def state(self) -> dict[str, np.ndarray]:
        """Everything, as arrays."""
        assert self.anchor is not None and self.anchor_colours is not None
        assert self.colours.inside is not None and self.colours.outside is not None
        arrays = {"anchor_colours": self.anchor_colours, "in": self.colours.inside, "out": self.colours.outside}
        for number, (inside, outside) in enumerate([self.anchor, *self.recent]):
            arrays |= {f"in{number}": inside, f"out{number}": outside}
        return arrays

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> Memory:
        memory = cls()
        frames = []
        while f"in{len(frames)}" in arrays:
            frames.append((arrays[f"in{len(frames)}"], arrays[f"out{len(frames)}"]))
        memory.anchor, memory.recent = frames[0], frames[1:]
        memory.anchor_colours = arrays["anchor_colours"]
        memory.colours.inside, memory.colours.outside = arrays["in"], arrays["out"]
        return memory


def _placed(picture: Picture, window: PictureWindow, prob: np.ndarray) -> np.ndarray:
    """Descriptions of a window's cells with their place relative to the object's centre, in its own size."""
    cells = picture.describe(window, STRIDE)
    moments = cv2.moments((prob > 0.5).astype(np.uint8), binaryImage=True)
    area = moments["m00"]
    if area < 1:
        return np.dstack([cells, np.zeros((*cells.shape[:2], 2), np.float32)])
    places = []
    for part, count, first in zip(window, cells.shape[:2], ("m01", "m10"), strict=True):
        pixels = part.start + STRIDE / 2 + STRIDE * np.arange(count, dtype=np.float32)
        places.append((pixels - np.float32(moments[first] / area)) * np.float32(_PLACE / np.sqrt(area)))
    y, x = np.broadcast_arrays(places[0][:, None], places[1][None, :])
    return np.dstack([cells, x, y])


def _thinned(cells: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(cells[:: 1 + len(cells) // _CELLS])
