"""Writing masks for others to read: an array of ids, a video, or a folder of images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from videopainter.data.images import write_image
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.files import is_empty, replacing, replacing_folder

SUFFIXES = (".npz", ".mp4", ".mkv", ".mov")


def check_output(path: Path) -> None:
    """InputError for what cannot be written to: another kind of file, or a folder that holds something."""
    if path.suffix.lower() in SUFFIXES:
        if path.is_dir():
            raise InputError(f"--output: expected a file, got a folder: {path}")
    elif path.suffix:
        raise InputError(f"--output: expected {', '.join(SUFFIXES)} or a folder, got {path}")
    elif path.exists() and (not path.is_dir() or not is_empty(path)):
        raise InputError(f"--output: expected a new or empty folder, got {path}")


def write_masks(path: Path, ids_of: Callable[[int], np.ndarray], length: int, fps: Fraction) -> None:
    """Writes the masks of `length` frames, one at a time; the file or folder appears whole.

    `ids_of(k)`: uint8 (H, W), which object each pixel of frame k shows, 0 = none. An .npz keeps the ids (`arr_0`, as
    VPData's); videos and folders are white where there is any object.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with replacing(path) as partial:
            _write_ids(partial, ids_of, length)
    elif suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, fps=fps) as writer:
            for k in range(length):
                writer.write(np.repeat(_white(ids_of(k))[None, :, :, None], 3, axis=-1))
    else:
        with replacing_folder(path) as partial:
            for k in range(length):
                write_image(partial / f"{k:06d}.png", _white(ids_of(k)))


def _white(ids: np.ndarray) -> np.ndarray:
    return np.where(ids > 0, np.uint8(255), np.uint8(0))


def _write_ids(path: Path, ids_of: Callable[[int], np.ndarray], length: int) -> None:
    first = ids_of(0)
    header = {"descr": "|u1", "fortran_order": False, "shape": (length, *first.shape)}
    # Without a time in it: the same masks are the same file.
    entry = zipfile.ZipInfo("arr_0.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive, archive.open(entry, "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for k in range(length):
            file.write((first if k == 0 else ids_of(k)).tobytes())
