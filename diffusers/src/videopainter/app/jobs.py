"""Long work as it is told to people and kept on disk: a file per job in its project's folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from videopainter.errors import InputError
from videopainter.files import read_json, write_json

JobKind = Literal["track", "mask_video", "captions", "first_frames", "fill"]
JobState = Literal["waiting", "running", "done", "failed", "cancelled"]
JOB_KINDS: tuple[str, ...] = get_args(JobKind)
# Those that read masks: what they are made of stays as it is until they end.
MASK_READERS = ("mask_video", "captions", "first_frames", "fill")
_FOLDER = "jobs"
_KEPT = 30  # finished ones of a project


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job: `done` of `total` of its `stage`, `place` in the queue (0 is next), waits and times in seconds.

    `expected_wait` until it begins and `seconds_left` until it ends are None where nobody knows; `preview` is a
    picture; X
    """

    id: str
    project: str
    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    state: JobState = "waiting"
    created: float = 0.0
    expected: float | None = None  # seconds it takes
    place: int = 0
    expected_wait: float | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    message: str = ""
    preview: str | None = None
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")


def new_job(project: str, kind: str, settings: dict[str, Any], expected: float | None) -> JobStatus:
    """A job that waits, with an id that nobody guesses."""
    name = secrets.token_hex(12)
    return JobStatus(id=name, project=project, kind=kind, settings=settings, created=time.time(), expected=expected)


def save_job(folder: Path, job: JobStatus) -> bool:
    """Keeps a job in its project's folder, and marks that as used; False where it cannot be written."""
    try:
        if folder.is_dir():  # not one that was removed meanwhile
            write_json(job_file(folder, job.id), asdict(job))
            os.utime(folder)
    except (ValueError, OSError):  # a full disk; words that no file takes
        return False
    return True


def job_file(folder: Path, name: str, suffix: str = ".json") -> Path:
    """A file of a job."""
    return folder / _FOLDER / f"{name}{suffix}"


def load_jobs(folder: Path) -> list[JobStatus]:
    """The jobs of a project's folder, the newest last; what cannot be read is none."""
    known = {one.name for one in fields(JobStatus)}
    found = []
    for file in (folder / _FOLDER).glob("*.json"):
        with contextlib.suppress(InputError, TypeError, AttributeError):
            found.append(JobStatus(**{key: value for key, value in read_json(file).items() if key in known}))
    return sorted(found, key=lambda job: job.created)


def restarted(job: JobStatus) -> JobStatus:
    """A job that the last server left: what waited waits again, what ran can be gone on with."""
    if job.state == "running":
        return replace(job, state="cancelled", message="the server was restarted; what was finished is kept: go on")
    return job


class JobBook:
    """The jobs of all projects. Once `load`ed what is known in memory counts, which a full disk does not make wrong;
    before, and in other processes, what is on disk. Any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[str, JobStatus] = {}
        self._unsaved: set[str] = set()
        self._loaded = False
        self._lock = threading.RLock()

    def load(self, projects: Iterable[str]) -> list[JobStatus]:
        """Takes over what the last server left; the jobs that wait, the oldest first."""
        with self._lock:
            self._loaded = True
            for name in projects:
                for job in load_jobs(self._folder / name):
                    self._jobs[job.id] = restarted(job)
                    if self._jobs[job.id] != job:
                        self._unsaved.add(job.id)
            self._save()
            return sorted((job for job in self._jobs.values() if job.is_open), key=lambda job: job.created)

    def close(self) -> None:
        """What is on disk counts again."""
        with self._lock:
            self._save()
            self._loaded = False

    def keep(self, job: JobStatus) -> None:
        """A job as it is now; what cannot be saved is saved when there is room."""
        with self._lock:
            self._jobs[job.id] = job
            self._unsaved.add(job.id)
            self._save()
            finished = [one for one in self.of(job.project) if not one.is_open]
            for old in finished[:-_KEPT]:
                self.drop(old)

    def drop(self, job: JobStatus) -> None:
        """Forgets a job."""
        with self._lock:
            self._jobs.pop(job.id, None)
            self._unsaved.discard(job.id)
            with contextlib.suppress(OSError):
                for suffix in (".json", ".jpg"):
                    job_file(self._folder / job.project, job.id, suffix).unlink(missing_ok=True)

    def drop_finished(self, project: str) -> None:
        """Forgets what was done for a project."""
        for job in self.of(project):
            if not job.is_open:
                self.drop(job)

    def get(self, name: str) -> JobStatus | None:
        """A job, where it is known."""
        with self._lock:
            return self._jobs.get(name)

    def of(self, project: str) -> list[JobStatus]:
        """A project's jobs, the newest last."""
        with self._lock:
            if not self._loaded:
                return load_jobs(self._folder / project)
            self._save()
            found = [job for job in self._jobs.values() if job.project == project]
            return sorted(found, key=lambda job: job.created)

    def is_busy(self, project: str, kinds: Sequence[str] = JOB_KINDS) -> bool:
        """Whether a job (of some kinds) waits for a project or works on it."""
        return any(job.is_open and job.kind in kinds for job in self.of(project))

    @property
    def open_jobs(self) -> list[JobStatus]:
        """What waits or runs."""
        with self._lock:
            return [job for job in self._jobs.values() if job.is_open]

    def _save(self) -> None:
        for name in [*self._unsaved]:
            job = self._jobs[name]
            if save_job(self._folder / job.project, job):
                self._unsaved.discard(name)
