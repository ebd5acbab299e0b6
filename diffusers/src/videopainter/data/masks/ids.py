"""Masks stored as ids of objects: `all_masks.npz` of VPData, streamed, since one can be several GB."""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO

import numpy as np

from videopainter.data.clip import check_range
from videopainter.errors import InputError, one_line
from videopainter.files import write_errors
from videopainter.flags import check_size

ARRAY_SUFFIXES = (".npz", ".npy")
# Bytes that are read at once: of an array, and of what one is packed in.
_PIECE, _PACKED_PIECE = 1 << 18, 1 << 14


class PackedMasks:
    """Masks in a temporary file on disk, one bit per pixel; it goes when the object does."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self._file = tempfile.TemporaryFile(prefix="videopainter-masks-")  # noqa: SIM115 (lives as long as the object)
        self._bytes = (height * width + 7) // 8
        self._length = 0

    def append(self, mask: np.ndarray) -> None:
        """Adds one mask, bool (H, W)."""
        with write_errors(tempfile.gettempdir()):
            self._file.write(np.packbits(mask).tobytes())
        self._length += 1

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> np.ndarray:
        """Masks `start` to `stop` (exclusive), bool (T, H, W)."""
        check_range(start, stop, self._length)
        self._file.flush()
        # pread: processes that share the file do not move each other's position.
        data = os.pread(self._file.fileno(), (stop - start) * self._bytes, start * self._bytes)
        bits = np.unpackbits(np.frombuffer(data, np.uint8).reshape(-1, self._bytes), axis=1)
        return bits[:, : self.height * self.width].reshape(-1, self.height, self.width).astype(bool)


def open_id_array(path: Path, mask_id: int | None) -> PackedMasks:
    """Masks `ids == mask_id` of an .npz (array `arr_0`, or the only one) or .npy of integer ids (T, H, W).

    Without `mask_id` the only id that there is (0 is background) is taken. The array is read frame by frame.
    """
    if mask_id is None:
        mask_id = pick_id(None, _all_ids(path), path)
    masks: PackedMasks | None = None
    found = False
    for frame in _frames(path):
        masks = masks or PackedMasks(*frame.shape)
        mask = frame == mask_id
        found = found or bool(mask.any())
        masks.append(mask)
    if not found:
        pick_id(mask_id, _all_ids(path), path)
    assert masks is not None
    return masks


class IdArray:
    """Ids (T, H, W) of an .npz (array `arr_0`, or the only one) or .npy, streamed up to the last frame asked for.

    Nothing is unpacked to disk; `height`, `width` and the length are known without reading the ids. Raises
    InputError for what is no such array; a read does where the file is cut off, or cannot be unpacked, before its
    end. Checksums are of whole members, so they are not compared here (`open_id_array` does).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path) as file:
            (self._length, self.height, self.width), _ = _header(file, path)

    def __len__(self) -> int:
        return self._length

    def pick(self, numbers: Sequence[int], mask_id: int) -> Iterator[np.ndarray]:
        """`ids == mask_id` of frames `numbers` (rising), one after the other, bool (H, W)."""
        for ids in _frames(self.path, numbers):
            yield ids == mask_id

    def all(self, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """The ids of frames `numbers` (rising; None: of all), one after the other, (H, W)."""
        return _frames(self.path, numbers)

    def presence(self, mask_id: int, part: tuple[slice, slice] = (slice(None), slice(None))) -> np.ndarray:
        """In which frames `mask_id` occurs in that part (rows, columns), bool (T,); reads them all.

        InputError that lists the ids where it is in no frame at all.
        """
        present, found = np.zeros(len(self), bool), False
        for number, mask in enumerate(self.pick(range(len(self)), mask_id)):
            present[number] = mask[part].any()
            found = found or bool(present[number]) or bool(mask.any())
        if not found:
            pick_id(mask_id, _all_ids(self.path), self.path)
        return present


def pick_id(mask_id: int | None, ids: set[int], path: Path) -> int:
    """`mask_id` if it is among `ids`, the only one if it is None; InputError that lists them otherwise."""
    objects = sorted(ids - {0})
    if not objects:
        raise InputError(f"mask: expected an id above 0 (background), got no id but 0, in {path}")
    names = ", ".join(map(str, objects[:20])) + (", ..." if len(objects) > 20 else "")
    if mask_id is None:
        if len(objects) > 1:
            raise InputError(f"mask_id: expected one of {names}, got none, in {path}")
        return objects[0]
    if mask_id not in ids:
        raise InputError(f"mask_id: expected one of {names}, got {mask_id}, in {path}")
    return mask_id


def unique_ids(pixels: np.ndarray) -> set[int]:
    """The ids in an array of any shape."""
    import pandas as pd  # its hashing is many times as fast as sorting

    return {int(i) for i in pd.unique(pixels.ravel())}


def _all_ids(path: Path) -> set[int]:
    ids: set[int] = set()
    for frame in _frames(path):
        ids |= unique_ids(frame)
    return ids


def _frames(path: Path, numbers: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """The (H, W) arrays of ids of frames `numbers` (rising; None: of all), one after the other, never the whole."""
    with _reading(path, checked=numbers is None) as file:
        yield from _array_frames(file, path, numbers)


@contextmanager
def _reading(path: Path, *, checked: bool = False) -> Iterator[IO[bytes]]:
    """The array's file or member of an archive; InputError for what goes wrong while it is read.

    `checked`: who reads a member to its end learns whether its checksum is right.
    """
    try:
        if path.suffix.lower() == ".npy":
            with open(path, "rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open(_member(archive, path)) as file:
                info = archive.getinfo(file.name)
                if checked or info.compress_type != zipfile.ZIP_DEFLATED:
                    yield file
                else:
                    with open(path, "rb") as raw:
                        yield BufferedReader(_Deflated(raw, info), _PIECE)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(
            f"masks: expected a whole array file, got none or one that is cut off ({error}), in {path}"
        ) from None


class _Deflated(RawIOBase):
    """What a compressed member of an archive holds, several times as fast as `zipfile` reads it: no checksum."""

    def __init__(self, raw: IO[bytes], info: zipfile.ZipInfo) -> None:
        # The lengths of the name and of what is behind it end the 30 bytes ahead of them.
        raw.seek(info.header_offset + 26)
        raw.seek(sum(struct.unpack("<HH", raw.read(4))), os.SEEK_CUR)
        self._raw, self._left = raw, info.compress_size
        self._inflater, self._packed = zlib.decompressobj(-zlib.MAX_WBITS), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._inflater.eof:
            if not self._packed:
                self._packed = self._raw.read(min(self._left, _PACKED_PIECE))
                self._left -= len(self._packed)
            data = self._inflater.decompress(self._packed, len(buffer))
            if not data and not self._packed:
                break
            self._packed = self._inflater.unconsumed_tail
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


def _member(archive: zipfile.ZipFile, path: Path) -> str:
    names = archive.namelist()
    if "arr_0.npy" in names:
        return "arr_0.npy"
    if len(names) == 1 and names[0].endswith(".npy"):
        return names[0]
    held = ", ".join(name.removesuffix(".npy") for name in names[:8]) or "nothing"
    raise InputError(f"masks are expected as array arr_0, {path} holds {held}")


def _array_frames(file: IO[bytes], path: Path, numbers: Sequence[int] | None) -> Iterator[np.ndarray]:
    shape, dtype = _header(file, path)
    size = shape[1] * shape[2] * dtype.itemsize
    done = 0
    for number in range(shape[0]) if numbers is None else numbers:
        # What is skipped is read, too: a compressed member cannot be entered in the middle.
        skipped = _skip(file, (number - done) * size)
        data = file.read(size)
        if len(data) < size:
            raise InputError(
                f"masks: expected {shape[0]} frames, got an array cut off at frame {done + skipped // size}, in {path}"
            )
        done = number + 1
        yield np.frombuffer(data, dtype).reshape(shape[1:]).astype(dtype.newbyteorder("="), copy=False)


def _skip(file: IO[bytes], count: int) -> int:
    """Reads over `count` bytes, in pieces that stay in the processor's cache; how many there were."""
    left = count
    while left and (data := file.read(min(left, _PIECE))):
        left -= len(data)
    return count - left


def _header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # a header of the others may be gigabytes long
            raise ValueError(f"expected format 1.0, got {version[0]}.{version[1]}")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise InputError(f"masks: expected a numpy array, got {one_line(error)}, in {path}") from None
    if len(shape) != 3 or min(shape) < 1 or dtype.kind not in "iub" or fortran_order:
        order = ", Fortran order" if fortran_order else ""
        raise InputError(f"masks: expected integer ids (T, H, W), row by row, got {dtype} {shape}{order}, in {path}")
    check_size("masks", shape[1], shape[2], path)
    return shape, dtype
