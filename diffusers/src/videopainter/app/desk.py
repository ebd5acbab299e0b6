"""The queue of all long work: one job on the device at a time, places and waits, also after a restart."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from typing import Any

from videopainter.app.jobs import JOB_KINDS, JobStatus, new_job
from videopainter.app.project import Project
from videopainter.app.projects import Projects
from videopainter.app.queue.lane import Lane
from videopainter.app.queue.work import expected_seconds, needs_device, resolved
from videopainter.app.speeds import Speeds
from videopainter.errors import InputError
from videopainter.locks import held, sweep

_MOST_SETTINGS = 100  # names in a job's settings


class Desk:
    """Takes jobs, has them done by two worker processes (the device's, and one for what a CPU does beside it), and
    answers how they are. Any thread."""

    def __init__(self, projects: Projects) -> None:
        self.projects, self.options = projects, projects.options
        self.speeds = Speeds(projects.root)
        self._book = projects.book
        self._lock = threading.Lock()
        self._held = contextlib.ExitStack()
        self._lanes = {device: Lane(projects.root, self.options, self._changed) for device in (True, False)}

    def start(self) -> None:
        """Begins to work, with what the last server left. InputError where another server has the folder: each would
        take the other's jobs for left ones."""
        root = self.projects.root
        try:
            self._held.enter_context(held(root, folder=True))
        except InputError as error:
            raise InputError(f"--work_dir: expected a folder that no other server uses, got {error}") from None
        sweep(self.projects.folder, deep=True)
        for job in self._book.load(self.projects.ids()):
            self._lane(job.kind).add(job)
        for lane in self._lanes.values():
            lane.start()

    def stop(self) -> None:
        """Ends the workers; what ran or waited can be gone on with."""
        for lane in self._lanes.values():
            lane.stop()
        self._book.close()
        self._held.close()

    def submit(self, project_id: str, kind: str, settings: dict[str, Any] | None = None) -> str:
        """Puts a job in the queue; its id. What was asked for before, and stopped, goes on.

        InputError for settings that do not fit, a full queue, or where the project has a job already.
        """
        project = self.projects.open(project_id)
        if kind not in JOB_KINDS:
            raise InputError(f"job: expected {', '.join(JOB_KINDS)}, got {kind!r}")
        if settings is not None and not (isinstance(settings, dict) and len(settings) <= _MOST_SETTINGS):
            raise InputError(f"settings: expected an object of at most {_MOST_SETTINGS} names")
        self._check_room(project)
        asked = resolved(kind, project, settings or {})
        job = new_job(project.id, kind, asked, expected_seconds(kind, project, asked, self.speeds))
        with self._lock:
            self._check_room(project)
            self._changed(job)
        try:
            self._lane(kind).add(job)
        except BaseException:
            self._book.drop(job)  # what no lane has would wait for good
            raise
        return job.id

    def _check_room(self, project: Project) -> None:
        open_jobs = self._book.open_jobs
        if any(job.project == project.id for job in open_jobs):
            raise InputError("a job of this project waits or runs already: wait until it has ended, or cancel it")
        if len(open_jobs) >= self.options.queue_size:
            raise InputError(f"the queue is full ({len(open_jobs)} jobs): try again in a while")

    def status(self, job_id: str) -> JobStatus:
        """How a job is now. InputError for an id that is none."""
        job = self._book.get(job_id) if isinstance(job_id, str) else None
        if job is None:
            raise InputError("job: expected an id that this app gave, got another text")
        if not job.is_open:
            return job
        now = next((one for one in self._lane(job.kind).jobs() if one.id == job_id), None)
        if now is None:  # it ended just now, or is about to begin
            return self._book.get(job_id) or job
        return now

    def cancel(self, job_id: str) -> None:
        """Stops a job; what it finished is kept."""
        job = self.status(job_id)
        if job.is_open:
            self._lane(job.kind).cancel(job_id)

    def jobs(self, project_id: str) -> list[JobStatus]:
        """A project's jobs, the newest last."""
        project = self.projects.open(project_id)
        return [self.status(job.id) for job in self._book.of(project.id)]

    @property
    def pids(self) -> list[int]:
        """The worker processes there are, that of the device first."""
        found = [lane.pid for lane in self._lanes.values()]
        return [pid for pid in found if pid is not None]

    def _lane(self, kind: str) -> Lane:
        return self._lanes[needs_device(kind, self.options)]

    def _changed(self, job: JobStatus) -> None:
        """Keeps a job as it is now. Progress alone is not written down: the lanes know it."""
        self._book.keep(dataclasses.replace(job, place=0, expected_wait=None))
