"""Files, once for all: written under a temporary name and renamed; writable folders, JSON, digests.

A file or folder that is being written is called `.NAME.partial-HOST-PID-TOKEN.SUFFIX`, beside where it goes. So it is
hidden, keeps the suffix by which libraries choose a format, and tells whose it is: `locks.sweep` removes those of
processes that are no more. A folder that several processes write together has no owner in its name: `.NAME.partial`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videopainter.errors import InputError

# Groups: host, process, token; locks (`locks.LOCK`) are such names, too.
TEMPORARY_NAME = re.compile(r"\.(?:.+\.)?partial(?:-([0-9a-f]{6})-(\d+)-([0-9a-f]{6})\d+)?(?:\.\w+)?")
HOST = hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:6]
TOKEN = os.urandom(3).hex()  # a restarted container gives a process the number that the killed one had
_counter = itertools.count()
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WriteError(InputError):
    """What was to be written cannot be: the disk is full, or the folder no longer there. Doors exit with 1."""


def user_cache() -> Path:
    """Where what is expensive to find out is kept for this user's other processes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "videopainter"


# ---- whole or not at all


def temporary(path: Path, *, shared: bool = False) -> Path:
    """Where `path` is written before it gets its name: a new one each time, or one that all processes know."""
    owner = "" if shared else f"-{HOST}-{os.getpid()}-{TOKEN}{next(_counter)}"
    suffix = path.suffix if re.fullmatch(r"\.\w+", path.suffix) else ""
    return path.with_name(f".{path.name.removesuffix(suffix)}.partial{owner}{suffix}")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path to write a file to; it becomes `path` when the block ends well, else it is removed.

        with replacing(path) as partial:
            save_file(tensors, partial)

    Raises:
        WriteError: the file cannot be written.
    """
    path = Path(path)
    partial = temporary(path)
    with write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            publish(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def publish(partial: Path, path: Path) -> None:
    """Give a file that is whole its name, and the permissions of any new file (safetensors' are narrower)."""
    with contextlib.suppress(OSError):
        partial.chmod(0o666 & ~_umask())
    os.replace(partial, path)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """As `replacing`, for a folder: an empty one to fill, which takes the place of `path`."""
    path = Path(path)
    partial = temporary(path)
    with write_errors(path):
        try:
            partial.mkdir(parents=True)
            yield partial
            publish_folder(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def publish_folder(partial: Path, path: Path) -> None:
    """Give a folder that is whole its name, in place of what has it."""
    old = _set_aside(path)
    partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Gone at once under its name: a kill in between leaves no half of it that looks whole."""
    shutil.rmtree(_set_aside(path), ignore_errors=True)


def _set_aside(path: Path) -> Path:
    doomed = temporary(path)
    if path.exists():
        path.rename(doomed)
    return doomed


def write_text(path: Path | str, text: str) -> None:
    """UTF-8, line breaks as they are. WriteError where it cannot be written."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: Path | str, content: bytes) -> None:
    """WriteError where it cannot be written."""
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def write_errors(path: Path | str) -> Iterator[None]:
    """What libraries raise where `path` cannot be written becomes a WriteError of one line; other errors pass."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = _write_failure(error, Path(path))
        if reason is None:
            raise
        raise WriteError(f"cannot write {path}: {reason}") from error


def disk_is_full(error: BaseException) -> bool:
    """Whether the system refused to write more."""
    return isinstance(error, OSError) and error.errno in _FULL


def _write_failure(error: Exception, path: Path) -> str | None:
    if isinstance(error, OSError):
        # Blocks read, too: a missing input is another matter.
        named = error.filename is not None and _is_at(Path(os.fsdecode(error.filename)), path)
        return error.strerror or str(error) if disk_is_full(error) or named else None
    text = str(error)
    code = re.search(r"\(os error (\d+)\)", text)  # safetensors
    if code is not None and int(code[1]) in _FULL:
        return os.strerror(int(code[1]))
    if any(words in text for words in ("inline_container", "PytorchStreamWriter", "iostream error")):
        return "torch.save could not write on; is the disk full?"
    return None


def _is_at(file: Path, path: Path) -> bool:
    """Whether `file` is `path`, a temporary name beside it or in one, or a folder on the way there."""
    around = (p for p in (file, *file.parents) if p.parent == path.parent)
    return file in path.parents or any(p == path or TEMPORARY_NAME.fullmatch(p.name) for p in around)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# ---- folders


def make_folder(folder: Path | str, what: str = "the output folder") -> None:
    """Make a folder and see that it can be written to; InputError where not."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"cannot write to {what} {folder}: {error.strerror}") from None


def check_target(file: Path | str, what: str) -> None:
    """Make the folder of a file that is going to be written; InputError where there can be no such file."""
    file = Path(file)
    try:
        is_folder = file.is_dir()
    except OSError as error:  # a name that is too long
        raise InputError(f"{what}: expected a file that can be written, got {error.strerror}, in {file}") from None
    if is_folder:
        raise InputError(f"{what}: expected a file, got a folder, in {file}")
    make_folder(file.parent)


def is_empty(folder: Path) -> bool:
    """Whether nothing lies in a folder but what killed or running processes put there for themselves."""
    return all(TEMPORARY_NAME.fullmatch(path.name) for path in folder.iterdir())


# ---- JSON


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Strict JSON with a line break: NaN as null, infinity as "inf"; numpy's arrays and numbers as lists and numbers;
    anything else as its text."""
    return json.dumps(_strict(content), ensure_ascii=False, indent=indent, allow_nan=False) + "\n"


def write_json(path: Path | str, content: Any, *, indent: int | None = None) -> None:
    """`to_json` into a file, whole or not at all. WriteError where it cannot be written."""
    write_text(path, to_json(content, indent=indent))


def read_json(path: Path | str, what: str = "JSON", *, lenient: bool = False) -> Any:
    """The content of a JSON file; `what` names it in errors. `lenient`: NaN and Infinity pass, as in older files.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
            raise InputError(f"{what}: expected a file, got something else, in {path}")
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, parse_constant=None if lenient else _refuse)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{what}: expected a file, got none, in {path}") from None
    except OSError as error:
        raise InputError(f"{what}: expected a file that can be read, got {error.strerror}, in {path}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: expected JSON, got something else ({_first_line(error)}), in {path}") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_strict(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "tolist"):  # numpy's
        return _strict(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


# ---- digests


def sha256_file(path: Path | str) -> str:
    """Of a file's content, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(content: Any) -> str:
    """sha256 of nested values, whatever the order of their keys."""
    return sha256_text(json.dumps(content, sort_keys=True, ensure_ascii=True, default=str))
