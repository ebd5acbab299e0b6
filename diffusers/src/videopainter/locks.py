"""Being the only process that writes an output, and removing what killed ones left there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import HOST, TEMPORARY_NAME, TOKEN, write_errors

LOCK = ".partial.lock"
# The second of two processes waits so long for one that is about to end.
PATIENCE_SECONDS = 3.0
_DAY_SECONDS = 86_400
# File systems without locks, and full ones, where only the note in the file is missing.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_held: set[int] = set()


def sweep(folder: Path | str, *, deep: bool = False, shared: bool = False) -> list[Path]:
    """Remove temporary files, folders and locks of processes that are no more: of this machine's, or a day old.

    Args:
        deep: In subfolders, too, but not in hidden ones.
        shared: Those without an owner, too: for the main process of a run that holds `folder`.

    Returns what was removed.
    """
    removed = []
    for place, folders, files in os.walk(folder):
        ours = [Path(place, name) for name in (*folders, *files) if TEMPORARY_NAME.fullmatch(name)]
        removed += [path for path in ours if _remove(path, shared)]
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
    return removed


def _remove(path: Path, shared: bool) -> bool:
    if path.name.endswith(LOCK):
        taken = _take(path)
        if taken is not None:
            _give_back(taken, path)  # removed while held, so that nobody takes it in between
        return taken is not None
    if not _is_left(path, shared):
        return False
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return not path.exists()


def _is_left(path: Path, shared: bool) -> bool:
    match = TEMPORARY_NAME.fullmatch(path.name)
    assert match is not None
    host, pid, token = match.groups()
    if host is None:
        return shared
    if host == HOST and (not _is_alive(int(pid)) or (int(pid) == os.getpid() and token != TOKEN)):
        return True
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime > _DAY_SECONDS
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def held(path: Path | str, *, folder: bool = False, patience: float | None = None) -> Iterator[None]:
    """Be the only process that writes `path` while the block runs.

    The lock goes with the process, however that ends. Where a file system knows no locks there is none.

    Args:
        folder: Whether `path` is a folder; it is made.
        patience: Seconds to wait for another process; infinity: as long as it takes.

    Raises:
        InputError: another process holds it.
    """
    path = Path(path)
    lock = path / LOCK if folder else path.with_name(f".{path.name}{LOCK}")
    deadline = time.monotonic() + (PATIENCE_SECONDS if patience is None else patience)
    while (taken := _take(lock)) is None:
        if time.monotonic() > deadline:
            with contextlib.suppress(OSError):
                owner = lock.read_text(encoding="utf-8").strip()
                raise InputError(f"{path} is being written by another process ({owner}): wait until it has ended")
            continue
        time.sleep(0.05)
    _held.add(taken)
    try:
        yield
    finally:
        if taken in _held:  # not in a forked process
            _held.remove(taken)
            _give_back(taken, lock)


def _forget() -> None:
    """In a forked process, which would hold its parent's locks for longer than that lives."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget)


def _give_back(taken: int, lock: Path) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()
    os.close(taken)


def _take(path: Path) -> int | None:
    """The lock file of `path`, open and locked; None while another process has it."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one before removes the file when it ends: a lock on one that is gone says nothing.
        if os.fstat(file).st_ino != os.stat(path).st_ino:
            raise BlockingIOError
        text = f"process {os.getpid()} on {os.uname().nodename}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
        os.ftruncate(file, 0)
        os.write(file, text.encode())
    except (BlockingIOError, FileNotFoundError):
        os.close(file)
        return None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(file)
            raise
    return file
