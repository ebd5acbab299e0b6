"""Launches of a training script: started as a user would, watched, waited for, killed."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from launch.ways import TRAIN, Way

# The first start with optimizer offload compiles for minutes; the others take half of one.
TIME_LIMIT = 420
# Set for the shell that runs the tests, these would change what the scripts do.
OURS = shlex.split(
    "MODEL_PATH BRANCH_MODEL_PATH CACHE_PATH DATASET_PATH META_FILE_PATH VAL_META_FILE_PATH PROJECT_NAME RUNS_NAME "
    "OUTPUT_PATH REPORT_TO CONFIG_FILE NUM_PROCESSES NUM_MACHINES MACHINE_RANK MAIN_PROCESS_IP MAIN_PROCESS_PORT CPU "
    "MIXED_PRECISION CUDA_VISIBLE_DEVICES"
)


class Launch:
    """A training script that runs, once per machine; `with` kills what is left of it.

    Args:
        way: Config, processes and machines.
        script: `VideoPainter.sh` or `VideoPainterID.sh`.
        flags: Behind the script's own.
        variables: Of the environment, beside those of `way`.
        log: The output of machine i goes to the file `log` with the suffix `.i`.
    """

    def __init__(self, way: Way, script: str, flags: list[str], variables: Mapping[str, str], log: Path) -> None:
        command = ["bash", str(TRAIN / script), *flags]
        self.logs = [log.with_name(f"{log.name}.{rank}") for rank in range(way.machines)]
        port = str(free_port())
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank, path in enumerate(self.logs):
            where = {"MAIN_PROCESS_PORT": port}
            if way.machines > 1:
                where |= {"NUM_MACHINES": str(way.machines), "MACHINE_RANK": str(rank), "MAIN_PROCESS_IP": "127.0.0.1"}
            with path.open("wb") as output:
                self.processes.append(
                    subprocess.Popen(
                        command,
                        env=environment(**way.variables, **where, **variables),
                        cwd=log.parent,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )

    def __enter__(self) -> Launch:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait(self) -> list[int]:
        """The exit code of each machine; fails with the output after `TIME_LIMIT` seconds."""
        self.wait_for(lambda: all(process.poll() is not None for process in self.processes), "its end")
        return [process.wait() for process in self.processes]

    def wait_for(self, happened: Callable[[], bool], what: str) -> None:
        """Until `happened`; fails with the output if the script ends before, or takes too long."""
        started = time.monotonic()
        while not happened():
            ended = all(process.poll() is not None for process in self.processes)
            if ended and not happened():
                raise AssertionError(f"the script ended before {what}\n{self.output()}")
            if time.monotonic() - started > TIME_LIMIT:
                raise AssertionError(f"{TIME_LIMIT} s passed before {what}\n{self.output()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL for the launchers and all that they started, which have sessions of their own."""
        found = []
        for process in self.processes:
            if process.poll() is None:
                launcher = psutil.Process(process.pid)
                found += [launcher, *launcher.children(recursive=True)]
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        for process in self.processes:
            process.wait()
        psutil.wait_procs(found, timeout=30)

    def output(self, last: int = 6000) -> str:
        """What was printed, its end."""
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-last:]}" for path in self.logs)


def environment(**changes: str) -> dict[str, str]:
    """This process's, without what would change the scripts; no GPU, bfloat16, and this Python first in PATH."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    ours = {"OMP_NUM_THREADS": "1", "VIRTUAL_ENV": sys.prefix, "PATH": path, "HF_HUB_OFFLINE": "1"}
    return kept | ours | {"CUDA_VISIBLE_DEVICES": "", "CPU": "1", "MIXED_PRECISION": "bf16"} | changes


def free_port() -> int:
    """Of this machine, free when asked."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
