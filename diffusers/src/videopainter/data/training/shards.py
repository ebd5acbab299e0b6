"""A set in shards: tar files, here or on object storage, and a table of where in them each file lies.

A clip's files are read as ranges of bytes and kept in a folder of this machine, so that the rest of the training set
sees files as ever. The shards are WebDataset's; their order is not what training draws by.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from videopainter.data.tables import read_table
from videopainter.errors import InputError, one_line
from videopainter.files import fingerprint, replacing, user_cache, write_bytes

INDEX = "shards.csv"
INDEX_COLUMNS = ("file", "shard", "offset", "size", "sha256")
# What was used so lately is not taken away from another process that may be about to read it.
_RESTS = 600.0
_LOOK_EVERY = 64
_WEB = ("http://", "https://")
# Seconds before storage that failed is asked again.
_WAITS = (0.5, 2.0, 8.0)


class StorageError(InputError):
    """The storage of a set cannot be read: no fault of a sample's, for which another one could stand in."""


class ShardPlace(NamedTuple):
    """Bytes of a tar file, and their digest."""

    shard: str
    offset: int
    size: int
    sha256: str


def is_sharded(root: str | None) -> bool:
    """Whether a data root is a set in shards: a folder with their table, or an address (s3://...)."""
    return root is not None and ("://" in root or (Path(root) / INDEX).is_file())


class ShardedFiles:
    """The files of a set in shards, by their names below the data folder.

    Args:
        root: The shards' folder, or its address as fsspec takes it; a web address may have a query for all its files.
        most_bytes: About how much of this machine's disk is used; what was not used for longest goes first.
        cache: Where files are kept; by default in the user's cache.

    Raises:
        InputError: the table cannot be read (StorageError), or the storage's package is not installed.
    """

    def __init__(self, root: str, most_bytes: float, cache: Path | None = None) -> None:
        # A signed address (https://host/shards?token=...) signs each file; its signature is no part of what it names.
        place, mark, query = root.partition("?") if root.startswith(_WEB) else (root, "", "")
        self.root, self._signature, self.most_bytes = place.rstrip("/"), mark + query, most_bytes
        # The same relative name is another folder elsewhere.
        place = self.root if "://" in self.root else str(Path(self.root).resolve())
        self.folder = (cache or user_cache() / "shards") / fingerprint(place)[:16]
        table = self.folder / INDEX
        write_bytes(table, self._read(INDEX))
        rows = read_table(table, INDEX_COLUMNS)
        columns: Sequence[Any] = [rows[name].tolist() for name in INDEX_COLUMNS]
        try:
            self._places = {
                file: ShardPlace(shard, int(offset), int(size), digest)
                for file, shard, offset, size, digest in zip(*columns)
            }
        except ValueError:
            raise InputError(f"shards: expected whole numbers in offset and size, got others, in {table}") from None
        for file, place in self._places.items():
            if not re.fullmatch("[0-9a-f]{64}", place.sha256):
                raise InputError(f"shards: expected a sha256 of {file}, got {place.sha256[:80]!r}, in {table}")
        self._fetched = 0

    def find(self, relative: Path) -> Path | None:
        """The file on this machine, fetched if it is not there; None where no shard has it.

        Raises:
            StorageError: the shard cannot be read. WriteError: nor can the file be kept.
        """
        place = self._places.get(relative.as_posix())
        if place is None:
            return None
        # By what is in it: another set at this address has other names.
        file = self.folder / place.sha256[:2] / f"{place.sha256}{relative.suffix}"
        with suppress(OSError):
            state = file.stat()
            if state.st_size == place.size:
                os.utime(file, ns=(time.time_ns(), state.st_mtime_ns))  # used, not changed
                return file
        content = self._read(place.shard, place.offset, place.size)
        if hashlib.sha256(content).hexdigest() != place.sha256:
            raise StorageError(
                f"shards: expected the bytes of {relative} that {INDEX} lists, got others, "
                f"in {_public(self.root)}/{place.shard}"
            )
        with replacing(file) as partial:
            partial.write_bytes(content)
        self._fetched += 1
        if self._fetched % _LOOK_EVERY == 0:
            self._make_room()
        return file

    def _read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        import fsspec

        where = f"{self.root}/{name}{self._signature}"
        waits = iter(_WAITS)
        while True:
            try:
                opened: Any = fsspec.open(where, "rb")
            except (ImportError, ValueError) as error:
                reason = _public(one_line(error))[:160]
                raise InputError(f"--instance_data_root {_public(self.root)}: {reason}") from None
            try:
                with opened as stream:
                    stream.seek(offset)
                    content = stream.read(-1 if size is None else size)
                if size is not None and len(content) != size:
                    raise OSError(f"{len(content)} bytes of {size}")
                return content
            except Exception as error:  # whatever a storage's package raises
                wait = next(waits, None)
                if wait is None or isinstance(error, _LASTING):
                    reason = _public(one_line(error))[:160]
                    raise StorageError(
                        f"shards: expected a file that can be read, got {reason}: {_public(where)}"
                    ) from None
                time.sleep(wait)

    def _make_room(self) -> None:
        found = []
        for file in self.folder.rglob("*"):
            with suppress(OSError):
                state = file.stat()
                if file.is_file() and file.name != INDEX:
                    found.append((state.st_atime, state.st_size, file))
        used = sum(size for _, size, _ in found)
        for used_at, size, file in sorted(found):
            if used <= self.most_bytes or used_at > time.time() - _RESTS:
                break
            file.unlink(missing_ok=True)
            used -= size


# What does not pass by waiting.
_LASTING = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def _public(text: str) -> str:
    """A text without the user, the password and the query of addresses in it."""
    return re.sub(r"(\w://[^\s?]*)\?[^\s'\")]*", r"\1", re.sub(r"(\w://)[^\s/?'\"]*@", r"\1", text))
