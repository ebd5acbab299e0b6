"""The queue of all long work: one job on the device at a time, places and waits, also after a restart."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

from videopainter.app.jobs import (
    JOB_KINDS,
    JobStatus,
    load_jobs,
    new_job,
    prune_jobs,
    restarted,
    save_job,
)
from videopainter.app.project import Project
from videopainter.app.projects import Projects
from videopainter.app.queue.lane import Lane
from videopainter.app.queue.work import expected_seconds, needs_device, resolved
from videopainter.app.speeds import Speeds
from videopainter.errors import InputError

_MOST_SETTINGS = 100  # names in a job's settings


class Desk:
    """Takes jobs, has them done by two worker processes (the device's, and one for what a CPU does beside it), and
    answers how they are. Any thread."""

    def __init__(self, projects: Projects) -> None:
        self.projects, self.options = projects, projects.options
        self.speeds = Speeds(projects.root)
        self._jobs: dict[str, JobStatus] = {}
        self._lock = threading.RLock()
        self._lanes = {device: Lane(projects.root, self.options, self._changed) for device in (True, False)}

    def start(self) -> None:
        """Begins to work, with what the last server left."""
        for name in self.projects.ids():
            for job in load_jobs(self._folder(name)):
                again = restarted(job)
                self._jobs[job.id] = again
                if again != job:
                    save_job(self._folder(name), again)
        for job in sorted(self._jobs.values(), key=lambda job: job.created):
            if job.is_open:
                self._lane(job.kind).add(job)
        for lane in self._lanes.values():
            lane.start()

    def stop(self) -> None:
        """Ends the workers; what ran or waited can be gone on with."""
        for lane in self._lanes.values():
            lane.stop()

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
        self._lane(kind).add(job)
        return job.id

    def _check_room(self, project: Project) -> None:
        with self._lock:
            open_jobs = [job for job in self._jobs.values() if job.is_open]
        if any(job.project == project.id for job in open_jobs):
            raise InputError("a job of this project waits or runs already: wait until it has ended, or cancel it")
        if len(open_jobs) >= self.options.queue_size:
            raise InputError(f"the queue is full ({len(open_jobs)} jobs): try again in a while")

    def status(self, job_id: str) -> JobStatus:
        """How a job is now. InputError for an id that is none."""
        with self._lock:
            job = self._jobs.get(job_id) if isinstance(job_id, str) else None
        if job is None:
            raise InputError("job: expected an id that this app gave, got another text")
        if not job.is_open:
            return job
        now = next((one for one in self._lane(job.kind).jobs() if one.id == job_id), None)
        if now is None:  # it ended just now, or is about to begin
            with self._lock:
                return self._jobs[job_id]
        return now

    def cancel(self, job_id: str) -> None:
        """Stops a job; what it finished is kept."""
        job = self.status(job_id)
        if job.is_open:
            self._lane(job.kind).cancel(job_id)

    def jobs(self, project_id: str) -> list[JobStatus]:
        """A project's jobs, the newest last."""
        project = self.projects.open(project_id)
        with self._lock:
            known = [job.id for job in self._jobs.values() if job.project == project.id]
        return sorted((self.status(name) for name in known), key=lambda job: job.created)

    @property
    def pids(self) -> list[int]:
        """The worker processes there are, that of the device first."""
        found = [lane.pid for lane in self._lanes.values()]
        return [pid for pid in found if pid is not None]

    def _lane(self, kind: str) -> Lane:
        return self._lanes[needs_device(kind, self.options)]

    def _folder(self, project_id: str) -> Path:
        return self.projects.folder / project_id

    def _changed(self, job: JobStatus) -> None:
        """Keeps a job as it is now. Progress alone is not written down: the lanes know it."""
        job = dataclasses.replace(job, place=0, expected_wait=None)
        with self._lock:
            self._jobs[job.id] = job
            save_job(self._folder(job.project), job)
            if not job.is_open:
                prune_jobs(self._folder(job.project))
