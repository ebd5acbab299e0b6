"""Starts a door in several processes, as `accelerate launch` and `torchrun` do, and ends with the door's own exit code.

    python -m videopainter.cli.launch accelerate --num_processes 8 infer/inpaint.py FLAGS
    python -m videopainter.cli.launch torchrun --standalone --nproc_per_node 2 train/cache_latents.py FLAGS

Both launchers answer a process that leaves with an error by some thirty lines of their own. A door has said in one what
is wrong; only where a process was ended from outside there is something to add.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from typing import NoReturn

from videopainter.cli.running import LAUNCHER
from videopainter.errors import complain


def main(words: list[str]) -> int:
    """Start what `words` say; the exit code of the process that failed first, or 0."""
    if not words or words[0] not in ("accelerate", "torchrun"):
        complain("error: expected accelerate or torchrun and their flags, got " + (words[0] if words else "nothing"))
        return 2
    try:
        return _launch(words[0], words[1:])
    except KeyboardInterrupt:
        return 130


def _launch(tool: str, words: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    os.environ[LAUNCHER] = str(os.getpid())
    for name in ("run", "elastic.agent.server.api", "elastic.multiprocessing.api"):
        # A filter: they set their levels themselves when they are imported.
        logging.getLogger(f"torch.distributed.{name}").addFilter(lambda record: False)
    try:
        _start(tool, words)
    except ChildFailedError as error:
        return _told(error.get_first_failure()[1].exitcode)
    except subprocess.CalledProcessError as error:
        return _told(error.returncode)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _start(tool: str, words: list[str]) -> None:
    if tool == "accelerate":
        from accelerate.commands.launch import launch_command, launch_command_parser

        launch_command(launch_command_parser().parse_args(words))
    else:
        from torch.distributed.run import parse_args, run

        run(parse_args(words))


def _told(code: int) -> int:
    """The exit code for a shell; says by what a process was ended from outside."""
    if code >= 0:
        return code
    hint = " (for lack of memory?)" if -code == signal.SIGKILL else ""
    complain(f"error: a process was ended by {signal.Signals(-code).name}{hint}")
    return 128 - code


def _run() -> NoReturn:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    _run()
