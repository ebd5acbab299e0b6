"""A set in shards: tar files, here or on object storage, and a table of where in them each file lies.

A clip's files are read as ranges of bytes and kept in a folder of this machine, so that the rest of the training set
sees files as ever. The shards are WebDataset's; their order is not what training draws by.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from videopainter.data.tables import read_table
from videopainter.errors import InputError, one_line
from videopainter.files import fingerprint, replacing, user_cache, write_bytes

INDEX = "shards.csv"
INDEX_COLUMNS = ("file", "shard", "offset", "size")
# What was used so lately is not taken away from another process that may be about to read it.
_RESTS = 600.0
_LOOK_EVERY = 64


class ShardPlace(NamedTuple):
    """Bytes of a tar file."""

    shard: str
    offset: int
    size: int


def is_sharded(root: str | None) -> bool:
    """Whether a data root is a set in shards: a folder with their table, or an address (s3://...)."""
    return root is not None and ("://" in root or (Path(root) / INDEX).is_file())


class ShardedFiles:
    """The files of a set in shards, by their names below the data folder.

    Args:
        root: The shards' folder, or its address as fsspec takes it.
        most_bytes: About how much of this machine's disk is used; what was not used for longest goes first.
        cache: Where files are kept; by default in the user's cache.

    Raises:
        InputError: the table cannot be read, or the storage's package is not installed.
    """

    def __init__(self, root: str, most_bytes: float, cache: Path | None = None) -> None:
        self.root, self.most_bytes = root.rstrip("/"), most_bytes
        self.folder = (cache or user_cache() / "shards") / fingerprint(self.root)[:16]
        table = self.folder / INDEX
        write_bytes(table, self._read(INDEX))
        rows = read_table(table, INDEX_COLUMNS)
        columns: Sequence[Any] = [rows[name].tolist() for name in INDEX_COLUMNS]
        try:
            self._places = {
                file: ShardPlace(shard, int(offset), int(size)) for file, shard, offset, size in zip(*columns)
            }
        except ValueError:
            raise InputError(f"shards: expected whole numbers in offset and size, got others, in {table}") from None
        self._fetched = 0

    def find(self, relative: Path) -> Path | None:
        """The file on this machine, fetched if it is not there; None where no shard has it.

        Raises:
            InputError: the shard cannot be read.
        """
        place = self._places.get(relative.as_posix())
        if place is None:
            return None
        file = self.folder / relative
        with suppress(OSError):
            if file.stat().st_size == place.size:
                os.utime(file)
                return file
        content = self._read(place.shard, place.offset, place.size)
        if len(content) != place.size:
            raise InputError(f"shards: expected {place.size} bytes, got {len(content)}, in {self.root}/{place.shard}")
        with replacing(file) as partial:
            partial.write_bytes(content)
        self._fetched += 1
        if self._fetched % _LOOK_EVERY == 0:
            self._make_room()
        return file

    def _read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        import fsspec

        where = f"{self.root}/{name}"
        try:
            opened: Any = fsspec.open(where, "rb")
            with opened as stream:
                stream.seek(offset)
                return stream.read(-1 if size is None else size)
        except (ImportError, ValueError) as error:
            raise InputError(f"--instance_data_root {self.root}: {one_line(error)[:160]}") from None
        except OSError as error:
            raise InputError(
                f"shards: expected a file that can be read, got {one_line(error)[:160]}: {where}"
            ) from None

    def _make_room(self) -> None:
        found = []
        for file in self.folder.rglob("*"):
            with suppress(OSError):
                state = file.stat()
                if file.is_file() and file.name != INDEX:
                    found.append((state.st_mtime, state.st_size, file))
        used = sum(size for _, size, _ in found)
        for used_at, size, file in sorted(found):
            if used <= self.most_bytes or used_at > time.time() - _RESTS:
                break
            file.unlink(missing_ok=True)
            used -= size
