"""Between decoded pictures, as a codec stores them, and RGB; resized on the way where that is asked for.

swscale does it, asked for exact rounding and for colour of its own for every pixel. Its default path reads 1 to 1.5
levels too dark and repeats half-size colour: a video would lose 11 levels in ten generations.
"""

from __future__ import annotations

from collections import defaultdict

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter

from videopainter.data.video.color import conversion_of, wide_matrix
from videopainter.data.video.filters import EXACT, described, filter_graph, through
from videopainter.data.video.tone_table import table_file

# Nearly all files: their planes are resized as they are stored.
_COMMON = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p"}
_EXACT = (
    Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
)
_TO_RGB = Interpolation.BILINEAR | _EXACT
_LANCZOS = Interpolation.LANCZOS | _EXACT


class RgbConverter:
    """Makes RGB of the pictures of one video; what it sets up for the first serves the others. One thread."""

    def __init__(self) -> None:
        # One per step: each remembers the sizes that it last had.
        self._steps: defaultdict[str, VideoReformatter] = defaultdict(VideoReformatter)
        self._wide: tuple[str, Graph] | None = None

    def convert(self, picture: av.VideoFrame) -> np.ndarray:
        """uint8 RGB (H, W, 3), of BT.709's primaries and contrast where the picture is HDR or BT.2020."""
        if conversion_of(picture):
            return self._narrowed(picture)
        rgb = self._steps["rgb"].reformat(picture, format="rgb24", interpolation=_TO_RGB, threads=1)
        return rgb.to_ndarray()

    def resize(self, picture: av.VideoFrame, height: int, width: int) -> np.ndarray:
        """uint8 RGB (height, width, 3): brightness and colour are resized as stored, then become RGB.

        An antialiased Lanczos filter as that of `reshape.resize_frames`, which resizes three planes of full size: not
        equal to it to the bit, but without a shift of brightness, about as close as 52 dB, and five times as fast.
        Pictures in 4:4:4, of more than 8 bits, or stored as RGB, and those of that size, keep theirs (`convert`).
        """
        if (picture.height, picture.width) == (height, width) or picture.format.name not in _COMMON:
            return self.convert(picture)
        if conversion_of(picture):
            return self.convert(picture)
        return self.convert(self._scale(picture, height, width, "yuv444p"))

    def resize_rgb(self, pixels: np.ndarray, height: int, width: int) -> np.ndarray:
        """The same filter for uint8 RGB (H, W, 3) that exists already, plane by plane: twice as fast as Pillow.

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

    def _narrowed(self, picture: av.VideoFrame) -> np.ndarray:
        """HDR and BT.2020 through the table of their colours."""
        if self._wide is None or self._wide[0] != described(picture):  # a video has one kind of picture
            with table_file(picture) as table:
                scale = {"flags": f"bilinear+{EXACT}"}
                graph = filter_graph(
                    picture,
                    ("scale", scale | wide_matrix(picture)),
                    ("format", {"pix_fmts": "gbrp16le"}),
                    ("lut3d", {"file": str(table), "interp": "tetrahedral"}),
                    ("scale", scale),
                    ("format", {"pix_fmts": "rgb24"}),
                )
            self._wide = described(picture), graph
        return through(self._wide[1], picture).to_ndarray()


class YuvConverter:
    """Makes pictures for an encoder of uint8 RGB: `format` (yuv420p, ...) with the `matrix` that swscale calls so.

    Limited range. Colour lies at the left of its two pixels, where H.264 says that it does: swscale's own choice, the
    middle, would move colour by half a pixel each time a video is read and written.
    """

    def __init__(self, format: str, matrix: str) -> None:
        scale = {"flags": f"area+{EXACT}", "out_color_matrix": matrix, "out_range": "limited", "out_chroma_loc": "left"}
        self._filters = (("scale", scale), ("format", {"pix_fmts": format}))
        self._graph: Graph | None = None

    def convert(self, pixels: np.ndarray) -> av.VideoFrame:
        """The picture of uint8 RGB (H, W, 3); all calls have the first one's size."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if self._graph is None:
            self._graph = filter_graph(picture, *self._filters)
        return through(self._graph, picture)
