"""HDR and BT.2020 as BT.709: a table of colours for each kind of picture, made once per machine and user.

swscale maps the colours, but makes a table for every file and every size (seconds), and then computes with few bits: 3
levels off on average, of colours that do not change. Here it maps the table's colours alone, in 16 bits; libavfilter's
`lut3d` looks the picture's up, to 0.3 levels.
"""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type

from videopainter.data.video.color import conversion_of
from videopainter.data.video.filters import EXACT, filter_graph, through
from videopainter.files import WriteError, fingerprint, replacing, user_cache
from videopainter.locks import held

_NODES = 65  # per axis: those of swscale's own table
_MASTERED = (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL)
_TABLES: dict[tuple, str] = {}
_LOCK = threading.Lock()
_MOST_KEPT = 64  # of 1.6 MB: films differ in what they were mastered on


@contextmanager
def table_file(picture: av.VideoFrame) -> Iterator[Path]:
    """A .cube file, for as long as the block lasts: from this kind of picture's RGB to BT.709's.

    The first of a kind takes seconds, and is kept for other processes. Brightness that changes from scene to scene
    (HDR10+) is not followed: a frame looks the same whatever was read before it.
    """
    with _LOCK:
        kind = _kind(picture)
        if kind not in _TABLES:
            _TABLES[kind] = _cube(_kept(kind, picture))
        table = _TABLES[kind]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "table.cube")
        file.write_text(table)
        yield file


def _kind(picture: av.VideoFrame) -> tuple:
    """All that the table depends on."""
    tags = int(picture.color_trc), int(picture.color_primaries)
    mastered = (bytes(picture.side_data[kind]) if kind in picture.side_data else b"" for kind in _MASTERED)  # pyright: ignore
    return (*tags, *sorted(conversion_of(picture).items()), *mastered)


def _kept(kind: tuple, picture: av.VideoFrame) -> np.ndarray:
    """`_mapped`, from the user's cache where it is there. Of several processes one makes it, the others wait."""
    digest = fingerprint({"kind": repr(kind), "nodes": _NODES, "libraries": repr(av.library_versions)})
    file = user_cache() / "colours" / f"{digest}.npy"
    with ExitStack() as stack:
        with suppress(WriteError):  # a read-only home costs time, nothing else
            stack.enter_context(held(file, patience=math.inf))
        with suppress(OSError, ValueError, EOFError):
            table = np.load(file)
            if (table.shape, table.dtype) == ((_NODES**3, 3), np.uint16):
                return table
        table = _mapped(picture)
        with suppress(WriteError), replacing(file) as partial:
            np.save(partial, table)
        _drop_oldest(file.parent)
        return table


def _drop_oldest(folder: Path) -> None:
    with suppress(OSError):
        for file in sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)[:-_MOST_KEPT]:
            file.unlink()


def _mapped(picture: av.VideoFrame) -> np.ndarray:
    """uint16 (_NODES^3, 3): what becomes of all colours of the grid, red changing fastest."""
    nodes = np.linspace(0, 65535, _NODES).round().astype(np.uint16)
    blue, green, red = (axis.reshape(_NODES, -1) for axis in np.meshgrid(nodes, nodes, nodes, indexing="ij"))
    # A picture of that size, with what this one says of its colours.
    size = {"w": str(_NODES**2), "h": str(_NODES)}
    dynamic = {"mode": "delete", "type": "DYNAMIC_HDR_PLUS"}
    graph = filter_graph(picture, ("scale", size), ("format", {"pix_fmts": "gbrp16le"}), ("sidedata", dynamic))
    grid = through(graph, picture)
    for plane, values in zip(grid.planes, (green, blue, red)):
        padded = np.zeros((_NODES, plane.line_size // 2), "<u2")
        padded[:, : _NODES**2] = values
        plane.update(padded.tobytes())
    options = {"flags": f"bilinear+{EXACT}"} | conversion_of(picture)
    graph = filter_graph(grid, ("scale", options), ("format", {"pix_fmts": "gbrp16le"}), threads=0)
    green, blue, red = (np.frombuffer(bytes(plane), "<u2").reshape(_NODES, -1) for plane in through(graph, grid).planes)
    return np.stack([axis[:, : _NODES**2].reshape(-1) for axis in (red, green, blue)], -1).astype(np.uint16)


def _cube(colours: np.ndarray) -> str:
    lines = (f"{red:.6f} {green:.6f} {blue:.6f}\n" for red, green, blue in (colours / 65535).tolist())
    return f"LUT_3D_SIZE {_NODES}\n" + "".join(lines)
