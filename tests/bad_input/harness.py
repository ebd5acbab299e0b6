"""Doors called with wrong input, as a user calls them, and what must be true of every answer.

A case is one line of a table: ``base | flags | what the line must name``. `{f}` is the folder of wrong files
(`wrong_files.py`); a flag that comes twice counts as its last one says, so a case only says what is wrong.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import runpy
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]
# A mistake is told before a model loads; what takes longer has begun to compute.
CPU_SECONDS, HANGING_SECONDS = 3.0, 30
# What an answer may add to the process: a clip of small frames is nothing beside this.
BYTES = 3 * 2**30
MOST_CHARACTERS = 1500


@dataclass(frozen=True)
class Case:
    """One wrong command line; `named` must stand in the answer."""

    door: str
    words: str
    named: str

    def argv(self, files: Path) -> list[str]:
        return shlex.split(self.words.replace("{f}", str(files)))


@dataclass(frozen=True)
class Answer:
    code: int
    stderr: str
    cpu_seconds: float


def cases(door: str, bases: dict[str, str], table: str) -> list:
    """One pytest parameter for each line of a table."""
    found = []
    for line in table.strip().splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        base, flags, named = (part.strip() for part in line.split(" | "))
        words = f"{bases[base]} {flags}".replace("\\0", "\0").replace("{300}", "x" * 300)
        found.append(pytest.param(Case(door, words, named), id=f"{base} {flags}"[:80].replace("\\0", "NUL")))
    return found


def check(case: Case, files: Path, folder: Path, *, real: bool = False) -> None:
    """Run a case in `folder`; see that the answer is one line and code 2, soon, and that every file is as before."""
    kept = folder / "kept.txt"
    kept.write_text("not to be lost")
    before = contents(files), contents(folder)
    answer = (call_command if real else call_here)(case, files, folder)
    lines = answer.stderr.splitlines()
    assert answer.code == 2, f"code {answer.code}: {lines[-1] if lines else 'nothing said'}\n{answer.stderr}"
    assert "Traceback" not in answer.stderr, answer.stderr
    assert lines and lines[-1].startswith("error: "), answer.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], answer.stderr
    assert len(lines[-1]) < MOST_CHARACTERS, lines[-1]
    assert case.named in lines[-1], lines[-1]
    assert answer.cpu_seconds < CPU_SECONDS, f"{answer.cpu_seconds:.1f} s of computing"
    assert (contents(files), contents(folder)) == before, "a mistake leaves files as they were"


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """{file: (size, time of change)}; links are not followed, and empty folders do not count."""
    found = {}
    for root, folders, names in os.walk(folder):
        # Hundreds of links to the tiny checkpoint, which nobody writes to.
        folders[:] = [name for name in folders if name != "models"]
        for name in names:
            path = os.path.join(root, name)
            stat = os.lstat(path)
            found[path] = (stat.st_size, stat.st_mtime_ns)
    return found


def call_here(case: Case, files: Path, folder: Path, *, models: bool = False) -> Answer:
    """The door's script in this process: it may not hang, take much memory, nor (but for `models`) build a model."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    started = time.process_time()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        inside(folder),
        limited(),
        no_models(models),
    ):
        old = sys.argv
        sys.argv = [case.door, *case.argv(files)]
        try:
            runpy.run_path(str(REPO / case.door), run_name="__main__")
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 1
        except BaseException:
            # What Python would show.
            traceback.print_exc(file=errors)
            code = 1
        finally:
            sys.argv = old
    return Answer(code, errors.getvalue(), time.process_time() - started)


def call_command(case: Case, files: Path, folder: Path) -> Answer:
    """The door as a process of its own."""
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(REPO / case.door), *case.argv(files)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=_limit_child,
    )
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    # Starting Python and reading the flags is not the answer's.
    return Answer(done.returncode, done.stderr, max(0.0, spent - START_SECONDS))


START_SECONDS = 5.0


def _limit_child() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, resource.RLIM_INFINITY))


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    old = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(old)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """A runaway ends as a MemoryError, what hangs as a TimeoutError; both are failures of the test."""

    def stop(*_: object) -> None:
        raise HangsError(f"not answered after {HANGING_SECONDS} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_size() + BYTES, hard))
    handler = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGING_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class HangsError(BaseException):
    """Not an Exception: no door may take it for a mistake of the user's."""


def _virtual_size() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextlib.contextmanager
def no_models(allowed: bool) -> Iterator[None]:
    """Whoever builds a module has not checked before."""
    if allowed:
        yield
        return

    def refuse(self: object, *_: object, **__: object) -> None:
        raise AssertionError(f"a {type(self).__name__} was built before the mistake was told")

    build = torch.nn.Module.__init__
    torch.nn.Module.__init__ = refuse
    try:
        yield
    finally:
        torch.nn.Module.__init__ = build
