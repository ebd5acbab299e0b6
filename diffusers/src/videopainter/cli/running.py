"""How a door runs and ends: a user's mistake in one line, the right exit code, Ctrl-C at any moment.

Imports nothing heavy, and doors import the rest inside their `main`: so that Ctrl-C while torch loads is one line, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from videopainter.errors import complain, one_line
from videopainter.files import WriteError, disk_is_full
from videopainter.flags import shown

# The process id of `cli.launch`, for those that it started.
LAUNCHER = "VIDEOPAINTER_LAUNCHER"
# What libraries say at every start and no user can act on. Errors they raise are told all the same.
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
_QUIET_LOGGERS = ("accelerate", "bitsandbytes", "torchao", "torch.utils._pytree")
# glibc's mallopt: how many arenas threads share.
_M_ARENA_MAX, _ARENAS = -8, 2
# Processes say the same; the launcher ends the others once the first has spoken and left.
_TURN_SECONDS = 5.0


def _go_on() -> str:
    return "start the same command again to go on where it was"


_advice: Callable[[], str] = _go_on


def run_door(main: Callable[[], int | None]) -> NoReturn:
    """Run `main` and exit: its return value (None: 0), 2 after a user's mistake, 1 where results could not be written,
    130 after Ctrl-C."""
    advise(_go_on)  # what an earlier door of this process said is not what this one does
    _end_with_launcher()
    _quiet_libraries()
    _share_memory()
    with _Interrupts() as interrupts:
        code = _code_of(main, interrupts)
    sys.stdout.flush()
    sys.exit(code)


def _quiet_libraries() -> None:
    """Keep libraries to their errors, before they are imported; variables that a user set stay as they are."""
    if _debugging():
        return
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _share_memory() -> None:
    """Threads free what others can use: each of glibc's arenas keeps its own (a fifth of what copying holds)."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def _debugging() -> bool:
    return os.environ.get("VIDEOPAINTER_DEBUG", "") not in ("", "0")


def advise(how: Callable[[], str]) -> None:
    """What to do after Ctrl-C, where the same command would not go on."""
    global _advice
    _advice = how


class _Interrupts:
    """Ctrl-C: the first raises, and is remembered, as libraries make other errors of it; the second ends at once."""

    def __init__(self) -> None:
        self.count = 0
        self._before: Any = None

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            os._exit(130)
        raise KeyboardInterrupt


def _code_of(main: Callable[[], int | None], interrupts: _Interrupts) -> int:
    try:
        return main() or 0
    except BaseException as error:
        if interrupts.count or isinstance(error, KeyboardInterrupt):
            if _is_first():  # all processes get it
                complain(f"interrupted: {_advice()}")
            return 130
        told = _told(error)
        if told is None or _debugging():
            raise
        _say(f"error: {told}")
        return 1 if disk_is_full(error) or isinstance(error, WriteError) else 2


def _told(error: BaseException) -> str | None:
    """The line for an error that a user can put right; None for faults of ours, or of the machine."""
    if isinstance(error, ValueError) or disk_is_full(error):
        return one_line(error)
    if isinstance(error, OSError) and error.filename is not None:
        # A path that no file can have, or nobody may read.
        return f"path: expected one that can be used, got {error.strerror}, in {shown(str(error.filename))}"
    return None


def _say(text: str) -> None:
    if not _is_first():
        time.sleep(_TURN_SECONDS)
    complain(text)


def _is_first() -> bool:
    """Of the processes on this machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _end_with_launcher() -> None:
    """A launcher that is ended from outside does not always end what it started."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is not None and launcher == str(os.getppid()):
        threading.Thread(target=_wait_for_end, args=(int(launcher),), daemon=True).start()


def _wait_for_end(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(128 + signal.SIGTERM)
