"""Archives into a folder: nothing outside of it, nothing that is there replaced, what is there and equal skipped."""

from __future__ import annotations

import os
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from videopainter.errors import InputError, one_line
from videopainter.files import WriteError, publish, temporary, write_errors
from videopainter.locks import sweep
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.unpack.survey import UnpackLimits, ZipEntry, open_archive, survey

# Inflating, checksums and writing let other threads work; with pieces of this size they mostly do.
_PIECE = 1 << 20
# Entries that a thread takes at once.
_BATCH = 64
_PACKED_WRONG = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)

_WRITTEN, _THERE, _REFUSED = "written", "there", "refused"


@dataclass
class Unpacked:
    """What became of archives. `problems`: (archive, entry or "" for all of it, why)."""

    written: int = 0
    there: int = 0
    size: int = 0
    problems: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, other: Unpacked) -> None:
        """The sum of both."""
        self.written += other.written
        self.there += other.there
        self.size += other.size
        self.problems += other.problems


Told = Callable[[str, int], None]


def unpack(
    path: Path,
    target: Path,
    limits: UnpackLimits,
    disk: DiskOptions,
    *,
    threads: int = 1,
    overwrite: bool = False,
    told: Told | None = None,
) -> Unpacked:
    """Unpack one archive into the folder `target`; what is wrong with it, or with an entry, is told in the result.

    An entry whose file is there with the same length and checksum is left alone; one with other content is a problem,
    or replaced where `overwrite` says so. Files appear whole: they are written under a temporary name.
    `told(what, bytes)` is called for every entry, from several threads.

    Raises:
        WriteError: the disk is full, or `target` cannot be written.
    """
    result = Unpacked()
    try:
        with open_archive(path) as archive:
            found = survey(archive, limits)
            tell = told or (lambda what, size: None)
            for name, why in found.refused:
                result.problems.append((path.name, name, why))
                tell(_REFUSED, 0)
            folder = _TargetFolder(target)
            missing = sum(entry.info.file_size for entry in found.entries if not folder.has(entry))
            disk.check_room(target, missing, "to unpack it")
            with write_errors(target):
                target.mkdir(parents=True, exist_ok=True)
            work = _Extraction(archive, path.name, folder, overwrite, tell)
            _extract_all(work, found.entries, threads, result)
    except WriteError:
        raise
    except InputError as error:
        result.problems.append((path.name, "", str(error)))
    return result


def _extract_all(work: _Extraction, entries: list[ZipEntry], threads: int, result: Unpacked) -> None:
    # In the order of the archive: disks like that.
    entries = sorted(entries, key=lambda entry: entry.info.header_offset)
    if threads <= 1:
        result.add(work.batch(entries))
        return
    with ThreadPoolExecutor(threads) as pool:
        batches = [pool.submit(work.batch, entries[k : k + _BATCH]) for k in range(0, len(entries), _BATCH)]
        try:
            for batch in as_completed(batches):
                result.add(batch.result())
        except BaseException:
            work.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


class _TargetFolder:
    """The folder that is unpacked to. Links in it are not followed: they may lead elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._made: set[str] = {""}
        self._lock = threading.Lock()

    def has(self, entry: ZipEntry) -> bool:
        """Whether a file of this name and length is there."""
        try:
            state = os.lstat(self.root / entry.path)
        except OSError:
            return False
        return stat.S_ISREG(state.st_mode) and state.st_size == entry.info.file_size

    def make(self, folder: str) -> None:
        """Make a folder inside; InputError where a file, or a link, has its place."""
        if folder in self._made:
            return
        with self._lock:
            at = ""
            for part in folder.split("/"):
                at = f"{at}/{part}" if at else part
                if at not in self._made:
                    self._make_one(self.root / at)
                    self._made.add(at)

    def _make_one(self, place: Path) -> None:
        if not os.path.lexists(place):
            with write_errors(place):
                place.mkdir(exist_ok=True)
            return
        kind = os.lstat(place).st_mode
        if stat.S_ISLNK(kind):
            raise InputError(f"a link is in its place, which may lead out of the target: {place}")
        if not stat.S_ISDIR(kind):
            raise InputError(f"a file has the place of its folder: {place}")
        sweep(place)  # what a killed run left


class _Extraction:
    """One archive on its way into a folder."""

    def __init__(self, archive: zipfile.ZipFile, name: str, folder: _TargetFolder, overwrite: bool, told: Told) -> None:
        self.archive, self.name, self.folder = archive, name, folder
        self.overwrite, self.told = overwrite, told
        self.stop = threading.Event()

    def batch(self, entries: list[ZipEntry]) -> Unpacked:
        """Unpack some entries."""
        result = Unpacked()
        for entry in entries:
            if self.stop.is_set():
                break
            try:
                outcome, size = self._one(entry)
            except WriteError:
                raise
            except (InputError, *_PACKED_WRONG) as error:
                outcome, size = _REFUSED, 0
                result.problems.append((self.name, entry.info.filename, one_line(error)))
            except OSError as error:
                outcome, size = _REFUSED, 0
                result.problems.append((self.name, entry.info.filename, error.strerror or one_line(error)))
            result.written += outcome == _WRITTEN
            result.there += outcome == _THERE
            result.size += size
            self.told(outcome, size)
        return result

    def _one(self, entry: ZipEntry) -> tuple[str, int]:
        """(what happened, bytes written)."""
        if entry.info.is_dir():
            self.folder.make(entry.path)
            return _THERE, 0
        self.folder.make(entry.path.rpartition("/")[0])
        file = self.folder.root / entry.path
        if os.path.lexists(file):
            if not stat.S_ISREG(os.lstat(file).st_mode):
                raise InputError("a link or a folder has its place")
            if self.folder.has(entry) and _checksum(file) == entry.info.CRC:
                return _THERE, 0
            if not self.overwrite:
                raise InputError("another file of this name is there (--overwrite replaces it)")
        self._write(entry, file)
        return _WRITTEN, entry.info.file_size

    def _write(self, entry: ZipEntry, file: Path) -> None:
        partial = temporary(file)
        try:
            # At its end a member's checksum is compared; one that holds more than it says is cut off, and differs.
            with self.archive.open(entry.info) as packed, write_errors(file), partial.open("xb") as out:
                while piece := packed.read(_PIECE):
                    out.write(piece)
                    if self.stop.is_set():
                        raise InputError("interrupted")
            if partial.stat().st_size != entry.info.file_size:
                raise InputError(f"it is cut off after {partial.stat().st_size} of {entry.info.file_size} bytes")
            with write_errors(file):
                publish(partial, file)
        finally:
            partial.unlink(missing_ok=True)


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            checksum = zlib.crc32(piece, checksum)
    return checksum
