"""A set in shards: WebDataset's tar files, which `datasets` loads as well, and the table that training reads.

A clip is three members: `KEY.mp4`, `KEY.masks` (its `all_masks.npz`) and `KEY.json` (its rows). The same set gives the
same bytes; a shard that is there, of the same files, is not written again. A shard's name says what it
is made of: no table ever names other bytes than those that it was written for.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videopainter.data.records import RecordTable, find_file, record_paths
from videopainter.data.training.shards import INDEX, INDEX_COLUMNS
from videopainter.errors import InputError
from videopainter.files import (
    fingerprint,
    make_folder,
    read_json,
    replacing,
    sha256_file,
    sha256_text,
    write_json,
    write_text,
)
from videopainter.locks import held, sweep
from videopainter.preparation.progress import WorkProgress
from videopainter.preparation.stages.layout import SET_TABLES

_CARD = """\
---
configs:
- config_name: default
  data_files:
{splits}---

Clips, masks and captions for video inpainting, in shards of WebDataset: `mp4` is a clip, `masks` an .npz of ids
(`arr_0`, integer (T, H, W)), `json` its rows (frames, `mask_id`, captions). `{index}` says where each file lies.
"""


@dataclass(frozen=True, kw_only=True)
class ShardedClip:
    """One clip of a part: its files below the data folder, and its rows."""

    path: str
    files: tuple[Path, Path]
    rows: list[dict[str, str]]

    @property
    def key(self) -> str:
        """WebDataset ends a key at the first dot; without dots, `a.b.mp4` is still told from `a-b.mp4`."""
        name = self.path.removesuffix(".mp4")
        return f"{name.replace('.', '-')}-{sha256_text(name)[:8]}" if "." in name else name


# A line of the table: INDEX_COLUMNS.
_Line = tuple[str, str, int, int, str]


def write_shards(tables: dict[str, Path], data: Path, folder: Path, most_bytes: int) -> dict[str, int]:
    """Write the tables' clips into shards of about `most_bytes`: {part: clips}.

    tables: {part: CSV}, as {"train": ...}. data: the folder that holds their files.

    Raises:
        InputError: a file of a row is missing, or the folder is another's.
    """
    parts = {part: _clips(csv_file, data) for part, csv_file in tables.items()}
    if folder.exists() and any(folder.iterdir()) and not (folder / INDEX).exists() and not _begun(folder):
        raise InputError(f"--output_dir: expected a new folder, or shards, got other files, in {folder}")
    make_folder(folder)
    index: list[_Line] = []
    with held(folder, folder=True):
        sweep(folder)
        (folder / _NOTES).mkdir(exist_ok=True)
        with WorkProgress("shards", sum(map(len, parts.values())), "clip") as progress:
            for part, clips in parts.items():
                for number, group in enumerate(_groups(clips, data, most_bytes)):
                    index += _shard(folder, f"{part}-{number:06d}", group, data)
                    progress.add(number=len(group))
        _publish(folder, tables, index)
    return {part: len(clips) for part, clips in parts.items()}


def _publish(folder: Path, tables: dict[str, Path], index: Sequence[_Line]) -> None:
    """CSVs, card and table of shards that are all there; then what no longer belongs to them goes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(INDEX_COLUMNS)
    writer.writerows(index)
    table = folder / INDEX
    if not table.is_file() or table.read_bytes() != text.getvalue().encode():
        table.unlink(missing_ok=True)  # new CSVs never stand beside the old table
    for csv_file in tables.values():
        with replacing(folder / csv_file.name) as partial:
            shutil.copyfile(csv_file, partial)
    for name in set(SET_TABLES) - {csv_file.name for csv_file in tables.values()}:
        (folder / name).unlink(missing_ok=True)
    splits = "".join(f"  - split: {part}\n    path: {part}-*.tar\n" for part in tables)
    write_text(folder / "README.md", _CARD.format(splits=splits, index=INDEX))
    write_text(table, text.getvalue())
    for stale in set(folder.glob("*.tar")) - {folder / line[1] for line in index}:
        stale.unlink()


_NOTES = ".shards"


def _begun(folder: Path) -> bool:
    return (folder / _NOTES).is_dir()


def _clips(csv_file: Path, data: Path) -> list[ShardedClip]:
    table = RecordTable(csv_file)
    clips: dict[str, ShardedClip] = {}
    for number in range(len(table)):
        row = table.row(number)
        path = row["path"]
        if path not in clips:
            files = record_paths(path, where=f"row {number} of {csv_file}")
            for file in files:
                find_file(file, [data], f"file of row {number}")
            clips[path] = ShardedClip(path=path, files=files, rows=[])
        clips[path].rows.append(row)
    return list(clips.values())


def _groups(clips: Sequence[ShardedClip], data: Path, most_bytes: int) -> Iterator[list[ShardedClip]]:
    """Clips in their order, as many as fit; one that is larger alone."""
    group: list[ShardedClip] = []
    size = 0
    for clip in clips:
        more = sum((data / file).stat().st_size for file in clip.files)
        if group and size + more > most_bytes:
            yield group
            group, size = [], 0
        group.append(clip)
        size += more
    if group:
        yield group


def _shard(folder: Path, begins: str, clips: Sequence[ShardedClip], data: Path) -> list[_Line]:
    """Write a shard, unless it is there; its lines of the index. `begins`: how its name does."""
    states = [(data / file).stat() for clip in clips for file in clip.files]
    key = fingerprint(
        [[(clip.path, clip.rows) for clip in clips], [(state.st_size, state.st_mtime_ns) for state in states]]
    )
    note = folder / _NOTES / f"{begins}.json"
    known = _known(note)
    if known.get("key") == key and _size(folder / known["shard"]) == known["size"]:
        return [(file, known["shard"], *place) for file, *place in known["places"]]
    digests = {file: sha256_file(data / file) for clip in clips for file in clip.files}
    contents = fingerprint([(clip.path, clip.rows, *(digests[file] for file in clip.files)) for clip in clips])
    name = f"{begins}-{contents[:12]}.tar"
    with replacing(folder / name) as partial:
        with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:  # knows long names
            for clip in clips:
                _add_clip(archive, clip, data)
        size = partial.stat().st_size
        with tarfile.open(partial) as archive:
            found = {member.name: (member.offset_data, member.size) for member in archive}
    suffixes = (".mp4", ".masks")
    places = [
        (file.as_posix(), *found[clip.key + suffix], digests[file])
        for clip in clips
        for file, suffix in zip(clip.files, suffixes, strict=True)
    ]
    write_json(note, {"key": key, "shard": name, "size": size, "places": places})
    return [(file, name, offset, length, digest) for file, offset, length, digest in places]


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.is_file() else None


def _known(note: Path) -> dict[str, Any]:
    try:
        content = read_json(note)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _add_clip(archive: tarfile.TarFile, clip: ShardedClip, data: Path) -> None:
    video, masks = (data / file for file in clip.files)
    for suffix, file in ((".mp4", video), (".masks", masks)):
        with file.open("rb") as stream:
            archive.addfile(_member(clip.key + suffix, file.stat().st_size), stream)
    rows = json.dumps({"path": clip.path, "rows": clip.rows}, ensure_ascii=False, sort_keys=True).encode()
    archive.addfile(_member(clip.key + ".json", len(rows)), io.BytesIO(rows))


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member
