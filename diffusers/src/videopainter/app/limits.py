"""What an upload may be, read from headers before anything is decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.error import ArgumentError, FFmpegError, InvalidDataError

from videopainter.app.options import AppOptions
from videopainter.data.images import IMAGE_SUFFIXES, image_size
from videopainter.data.masks.ids import ARRAY_SUFFIXES, IdArray
from videopainter.data.video.containers import check_whole
from videopainter.errors import InputError, one_line

# Containers, not lists of other files: those would let an upload show what else lies on the server.
_CONTAINERS = "mov,mp4,m4a,matroska,webm,avi,mpegts,mpeg,gif,ogg,flv,asf,mxf,ivf,h264,hevc,apng,webp_anim"
_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".gif", ".ogv", ".flv", ".wmv", ".m4v")
_LONGEST_NAME, _LONGEST_TEXT = 80, 4000
_MEGABYTE = 10**6


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The most that is taken: bytes of a file, frames and pixels along a side of a video."""

    size: int
    frames: int
    side: int

    @classmethod
    def of(cls, options: AppOptions) -> Limits:
        return cls(size=options.max_upload_mb * _MEGABYTE, frames=options.max_frames, side=options.max_side)


def display_name(name: object) -> str:
    """A user's name of a file as it may be shown: its last part, in characters that can be printed."""
    last = re.split(r"[/\\]", str(name))[-1]
    plain = "".join(c for c in last if c.isprintable()).strip(" .")
    return plain[:_LONGEST_NAME] or "upload"


def own_suffix(path: Path, kinds: tuple[str, ...] = (*_SUFFIXES, *IMAGE_SUFFIXES)) -> str:
    """The ending that our copy of an upload gets: its own where that is a known one."""
    suffix = path.suffix.lower()
    return suffix if suffix in kinds else ".mp4"


@contextmanager
def named(path: Path, name: str) -> Iterator[None]:
    """Errors about a file tell the name that its user knows, and no path of the server's."""
    try:
        yield
    except InputError as error:
        told = one_line(error).replace(str(path), name)
        raise type(error)(told.replace(str(path.parent), "the upload")) from None


def check_text(what: str, text: str) -> str:
    """A text as it may be used: on one line, in characters that can be written. InputError where it is too long, or
    no text."""
    if not isinstance(text, str):
        raise InputError(f"{what}: expected a text, got {text!r:.60}")
    if len(text) > _LONGEST_TEXT:
        raise InputError(f"{what}: expected at most {_LONGEST_TEXT} characters, got {len(text)}")
    whole = text.encode("utf-8", "replace").decode()  # no halves of characters: no file takes them
    return " ".join(whole.replace("\0", " ").split())


def as_whole(what: str, value: object) -> int:
    """A whole number, as browsers and programs send one. InputError for what is none."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float | np.floating) and not isinstance(value, bool) and float(value).is_integer():
        return int(value)
    raise InputError(f"{what}: expected a whole number, got {value!r:.60}")


def as_number(what: str, value: object) -> float:
    """A number. InputError for what is none; NaN passes."""
    with suppress(OverflowError):
        if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
            return float(value)
    raise InputError(f"{what}: expected a number, got {value!r:.60}")


def check_picture_upload(path: Path, limits: Limits, name: str) -> None:
    """InputError for a file that is no picture, or a larger one than may be; nothing is decoded."""
    with named(path, name):
        _check_size(path, limits, "picture")
        width, height = image_size(path)
        _check_pixels("picture", height, width, limits, path)


def check_video_upload(path: Path, limits: Limits, name: str) -> None:
    """InputError, in one line, for a file that is no video, or one larger than may be; nothing is decoded."""
    with named(path, name):
        _check_size(path, limits, "video")
        if path.suffix.lower() in IMAGE_SUFFIXES:
            width, height = image_size(path)
            _check_pixels("video", height, width, limits, path)
            return
        check_whole(path)
        # Without a decoder a header is enough for most; what does not tell its size there is opened again.
        if not any(_check_header(path, limits, options) for options in ({"codec_whitelist": "none"}, {})):
            raise InputError(f"video: expected a size, got none, in {path}")


def check_mask_upload(path: Path, limits: Limits, name: str) -> None:
    """InputError for a file that holds no masks, or larger ones than may be; nothing is unpacked or decoded."""
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        check_video_upload(path, limits, name)
        return
    with named(path, name):
        _check_size(path, limits, "mask")
        masks = IdArray(path)
        _check_pixels("mask", masks.height, masks.width, limits, path)
        _check_frames("mask", len(masks), limits, path)


def _check_size(path: Path, limits: Limits, what: str) -> None:
    if not path.is_file():
        raise InputError(f"{what}: expected a file, got none, in {path}")
    size = os.path.getsize(path)
    if size > limits.size:
        most = limits.size // _MEGABYTE
        raise InputError(f"{what}: expected at most {most} MB, got {size / _MEGABYTE:.0f} MB, in {path}")


def _check_header(path: Path, limits: Limits, decoders: dict[str, str]) -> bool:
    """Whether the header told a size."""
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS, **decoders}
    try:
        with av.open(str(path), options=options) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None:
                raise InputError(f"video: expected a video stream, got none, in {path}")
            if not (stream.height and stream.width):
                return False
            _check_pixels("video", stream.height, stream.width, limits, path)
            packets = (packet for packet in container.demux(stream) if packet.size)
            count = stream.frames or sum(1 for _ in zip(range(limits.frames + 1), packets))
            _check_frames("video", count, limits, path)
    except FFmpegError as error:
        told = "no video" if isinstance(error, InvalidDataError | ArgumentError) else error.strerror
        raise InputError(f"video: expected one that can be read, got {told}, in {path}") from None
    return True


def _check_pixels(what: str, height: int, width: int, limits: Limits, path: Path) -> None:
    if max(height, width) > limits.side:
        raise InputError(f"{what}: expected sides of at most {limits.side} pixels, got {width}x{height}, in {path}")


def _check_frames(what: str, count: int, limits: Limits, path: Path) -> None:
    if count > limits.frames:
        got = f"more than {limits.frames}" if count == limits.frames + 1 else count
        raise InputError(f"{what}: expected at most {limits.frames} frames, got {got}, in {path}")
