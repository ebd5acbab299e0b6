"""The JSON beside a result: exactly how it was made, and whether that is what is asked for now."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path

import videopainter
from videopainter.errors import InputError
from videopainter.files import WriteError, read_json, remove_folder, sha256_file, user_cache, write_json
from videopainter.locks import held

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".json", ".model", ".txt")
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "av", "opencv-python-headless", "numpy")


# In a work folder, where the pipeline keeps finished windows.
WINDOWS_FOLDER = "windows"


def manifest_path(result: Path) -> Path:
    """The JSON of a result file: `x.mp4` -> `x.json`."""
    return result.with_suffix(".json")


def work_dir(result: Path) -> Path:
    """Where an unfinished result keeps its windows: `x.mp4` -> `x.mp4.partial`."""
    return result.with_name(result.name + ".partial")


def is_finished(result: Path, wanted: str, *, overwrite: bool) -> bool:
    """True if `result` is there and its JSON carries the fingerprint `wanted`.

    Raises:
        InputError: a result or an unfinished one is there that was made otherwise, and `overwrite` is off.
    """
    unfinished = _fingerprint_of(run_file(result))
    if unfinished == wanted:
        return False
    if result.exists() and _fingerprint_of(manifest_path(result)) == wanted:
        return True
    if overwrite:
        return False
    advice = "choose another --output_path, or give --overwrite"
    if result.exists():
        made = "with other settings" if manifest_path(result).exists() else "by something else (no JSON beside it)"
        raise InputError(f"{result} is there already, made {made}: {advice}")
    if any((work_dir(result) / WINDOWS_FOLDER).glob("*.safetensors")):
        raise InputError(f"{work_dir(result)} holds finished windows of a run with other settings: {advice}")
    return False


def begin(result: Path, wanted: str) -> Path:
    """The work folder of a result, marked with its fingerprint; what another run left there is removed."""
    folder = work_dir(result)
    if _fingerprint_of(run_file(result)) != wanted:
        remove_folder(folder)
    write_json(run_file(result), {"fingerprint": wanted})
    return folder


def run_file(result: Path) -> Path:
    """Whose work folder it is. It goes last, so that a result whose JSON is missing is known to be unfinished."""
    return work_dir(result) / "run.json"


def _fingerprint_of(path: Path) -> str | None:
    try:
        return read_json(path, lenient=True).get("fingerprint")
    except (InputError, AttributeError):
        return None


def versions() -> dict[str, str | None]:
    """Versions of what computed a result, and the commit of the source tree it ran from (None outside git)."""
    found: dict[str, str | None] = {"videopainter": videopainter.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found | {"git_commit": _git_commit()}


def _git_commit() -> str | None:
    here = Path(videopainter.__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


class Hasher:
    """sha256 of files, remembered by path, size and modification time: weights are hashed once per machine."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache or user_cache() / "sha256.json"
        self.known: dict[str, str] = self._load()

    def files(self, paths: Iterable[Path]) -> dict[str, str]:
        """{path: sha256} in sorted order; folders stand for the files in them.

        Of several processes that ask for the same new files, one reads them and the others wait for its answer.
        """
        wanted = sorted({file for path in paths for file in _files_in(path)})
        keys = {file: self._key(file) for file in wanted}
        if any(key not in self.known for key in keys.values()):
            with self._turn():
                self.known = self._load() | self.known
                fresh = [file for file in wanted if keys[file] not in self.known]
                with ThreadPoolExecutor(4) as pool:  # hashing releases the interpreter lock
                    for file, digest in zip(fresh, pool.map(sha256_file, fresh)):
                        self.known[keys[file]] = digest
                if fresh:
                    self._save()
        return {str(file): self.known[keys[file]] for file in wanted}

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until no other process of this machine hashes; where nothing can be written, do not wait."""
        with ExitStack() as stack:
            with suppress(WriteError):
                stack.enter_context(held(self.cache, patience=math.inf))
            yield

    @staticmethod
    def _key(path: Path) -> str:
        stat = path.stat()
        return f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"

    def _load(self) -> dict[str, str]:
        try:
            known = read_json(self.cache)
        except InputError:
            return {}
        return known if isinstance(known, dict) else {}

    def _save(self) -> None:
        with suppress(WriteError):  # a read-only home costs time, nothing else
            write_json(self.cache, self._load() | self.known)


def model_files(path: str | Path | None) -> list[Path]:
    """Weights and configs below a model folder (or the file itself); empty for None and for hub ids."""
    if path is None or not Path(path).exists():
        return []
    if Path(path).is_file():
        return [Path(path)]
    return sorted(p for p in Path(path).rglob("*") if p.is_file() and p.suffix in WEIGHT_SUFFIXES)


def _files_in(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
