"""What the web server hands out, and what it refuses."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from videopainter.errors import InputError
from videopainter.files import make_folder

Scope = MutableMapping[str, Any]
_KEEP_UPLOADS = 3600.0  # seconds
AsgiApp = Callable[[Scope, Any, Any], Awaitable[None]]


class Served:
    """Files that browsers may fetch: links, in folders with names that nobody guesses, to what projects hold.

    Gradio hands out what lies in its folder to whoever knows the path; the folders of projects it never sees.
    """

    def __init__(self, root: Path) -> None:
        self.folder = root / "served"
        shutil.rmtree(self.folder, ignore_errors=True)  # addresses do not outlive the server
        make_folder(self.folder)
        os.environ["GRADIO_TEMP_DIR"] = str(self.folder)
        self._known: dict[tuple[str, int, int], Path] = {}
        self._lock = threading.Lock()

    def link(self, file: Path | str | None, name: str | None = None) -> str | None:
        """A path for Gradio to a project's file, downloaded as `name`; None for none."""
        if file is None or not Path(file).is_file():
            return None
        file = Path(file)
        key = _as_it_is(file)
        with self._lock:
            target = self._known.get(key)
            if target is None or not target.is_file():
                target = self.folder / secrets.token_hex(16) / (name or file.name)
                target.parent.mkdir()
                try:
                    os.link(file, target)
                except OSError:  # another disk
                    shutil.copyfile(file, target)
                self._known[key] = target
        return str(target)

    def clean(self) -> None:
        """Takes away links to what no project has any more, and uploads, of which projects have copies.

        Not at once: who uploads the same file at the same time is given the same path by Gradio.
        """
        with self._lock:
            for key, target in list(self._known.items()):
                if not Path(key[0]).is_file() or _as_it_is(Path(key[0])) != key:
                    shutil.rmtree(target.parent, ignore_errors=True)
                    del self._known[key]
            linked = {target.parent for target in self._known.values()}
            for folder in set(self.folder.iterdir()) - linked:
                if folder.is_dir() and time.time() - folder.stat().st_mtime > _KEEP_UPLOADS:
                    shutil.rmtree(folder, ignore_errors=True)


def _as_it_is(file: Path) -> tuple[str, int, int]:
    """Another one where a file was made anew."""
    state = file.stat()
    return str(file), state.st_mtime_ns, state.st_size


class ClosedDoors:
    """Refuses what Gradio's server offers beside this page: fetching other addresses, recordings, its editor."""

    _CLOSED = (
        *("/proxy=", "/file=http:", "/file=https:"),
        *("/process_recording", "/vibe-", "/undo-vibe", "/custom_component/"),
    )

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        path = unquote(scope.get("path") or "")
        if scope["type"] == "http" and any(word in path for word in self._CLOSED):
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b"Not a part of this app."})
        else:
            await self._app(scope, receive, send)


def uploaded(file: Any) -> Path:
    """The file that a client uploaded, from what it sent of it. InputError for a path of another file."""
    path = file.get("path") if isinstance(file, dict) else None
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    found = Path(path).resolve() if isinstance(path, str) and "\0" not in path else folder
    if folder not in found.parents or not found.is_file():
        raise InputError("file: expected one that was uploaded here, got another")
    return found
