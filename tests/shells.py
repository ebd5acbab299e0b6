"""Bash scripts up to the command that they end in, and scripts of doors as processes whose imports are done.

The command is what a script is for; Python and the libraries take seconds to start, and are the same for all.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
from fnmatch import fnmatch
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from conftest import clean_process

# Stands first in PATH, as `python`.
RECORDER = '#!/usr/bin/env bash\nprintf "%s\\0" "$PWD" "$@" > "$RECORDED"\nenv -0 > "$RECORDED.env"\n'


class Command(NamedTuple):
    """A script's last command: where it starts, its launcher (none: one process), the door, flags and variables."""

    folder: Path
    launcher: list[str]
    door: str
    flags: list[str]
    variables: dict[str, str]

    def start(self, said: Path, **variables: str) -> BaseProcess:
        """One of its processes; what that says on either stream goes to the file `said`."""
        process = clean_process(_run, self.folder, self.door, self.flags, self.variables | variables, said)
        process.start()
        return process

    def run_until_killed(self, said: Path, pattern: str, count: int) -> None:
        """Its process is killed by SIGKILL as soon as it has put so many files of such a path in their place."""
        process = clean_process(_run, self.folder, self.door, self.flags, self.variables, said, (pattern, count))
        process.start()
        process.join(300)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, said.read_text()

    def run(self, count: int, folder: Path, code: int = 0) -> list[str]:
        """What each of `count` processes says, run as a launcher does; all must end with `code`."""
        said = [folder / f"said by {rank}" for rank in range(count)]
        place = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        processes = [
            self.start(said[rank], RANK=str(rank), LOCAL_RANK=str(rank), **place if count > 1 else {})
            for rank in range(count)
        ]
        for process in processes:
            process.join(300)
            process.kill()
            process.join()
        told = [path.read_text() for path in said]
        assert [process.exitcode for process in processes] == [code] * count, told
        return told


def command_of(script: Path, folder: Path, *flags: str, **variables: str) -> Command:
    """What a bash script, called in `folder` with these flags and variables of the environment, ends in."""
    python, recorded = folder / "recorder/python", folder / "recorder/command"
    python.parent.mkdir(exist_ok=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    kept = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "RECORDED": str(recorded), "VIRTUAL_ENV": "any"}
    subprocess.run(["bash", str(script), *flags], cwd=folder, env=variables | kept, check=True, timeout=60)
    place, *words = recorded.read_text().split("\0")[:-1]
    found = Path(f"{recorded}.env").read_text().split("\0")[:-1]
    at = next(number for number, word in enumerate(words) if word.endswith(".py"))
    return Command(Path(place), words[:at], words[at], words[at + 1 :], dict(line.split("=", 1) for line in found))


def die_after(pattern: str, count: int) -> None:
    """SIGKILL this process once it has put `count` files of such a path in their place.

    A test that watches the folder instead comes too late on a machine that lets it wait.
    """
    replace, put = os.replace, [0]

    def replaced(source, target):
        replace(source, target)
        put[0] += fnmatch(os.path.abspath(target), pattern)
        if put[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replaced


def _run(folder: Path, door: str, flags: list[str], variables: dict[str, str], said: Path, killed=None) -> None:
    if killed is not None:
        die_after(*killed)
    with said.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [door, *flags]
    runpy.run_path(door, run_name="__main__")


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
