"""The masks that a session's files hold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from videopainter.data.clip import check_range
from videopainter.segmentation.prompts import FrameRange, TrackedObject
from videopainter.segmentation.store import MaskStore


class SessionMasks:
    """The masks of some objects over a session's frames, united; a MaskSource whose frame 0 is the session's first."""

    def __init__(
        self,
        objects: Mapping[int, TrackedObject],
        stores: Mapping[int, MaskStore],
        span: FrameRange,
        height: int,
        width: int,
    ) -> None:
        self._objects, self._stores, self._span = objects, stores, span
        self.height, self.width = height, width

    def __len__(self) -> int:
        return len(self._span)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Masks `start` to `stop` (exclusive), bool (T, H, W)."""
        check_range(start, stop, len(self))
        out = np.zeros((stop - start, self.height, self.width), bool)
        for k in range(start, stop):
            out[k - start] = self.ids(self._span.start + k) > 0
        return out

    def ids(self, frame: int) -> np.ndarray:
        """Which object each pixel of the video's frame `frame` shows, uint8 (H, W); 0 none, of several the last."""
        ids = np.zeros((self.height, self.width), np.uint8)
        for number, thing in self._objects.items():
            store = self._stores[number]
            if frame in store.records:
                ids[store.read(frame)] = number
            for band in thing.bands:
                y0, y1 = (int(np.clip(round(y), 0, self.height)) for y in (band.y0, band.y1))
                x0, x1 = (int(np.clip(round(x), 0, self.width)) for x in (band.x0, band.x1))
                ids[y0:y1, x0:x1] = number
        return ids
