"""A contact sheet of clips: a frame of each, its hole outlined, and what is wrong with it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videopainter.data.masks.ids import IdArray
from videopainter.data.records import record_paths
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError
from videopainter.preparation.check.rows import CheckedRow

_WIDTH, _HEIGHT, _LINE, _GAP, _COLUMNS = 288, 162, 36, 6, 4
_PAPER, _INK, _DIM, _HOLE, _BAD = (255, 255, 255), (30, 30, 30), (120, 120, 120), (255, 70, 40), (190, 40, 10)


@dataclass(frozen=True)
class SheetClip:
    """One picture of the sheet."""

    path: str
    row: CheckedRow
    problem: str = ""


def draw_sheet(clips: Sequence[SheetClip], data: Path) -> bytes:
    """A JPEG with a picture per clip, as far as one can be read: its middle frame, the hole's outline in red."""
    rows = -(-len(clips) // _COLUMNS)
    size = (_COLUMNS * (_WIDTH + _GAP) + _GAP, max(1, rows) * (_HEIGHT + _LINE + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, clip in enumerate(clips):
        left = _GAP + number % _COLUMNS * (_WIDTH + _GAP)
        top = _GAP + number // _COLUMNS * (_HEIGHT + _LINE + _GAP)
        picture = _picture(clip, data)
        if picture is None:
            draw.rectangle((left, top, left + _WIDTH, top + _HEIGHT), outline=_DIM)
            draw.text((left + 8, top + 8), "no picture can be read", _DIM, font)
        else:
            sheet.paste(picture, (left + (_WIDTH - picture.width) // 2, top + (_HEIGHT - picture.height) // 2))
        draw.text((left, top + _HEIGHT + 2), f"{clip.path}  id {clip.row.mask_id}"[:48], _INK, font)
        label = clip.problem or f"{clip.row.csv} row {clip.row.row}"
        draw.text((left, top + _HEIGHT + 17), label[:48], _BAD if clip.problem else _DIM, font)
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _picture(clip: SheetClip, data: Path) -> Image.Image | None:
    video, masks = (data / path for path in record_paths(clip.path))
    try:
        frames = VideoFrames(video, threads=1, check_end=False)
    except (InputError, OSError):
        return None
    try:
        end = min(clip.row.end or len(frames), len(frames))
        number = min((clip.row.start + end) // 2, len(frames) - 1)
        pixels = frames.read(number, number + 1)[0]
    except InputError:
        return None
    finally:
        frames.close()
    scale = min(_WIDTH / pixels.shape[1], _HEIGHT / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Image.fromarray(_outlined(small, _mask(masks, number, clip.row.mask_id)))


def _mask(path: Path, number: int, mask_id: int) -> np.ndarray | None:
    try:
        masks = IdArray(path)
        return next(masks.pick([number], mask_id), None) if number < len(masks) else None
    except (InputError, OSError):
        return None


def _outlined(pixels: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    if mask is None:
        return pixels
    small = cv2.resize(mask.astype(np.uint8), (pixels.shape[1], pixels.shape[0]), interpolation=cv2.INTER_AREA)
    contours, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.ascontiguousarray(pixels), contours, -1, _HOLE, 2)
