"""From decoded pictures, as the codec stores them, to RGB; resized on the way where that is asked for."""

from __future__ import annotations

from collections import defaultdict

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

# What nearly every file holds, and what swscale has its own step to RGB for: others round otherwise, by a level.
_COMMON = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"}
_LANCZOS = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class RgbConverter:
    """Makes RGB of the pictures of one video; what it sets up for the first serves the others. One thread."""

    def __init__(self) -> None:
        # One per step: each remembers the sizes that it last had.
        self._steps: defaultdict[str, VideoReformatter] = defaultdict(VideoReformatter)

    def convert(self, picture: av.VideoFrame) -> np.ndarray:
        """uint8 RGB (H, W, 3)."""
        return self._steps["rgb"].reformat(picture, format="rgb24", threads=1).to_ndarray()

    def resize(self, picture: av.VideoFrame, height: int, width: int) -> np.ndarray:
        """uint8 RGB (height, width, 3): brightness and colour are resized as stored, then become RGB.

        An antialiased Lanczos filter as that of `reshape.resize_frames`, which resizes three planes of full size: not
        equal to it to the bit, but without a shift of brightness, about as close as 50 dB, and ten times as fast.
        Pictures in 4:4:4, of more than 8 bits, or stored as RGB, and those of that size, keep theirs (`convert`).
        """
        stored = picture.format
        if (picture.height, picture.width) == (height, width) or stored.name not in _COMMON:
            return self.convert(picture)
        if width > stored.chroma_width(picture.width):
            return self.convert(self._scale(picture, height, width, "yuv422p"))
        # Every pixel has colour of its own in the file: it keeps it beside a twin that is dropped again.
        small = self._scale(picture, height, width, "yuv444p")
        twins = self._steps["twins"].reformat(
            small, width=2 * width, format="yuv422p", interpolation=Interpolation.POINT, threads=1
        )
        return self.convert(twins)[:, ::2]

    def resize_rgb(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        """The same filter for uint8 RGB (H, W, 3) that exists already, plane by plane: three times as fast as Pillow.

        Equal to `reshape.resize_frames` but for rounding (55 dB); pixels of that size come back as they are.
        """
        if pixels.shape[:2] == (height, width):
            return pixels
        out = np.empty((height, width, 3), np.uint8)
        for channel in range(3):
            plane = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[..., channel]), format="gray")
            out[..., channel] = self._scale(plane, height, width, "gray").to_ndarray()
        return out

    def _scale(self, picture: av.VideoFrame, height: int, width: int, format: str) -> av.VideoFrame:
        return self._steps["scale"].reformat(
            picture, width=width, height=height, format=format, interpolation=_LANCZOS, threads=1
        )
