"""Long work as it is told to people and kept on disk: a file per job in its project's folder."""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from videopainter.errors import InputError
from videopainter.files import WriteError, read_json, write_json

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


def save_job(folder: Path, job: JobStatus) -> None:
    """Keeps a job in its project's folder; on a full disk it is known until the server ends."""
    with contextlib.suppress(WriteError):
        if folder.is_dir():  # not one that was removed meanwhile
            write_json(job_file(folder, job.id), asdict(job))


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


def prune_jobs(folder: Path) -> None:
    """Forgets all but the newest finished jobs of a project."""
    finished = [job for job in load_jobs(folder) if not job.is_open]
    for job in finished[:-_KEPT]:
        for suffix in (".json", ".jpg"):
            job_file(folder, job.id, suffix).unlink(missing_ok=True)


def restarted(job: JobStatus) -> JobStatus:
    """A job that the last server left: what waited waits again, what ran can be gone on with."""
    if job.state == "running":
        return replace(job, state="cancelled", message="the server was restarted; what was finished is kept: go on")
    return job
