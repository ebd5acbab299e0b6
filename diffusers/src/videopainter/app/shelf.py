"""Which projects a browser began: those are what its person finds again, and nobody else does."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from videopainter.errors import InputError
from videopainter.files import WriteError, read_json, write_json

_ID = re.compile(r"[a-z0-9]{24}")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_id() -> str:
    """An id that nobody guesses."""
    return "".join(secrets.choice(_LETTERS) for _ in range(24))


def is_id(name: object) -> bool:
    """Whether a text may be one; ids come from browsers."""
    return isinstance(name, str) and _ID.fullmatch(name) is not None


class Shelf:
    """The projects of each browser, a small file each; a browser is known by an id that it keeps. Any thread."""

    def __init__(self, root: Path, is_there: Callable[[str], bool]) -> None:
        self._folder, self._is_there = root / "browsers", is_there
        self._lock = threading.Lock()

    def projects(self, browser: str) -> list[str]:
        """The ids of a browser's projects that are still there, in the order in which they came."""
        if not is_id(browser):
            return []
        try:
            known = read_json(self._file(browser))
        except InputError:
            return []
        names = known.get("projects", []) if isinstance(known, dict) else []
        return [name for name in names if is_id(name) and self._is_there(name)]

    def put(self, browser: str, project: str) -> str:
        """Adds a project; the browser's id, a new one where it has none. On a full disk it is not added."""
        browser = browser if is_id(browser) else new_id()
        with self._lock, contextlib.suppress(WriteError):
            known = self.projects(browser)
            if project not in known:
                write_json(self._file(browser), {"projects": [*known, project]})
        return browser

    def clean(self) -> None:
        """Forgets browsers none of whose projects are there any more."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            for file in self._folder.iterdir():
                if is_id(file.stem) and not self.projects(file.stem):
                    file.unlink()

    def _file(self, browser: str) -> Path:
        return self._folder / f"{browser}.json"
