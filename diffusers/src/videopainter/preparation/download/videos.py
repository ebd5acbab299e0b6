"""Many videos from many links, side by side."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from videopainter.data.video.containers import check_whole
from videopainter.data.video.reader import VideoFrames
from videopainter.errors import InputError
from videopainter.files import make_folder
from videopainter.flags import flag
from videopainter.locks import held
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.download.fetching import DEAD, DONE, Fetched, Fetcher, FetchOptions
from videopainter.preparation.download.limits import DiskLimit, RateLimit, Stop, Stopped
from videopainter.preparation.download.links import VideoLink
from videopainter.preparation.download.rest import RestList
from videopainter.preparation.progress import WorkProgress
from videopainter.preparation.units import parse_bytes

THERE = "there"
_MP4_BEGINNINGS = (b"ftyp", b"moov")


@dataclass(kw_only=True)
class DownloadLimits:
    """How much at once, and how much at all."""

    _argument_group_name: ClassVar[str] = "how much at once, and at all"

    workers: int = flag(8, "How many files come at once.", least=1, most=256)
    max_rate: str = flag("", "At most so much a second over all linked videos, such as 20MB; empty: as much as comes.")
    max_disk: str = flag(
        "", "The run ends when it has brought so much of them, such as 500GB; empty: when all are there."
    )

    def check(self) -> None:
        """InputError for what is impossible."""
        for name in ("max_rate", "max_disk"):
            text = getattr(self, name)
            if text and not parse_bytes(text, f"--{name}"):
                raise InputError(f"--{name}: expected more than nothing, got {text}")


@dataclass
class Downloaded:
    """How many links came to what (`DONE`, `THERE`, `DEAD`, ...), bytes that came, why it ended early, if it did."""

    counts: Counter[str]
    size: int
    ended: str
    left: int


def check_video(file: Path) -> None:
    """InputError where a file is no video, was cut off, or its first or last frame does not decode."""
    frames = VideoFrames(file, threads=1)
    count = len(frames)
    frames.close()
    if count < 2:
        raise InputError(f"video: expected more than one frame, got one, in {file}")


def download_videos(
    links: Sequence[VideoLink],
    data: Path,
    rest_file: Path,
    limits: DownloadLimits,
    options: FetchOptions,
    disk: DiskOptions,
    *,
    retry_dead: bool = False,
    whole_table: bool = False,
) -> Downloaded:
    """Fetch what is not there; `rest_file` lists what could not be had, and is read to leave known dead links alone.

    whole_table: `links` are all that there are, so that `rest_file` need not keep what it says of other rows.

    Raises:
        InputError: impossible options, a folder that cannot be written, or another process downloads into it.
        KeyboardInterrupt: after all threads have ended; what came is kept.
    """
    limits.check()
    options.check()
    disk.check()
    make_folder(data, "the data folder")
    with held(rest_file), WorkProgress("download", len(links), "video") as progress:
        work = _Downloads(links, data, rest_file, limits, options, disk, progress, retry_dead)
        if whole_table:
            work.rest.keep(links)
        work.run()
        left = len(links) - progress.done
        return Downloaded(progress.counts, progress.size, work.stop.reason, left)


class _Downloads:
    """Threads that take links from one list."""

    def __init__(
        self,
        links: Sequence[VideoLink],
        data: Path,
        rest_file: Path,
        limits: DownloadLimits,
        options: FetchOptions,
        disk: DiskOptions,
        progress: WorkProgress,
        retry_dead: bool,
    ) -> None:
        self.data, self.progress, self.retry_dead, self.workers = data, progress, retry_dead, limits.workers
        self.stop = Stop()
        rate = parse_bytes(limits.max_rate, "--max_rate") if limits.max_rate else None
        budget = parse_bytes(limits.max_disk, "--max_disk") if limits.max_disk else None
        self.fetcher = Fetcher(
            options,
            stop=self.stop,
            rate=RateLimit(rate, self.stop),
            disk=DiskLimit(data, parse_bytes(disk.keep_free, "--keep_free"), budget, self.stop),
            connections=limits.workers,
            told=progress.add_size,
        )
        self.rest = RestList(rest_file)
        self._links = iter(links)
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Until all links are through, somebody asks to stop, or a file cannot be written."""
        with self.fetcher:
            threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.workers)]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    while thread.is_alive():
                        thread.join(0.5)  # without a limit Ctrl-C would wait for it
            except BaseException:
                self.stop.set("interrupted")
                for thread in threads:
                    thread.join()
                raise
            finally:
                self.rest.write()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while not self.stop.is_set():
            with self._lock:
                link = next(self._links, None)
            if link is None:
                return
            try:
                self._one(link)
            except Stopped:
                return
            except BaseException as error:  # a full disk, or a mistake of ours: all threads end, and it is told
                self._error = self._error or error
                self.stop.set(str(error))
                return

    def _one(self, link: VideoLink) -> None:
        if link.fault:
            self._note(link, Fetched(DEAD, link.fault))
            return
        target = self.data / link.path
        if _is_there(target):
            self.rest.remove(link)
            self.progress.add(THERE, skipped=True)
            return
        if self.rest.is_dead(link) and not self.retry_dead:
            self.progress.add(DEAD, skipped=True)
            return
        self._note(link, self.fetcher.fetch(link.url, target, check_video))

    def _note(self, link: VideoLink, result: Fetched) -> None:
        if result.status == DONE:
            self.rest.remove(link)
        else:
            self.rest.add(link, result)
        self.progress.add(result.status)


def _is_there(file: Path) -> bool:
    """Whether a whole video is there: the release's own downloads may be halves, or pages that say "not found".

    An mp4 tells by its outermost structure; anything else is decoded.
    """
    try:
        check_whole(file)
        with file.open("rb") as stream:
            if stream.read(8)[4:] not in _MP4_BEGINNINGS:
                check_video(file)
    except (InputError, OSError):
        return False
    return True
