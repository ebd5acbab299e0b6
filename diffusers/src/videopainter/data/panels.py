"""Pictures to judge a result by: original | masked | mask | result, as frames or as one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videopainter.data.images import write_image
from videopainter.errors import InputError

LABELS = ("original", "masked", "mask", "result")
_COPIED, _REST = (0, 160, 60), (200, 0, 160)
_GAP = 4
_INK, _PAPER = (40, 40, 40), 255


def side_by_side(
    frames: np.ndarray,
    masks: np.ndarray,
    result: np.ndarray,
    *,
    rest: np.ndarray | None = None,
    labels: bool = False,
) -> np.ndarray:
    """Chunks of a clip next to each other, as the release writes them: original | masked | mask | result.

    `frames` and `result` are uint8 (t, H, W, 3), `masks` bool (t, H, W), all of one size. Holes of the masked
    video are black. Where part of the hole was copied from other frames, `rest` (as `masks`) is what was not, and a
    fifth panel shows the result with copied pixels green and others magenta. Returns uint8 (t, H, 4 W or 5 W, 3);
    with `labels`, higher by a line of names.
    """
    if frames.shape != result.shape or frames.shape[:3] != masks.shape:
        raise ValueError(
            f"panels: expected equal sizes, got frames {frames.shape}, masks {masks.shape}, result {result.shape}"
        )
    holes = masks[..., None]
    masked = np.where(holes, np.uint8(0), frames)
    shown = np.broadcast_to(holes, frames.shape).astype(np.uint8) * 255
    panels, names = [frames, masked, shown, result], LABELS
    if rest is not None:
        panels, names = [*panels, tinted(result, masks & ~rest, rest)], (*LABELS, "copied")
    row = np.concatenate(panels, axis=2)
    if not labels:
        return row
    head = _label_line(names, frames.shape[2], _even(max(14, frames.shape[1] // 20)))
    return np.concatenate([np.broadcast_to(head, (len(row), *head.shape)), row], axis=1)


def no_wider(frames: np.ndarray, width: int) -> np.ndarray:
    """Frames uint8 (t, H, W, 3), shrunk to `width` pixels where they are wider; then their height is even."""
    if frames.shape[2] <= width:
        return frames
    size = width, _even(max(2, round(frames.shape[1] * width / frames.shape[2])))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def tinted(result: np.ndarray, copied: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """`result` (..., 3) with what was copied in green and the rest of the hole in magenta, half transparent."""
    out = result.copy()
    for where, colour in ((copied, _COPIED), (rest, _REST)):
        out[where] = result[where] // 2 + np.array(colour, np.uint8) // 2
    return out


def contact_sheet(columns: Mapping[str, Sequence[np.ndarray]], path: Path | str, *, min_height: int = 160) -> None:
    """Writes a PNG with one labelled column per entry and one row per frame.

    Frames are uint8 (H, W, 3), bool or uint8 (H, W); of any size, each column as many. Those lower than
    `min_height` pixels are enlarged by a whole factor without smoothing, so that single pixels can be seen.
    """
    lengths = {name: len(frames) for name, frames in columns.items()}
    if not lengths or len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"contact sheet: expected equally many frames in every column, got {lengths}")
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"contact sheet: expected a .png, got {path}")
    tiles = [[_tile(frame, min_height) for frame in frames] for frames in columns.values()]
    height = max(tile.shape[0] for column in tiles for tile in column)
    width = max(tile.shape[1] for column in tiles for tile in column)
    head = _label_line(list(columns), width + _GAP, 24)[:, : len(tiles) * (width + _GAP) - _GAP]
    rows = [head]
    for k in range(len(tiles[0])):
        rows += [
            _row([column[k] for column in tiles], height, width),
            np.full((_GAP, head.shape[1], 3), _PAPER, np.uint8),
        ]
    write_image(path, np.concatenate(rows[:-1], axis=0))


def _tile(frame: np.ndarray, min_height: int) -> np.ndarray:
    """One frame as uint8 (h, w, 3), high enough to be looked at."""
    if frame.dtype == np.bool_:
        frame = frame.astype(np.uint8) * 255
    if frame.ndim == 2:
        frame = np.repeat(frame[..., None], 3, axis=2)
    factor = math.ceil(min_height / frame.shape[0])
    if factor <= 1:
        return frame
    size = (frame.shape[1] * factor, frame.shape[0] * factor)
    return cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_NEAREST)


def _row(tiles: list[np.ndarray], height: int, width: int) -> np.ndarray:
    row = np.full((height, len(tiles) * (width + _GAP) - _GAP, 3), _PAPER, np.uint8)
    for k, tile in enumerate(tiles):
        left = k * (width + _GAP)
        row[: tile.shape[0], left : left + tile.shape[1]] = tile
    return row


def _label_line(labels: Sequence[str], width: int, height: int) -> np.ndarray:
    """A line of names, one every `width` pixels; uint8 (height, len(labels) * width, 3)."""
    image = Image.new("RGB", (len(labels) * width, height), (_PAPER,) * 3)
    draw = ImageDraw.Draw(image)
    for k, label in enumerate(labels):
        draw.text((k * width + 3, height / 2), label, fill=_INK, anchor="lm", font=_fitting_font(label, width, height))
    return np.array(image)


def _fitting_font(label: str, width: int, height: int):
    """The largest font in which the label fits its column."""
    for size in range(int(height * 0.75), 6, -1):
        font = ImageFont.load_default(size)
        if font.getlength(label) <= width - 6:
            return font
    return ImageFont.load_default(6)


def _even(value: int) -> int:
    return value + value % 2
