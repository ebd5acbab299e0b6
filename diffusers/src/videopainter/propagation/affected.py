"""What an object changes beside itself, shadow or reflection: there a frame is not as its background is elsewhere."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.data.clip import Clip, MaskSource

AROUND = 1 / 6  # of the shorter side: how far from the mask it is looked for
_CHANGED = 10.0  # grey levels, after a mean over so many pixels of a 480th of the shorter side
_SMOOTH = 9
_AREA = 100  # such pixels: a smaller change is nothing
_TOUCHING = 8  # and one that is farther from the mask is somebody else's
_REFERENCE = 480


class AffectedMasks:
    """A proposal, to be looked at: masks of what changes beside a clip's masks, and touches them.

    `background` is the clip with copied pixels in a wide hole round the masks, `wide` that hole; its own masks are
    what was not copied, of which nothing is said. A pixel that changes in one frame alone, of three, is left out.
    """

    def __init__(self, clip: Clip, background: Clip, wide: MaskSource) -> None:
        self.clip, self.background, self.wide = clip, background, wide
        self.height, self.width = clip.masks.height, clip.masks.width
        self._scale = min(self.height, self.width) / _REFERENCE

    def __len__(self) -> int:
        return len(self.clip)

    def read(self, start: int, stop: int) -> np.ndarray:
        first, last = max(0, start - 1), min(len(self), stop + 1)
        frames, masks = self.clip.frames.read(first, last), self.clip.masks.read(first, last)
        copies, rest = self.background.frames.read(first, last), self.background.masks.read(first, last)
        known = self.wide.read(first, last) & ~rest & ~masks
        changed = np.stack([self._changed(*of_frame) for of_frame in zip(frames, copies, known)])
        if len(changed) > 2:
            changed[1:-1] &= changed[:-2] | changed[2:]
        found = [self._touching(change, mask) for change, mask in zip(changed, masks)]
        return np.stack(found)[start - first : stop - first]

    def _changed(self, frame: np.ndarray, copy: np.ndarray, known: np.ndarray) -> np.ndarray:
        size = 2 * max(1, round(_SMOOTH * self._scale / 2)) + 1
        weights = known.astype(np.float32)
        total = np.maximum(cv2.blur(weights, (size, size)), np.float32(1e-6))
        apart = cv2.blur((frame.astype(np.float32) - copy) * weights[..., None], (size, size)) / total[..., None]
        return known & (np.abs(apart).max(axis=-1) > _CHANGED)

    def _touching(self, changed: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The parts of what changed that are large enough and reach the mask, with a margin where they meet."""
        by = max(1, round(_TOUCHING * self._scale))
        near = cv2.dilate(mask.view(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0
        solid = cv2.morphologyEx(changed.view(np.uint8), cv2.MORPH_CLOSE, np.ones((by, by), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] >= _AREA * self._scale**2
        reaching = np.isin(np.arange(count), labels[near])
        kept = np.flatnonzero(large & reaching)
        found = np.isin(labels, kept[kept > 0])
        return cv2.dilate(found.view(np.uint8), np.ones((by, by), np.uint8)) > 0
