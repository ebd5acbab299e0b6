"""The first rows: the video files of a folder."""

from __future__ import annotations

import re
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import sha256_text
from videopainter.preparation.stages.stage import Row

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")


def collect_folder(folder: Path, output: Path | None = None) -> list[Row]:
    """A row per video file below a folder: `id` (and `source`) from its path, `video` its absolute path, `size` and
    `mtime`.

    The last two are there so that a file that changed is worked on again. What lies below `output`
    is no raw video. InputError where there is none.
    """
    if not folder.is_dir():
        raise InputError(f"--videos: expected a folder, found none at {folder}")
    videos = (path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    made = None if output is None else output.resolve()
    files = sorted(path for path in videos if made is None or not path.resolve().is_relative_to(made))
    if not files:
        raise InputError(f"--videos: expected video files ({', '.join(VIDEO_SUFFIXES)}), found none below {folder}")
    rows: list[Row] = []
    for file in files:
        name, state = _id(file.relative_to(folder)), file.stat()
        about = {"video": str(file.resolve()), "size": state.st_size, "mtime": state.st_mtime_ns}
        rows.append({"id": name, "source": name, **about})
    return rows


def _id(path: Path) -> str:
    """Of the path alone, so that other videos change nothing; where it does not say all of it (`a b.mp4` and
    `a_b.mp4`), with a digest."""
    name = re.sub(r"[^\w-]+", "_", path.with_suffix("").as_posix()).strip("_")
    # Names of files have at most 255 bytes, and ours add to this one.
    name = name.encode()[-100:].decode(errors="ignore").strip("_") or "video"
    return name if f"{name}.mp4" == path.as_posix() else f"{name}-{sha256_text(path.as_posix())[:8]}"
