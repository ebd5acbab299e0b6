"""All projects: folders below one root, by ids that nobody guesses."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from videopainter.app.jobs import JobBook
from videopainter.app.makers import MaskMakers
from videopainter.app.options import AppOptions
from videopainter.app.project import Project, ProjectCard, card_of
from videopainter.app.shelf import Shelf, is_id, new_id
from videopainter.app.speeds import Speeds
from videopainter.app.video import FrameCache
from videopainter.errors import InputError
from videopainter.files import make_folder, temporary, user_cache

_OPEN = 24  # projects whose files are held open


class Projects:
    """New and known projects; of an id that is open there is one `Project` for all who ask.

    Args:
        root: Folder of all projects (default: --work_dir, or below the user's cache).
    """

    def __init__(self, root: Path | None = None, options: AppOptions | None = None) -> None:
        self.options = options or AppOptions()
        self.root = Path(root or self.options.work_dir or user_cache() / "app")
        self.folder = self.root / "projects"
        make_folder(self.folder)
        self.book = JobBook(self.folder)
        self.makers, self._cache, self._speeds = MaskMakers(self.options), FrameCache(), Speeds(self.root)
        self.shelf = Shelf(self.root, lambda name: (self.folder / name).is_dir())
        self._open: OrderedDict[str, Project] = OrderedDict()
        self._lock = threading.Lock()

    def new(self) -> Project:
        """An empty project."""
        name = new_id()
        make_folder(self.folder / name)
        return self.open(name)

    def open(self, name: str) -> Project:
        """The project of an id. InputError for what is none; ids come from browsers."""
        if not is_id(name):
            raise InputError("project: expected an id that this app gave, got another text")
        folder = self.folder / name
        with self._lock:
            project = self._open.get(name)
            if not folder.is_dir():
                self._open.pop(name, None)
                raise InputError("project: expected one that is there, got the id of one that is gone or never was")
            if project is None:
                project = self._open[name] = self._project(folder)
            self._open.move_to_end(name)
            idle = [self._open.popitem(last=False)[1] for _ in range(len(self._open) - _OPEN)]
        for one in idle:
            one.close()
        os.utime(folder)
        return project

    def _project(self, folder: Path) -> Project:
        return Project(folder, self.options, self._cache, self.makers, self._speeds, self.book)

    def release(self, name: str) -> None:
        """Closes a project's files and forgets what was read of it."""
        with self._lock:
            project = self._open.pop(name, None)
        if project is not None:
            project.close()

    def ids(self) -> list[str]:
        """All projects there are."""
        return sorted(path.name for path in self.folder.iterdir() if is_id(path.name) and path.is_dir())

    def cards(self, browser: str) -> list[ProjectCard]:
        """A browser's projects that have a video, the last changed first. To look at them does not count as use."""
        names = self.shelf.projects(browser)
        found = (card_of(self.folder / name, busy=self.book.is_busy(name)) for name in names)
        return sorted((card for card in found if card is not None), key=lambda card: -card.changed)

    def own(self, browser: str, name: object) -> Project:
        """One of a browser's projects. InputError for another's."""
        if name not in self.shelf.projects(browser):
            raise InputError("That project is not there any more.")
        return self.open(str(name))

    def remove(self, name: str) -> None:
        """Removes a project with all that is in it. InputError where a job waits for it or works on it."""
        self.open(name).check_idle()
        if not self._remove(name, lambda folder: True):
            raise InputError("a job of this project waits or runs: wait until it has ended, or cancel it")

    def clean(self, idle_seconds: float) -> list[str]:
        """Removes projects that nobody used for so long, but none with a job that waits or runs; their ids."""

        def is_idle(folder: Path) -> bool:
            return time.time() - folder.stat().st_mtime >= idle_seconds

        removed = [name for name in self.ids() if self._remove(name, is_idle)]
        self.shelf.clean()
        return removed

    def _remove(self, name: str, may_go: Callable[[Path], bool]) -> bool:
        """Whether a project went."""
        folder = self.folder / name
        doomed, project = temporary(folder), None
        # In one go: nobody opens it between the look and its end, and what is in use stays open.
        with self._lock:
            try:
                if not may_go(folder) or self.book.is_busy(name):
                    return False
                folder.rename(doomed)
            except FileNotFoundError:
                return False
            project = self._open.pop(name, None)
        if project is not None:
            project.close()
        self.book.drop_finished(name)
        shutil.rmtree(doomed, ignore_errors=True)
        return True
