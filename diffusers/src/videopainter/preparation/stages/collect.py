"""The first rows: the video files of a folder, or of a table of links."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from videopainter.errors import InputError
from videopainter.files import sha256_text
from videopainter.preparation.download.links import VideoLink, is_web_address, named_once, read_link_rows
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
    return [_row(_id(file.relative_to(folder)), file) for file in files]


def linked_videos(table: Path) -> list[VideoLink]:
    """What a table of links names: `link`, and where it has one `videoId` or `path`, which is then the video's name.

    Files are named by that and not by their row, so that a table can grow; without a name by the link, whose query
    (signatures change) counts only where the rest is no file's name. A row that cannot be fetched, or has the name or
    the link of one before it, has a fault.
    """
    names: dict[str, int] = {}
    urls: dict[str, int] = {}
    found = []
    for number, row in enumerate(read_link_rows(table, ("link",), ("videoId", "path"))):
        link = named_once(_linked(number, row), names)
        first = number if link.fault else urls.setdefault(link.url, number)
        found.append(link if first == number else replace(link, path="", fault=f"row {first} has the same link"))
    return found


def _linked(number: int, row: Mapping[str, str]) -> VideoLink:
    url, named = row["link"], row.get("videoId") or row.get("path", "")
    if not is_web_address(url):
        return VideoLink(row=number, name=named, url=url, path="", fault=f"link: expected an http address, got {url!r}")
    if named:
        name = _id(Path(f"{_without_suffix(named)}.mp4"))
    else:
        place = PurePosixPath(unquote(re.split(r"[?#]", url)[0].partition("://")[2]))
        told = url if _without_suffix(place.name) == place.name else place.as_posix()
        name = f"{_id(Path(f'{_without_suffix(place.name)}.mp4'))[:60]}-{sha256_text(told)[:12]}"
    # Many files in one folder are slow to list; what is in one says itself what it is.
    return VideoLink(row=number, name=name, url=url, path=f"{sha256_text(name)[:2]}/{name}.mp4")


def _without_suffix(name: str) -> str:
    return name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix).lower() in VIDEO_SUFFIXES else name


def collect_links(links: Sequence[VideoLink], folder: Path) -> list[Row]:
    """A row, as of a folder's videos, per link whose file is there; `folder`: what their paths are below."""
    there = [(link, folder / link.path) for link in links if not link.fault]
    return [_row(link.name, file) for link, file in there if file.is_file()]


def _row(name: str, file: Path) -> Row:
    state = file.stat()
    about = {"video": str(file.resolve()), "size": state.st_size, "mtime": state.st_mtime_ns}
    return {"id": name, "source": name, **about}


def _id(path: Path) -> str:
    """Of the path alone, so that other videos change nothing; where it does not say all of it (`a b.mp4` and
    `a_b.mp4`), with a digest."""
    name = re.sub(r"[^\w-]+", "_", path.with_suffix("").as_posix()).strip("_")
    # Names of files have at most 255 bytes, and ours add to this one.
    name = name.encode()[-100:].decode(errors="ignore").strip("_") or "video"
    return name if f"{name}.mp4" == path.as_posix() else f"{name}-{sha256_text(path.as_posix())[:8]}"
