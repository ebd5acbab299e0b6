"""The whole set in several processes: a record per batch of videos, so that a killed run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from multiprocessing import get_context
from pathlib import Path

from videopainter.data.workers import begin_worker
from videopainter.errors import InputError
from videopainter.files import fingerprint, make_folder, read_json, write_json
from videopainter.preparation.check.problems import Finding
from videopainter.preparation.check.rows import VideoRows
from videopainter.preparation.check.videos import check_video_rows
from videopainter.preparation.progress import WorkProgress

_BATCH = 200
_PARTS, _KEY = "parts", "key.json"


class CheckRecords:
    """What batches found, on disk, for as long as the run that they belong to is not through."""

    def __init__(self, output: Path, key: object) -> None:
        self.folder = output / _PARTS
        mark = fingerprint(key)
        make_folder(output)
        if (self.folder / _KEY).exists() and read_json(self.folder / _KEY, "the key of a check") != mark:
            shutil.rmtree(self.folder)  # of other CSVs or options
        make_folder(self.folder)
        write_json(self.folder / _KEY, mark)

    def read(self, batch: int) -> list[Finding] | None:
        """What a batch found; None where it was not checked."""
        file = self.file(batch)
        return [Finding(*values) for values in read_json(file, "a record of a check")] if file.exists() else None

    def file(self, batch: int) -> Path:
        """Where a batch's record is."""
        return self.folder / f"{batch:06d}.json"

    def remove(self) -> None:
        """The run is through."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_videos(
    videos: Sequence[VideoRows],
    data: Path,
    decode: str,
    num_frames: int,
    *,
    processes: int,
    records: CheckRecords,
    progress: WorkProgress,
) -> list[Finding]:
    """Check all videos; `progress` counts them.

    Raises:
        InputError: a process was ended from outside.
    """
    batches = [videos[k : k + _BATCH] for k in range(0, len(videos), _BATCH)]
    todo = []
    for number, batch in enumerate(batches):
        if records.file(number).exists():
            progress.add("checked before", len(batch), skipped=True)
        else:
            todo.append(number)
    for number in _checked(todo, batches, data, decode, num_frames, min(processes, len(todo)), records):
        progress.add(number=len(batches[number]))
    found = [records.read(number) for number in range(len(batches))]
    return [finding for batch in found if batch is not None for finding in batch]


def _checked(
    todo: Sequence[int],
    batches: Sequence[Sequence[VideoRows]],
    data: Path,
    decode: str,
    num_frames: int,
    processes: int,
    records: CheckRecords,
) -> Iterator[int]:
    """Numbers of batches, as they are through."""
    if processes <= 1:
        for number in todo:
            _check_batch(batches[number], data, decode, num_frames, records.file(number))
            yield number
        return
    # Fresh processes: a forked one can inherit a lock that is held.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=begin_worker)
    try:
        work = {pool.submit(_check_batch, batches[k], data, decode, num_frames, records.file(k)): k for k in todo}
        for done in as_completed(work):
            done.result()
            yield work[done]
    except BrokenProcessPool:
        raise InputError("a process that checks was ended from outside; for lack of memory? use fewer") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _check_batch(videos: Sequence[VideoRows], data: Path, decode: str, num_frames: int, record: Path) -> None:
    found = [finding for video in videos for finding in check_video_rows(video, data, decode, num_frames)]
    write_json(record, [astuple(finding) for finding in found])
