"""How a stored picture is turned and mirrored before it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """One of eight ways to lay a picture: `swap` rows and columns first, then reverse rows (`up`), columns (`left`)."""

    swap: bool = False
    up: bool = False
    left: bool = False

    @classmethod
    def of(cls, picture: av.VideoFrame) -> Orientation:
        """From the display matrix; turns that are no quarter turns become the nearest one.

        The matrix (ISO 14496-12, 16.16 fixed point) takes a stored point (x, y), y downwards, to the shown
        (a x + c y, b x + d y).
        """
        if Type.DISPLAYMATRIX not in picture.side_data:
            return cls()
        data: Any = picture.side_data[Type.DISPLAYMATRIX]  # pyright: ignore (its stub takes it for a TypedDict)
        a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(data), np.int32)[:5])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(up=d < 0, left=a < 0)
        return cls(swap=True, up=b < 0, left=c < 0)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) as shown, of what is stored; and the other way round."""
        return (width, height) if self.swap else (height, width)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Stored pixels (H, W, C) as they are shown: a view."""
        if self.swap:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self.up else 1, :: -1 if self.left else 1]
