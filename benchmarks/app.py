"""What the app asks of a machine, without its page: a click's answer, tracking, a worker's memory, many sessions.

    python benchmarks/app.py                         # a drawn clip of 81 frames at 480x854
    python benchmarks/app.py --video clip.mp4 --place 420,300 --part click track

Seconds are of the wall and of the processor: on a machine with other work only the latter say anything.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import psutil

from videopainter.app.desk import Desk
from videopainter.app.jobs import JobStatus
from videopainter.app.options import AppOptions
from videopainter.app.project import Project
from videopainter.app.projects import Projects
from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.video.writer import VideoWriter

PARTS = ("click", "track", "memory", "sessions")
FRAMES, HEIGHT, WIDTH = 81, 480, 854
FILLS = 10
SHORT = 9  # frames of each session's clip
SMALL = {"task": "inpaint", "prompt": "a wall", "steps": 2, "window": 9, "size": [32, 48]}


def draw(file: Path, frames: int, height: int, width: int, seed: int = 102) -> tuple[float, float]:
    """Writes a drawn clip; a place inside its largest object in frame 0."""
    clip = render_clip(seed, num_frames=frames, height=height, width=width)
    largest = clip.masks[0] == np.bincount(clip.masks[0].ravel())[1:].argmax() + 1
    with VideoWriter(file, fps=Fraction(24)) as writer:
        writer.write(clip.frames)
    rows, columns = np.nonzero(largest)
    middle = len(rows) // 2
    return float(columns[middle]), float(rows[middle])


@contextmanager
def timed(what: str) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(f"  {what}: {wall:.2f} s ({processor:.2f} s of the processor)", flush=True)


def finished(desk: Desk, job: str) -> JobStatus:
    while (status := desk.status(job)).is_open:
        time.sleep(0.02)
    assert status.state == "done", status.message
    return status


def clicks(projects: Projects, video: Path, place: tuple[float, float]) -> Project:
    project = projects.new()
    with timed("upload"):
        project.set_video(video)
    with timed("first click answered"):
        project.point(1, 0, *place)
    with timed("its picture"):
        project.preview(0, 640)
    with timed("another frame to scrub to"):
        project.preview(len(project.frames) // 2, 640)
    with timed("and again"):
        project.preview(len(project.frames) // 2, 640)
    x, y = place
    with timed("a box instead"):
        project.box(2, 0, max(0, x - 60), max(0, y - 60), min(x + 60, project.frames.width), y + 60)
    project.forget(2)
    return project


def tracks(desk: Desk, project: Project) -> None:
    worker = time.perf_counter()
    finished(desk, desk.submit(project.id, "track"))
    count = len(project.range)
    busy = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in desk.pids)
    seconds = time.perf_counter() - worker
    print(f"  {count} frames tracked: {seconds:.1f} s, the worker's start included ({busy:.1f} s of its processor)")


def memory(desk: Desk, project: Project) -> None:
    project.set_range(0, 17)
    rows, columns = project.frames.height, project.frames.width
    mask = np.zeros((rows, columns), np.uint8)
    mask[rows // 3 : rows // 2, columns // 3 : columns // 2] = 1
    np.save(project.folder / "given.npy", np.repeat(mask[None], len(project.frames), axis=0))
    project.set_mask(project.folder / "given.npy")
    held = []
    for seed in range(FILLS):
        finished(desk, desk.submit(project.id, "fill", SMALL | {"seed": seed}))
        held.append(psutil.Process(desk.pids[0]).memory_info().rss / 2**20)
    print("  MiB held by the device's worker after each fill:", " ".join(f"{value:.0f}" for value in held))


def sessions(projects: Projects, desk: Desk, folder: Path, count: int) -> None:
    """All upload a clip of their own, click and track at once, then scrub and click again while the others' clips are
    tracked; the server's own process answers."""
    files = [folder / f"small_{k}.mp4" for k in range(count)]
    places = [draw(file, SHORT, 240, 432, seed=300 + k) for k, file in enumerate(files)]
    seconds: dict[str, list[float]] = {"first click": [], "frame to scrub to": [], "click while others track": []}
    made: list[Project] = []

    @contextmanager
    def answered(what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[what].append(time.perf_counter() - began)

    def one(k: int) -> None:
        project, place = projects.new(), places[k]
        project.set_video(files[k])
        with answered("first click"):
            project.point(1, 0, *place)
        made.append(project)
        job = desk.submit(project.id, "track")
        frame = 1
        while desk.status(job).is_open:
            with answered("frame to scrub to"):
                project.preview(frame % SHORT, 640)
            frame += 1
            time.sleep(0.5)
        with answered("click while others track"):
            project.point(2, 1, *place)
        finished(desk, desk.submit(project.id, "track"))

    threads = [threading.Thread(target=one, args=(k,)) for k in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == count and all(project.objects[0].tracked == SHORT for project in made)
    assert len({project.folder for project in made}) == count
    print(f"  {count} sessions at once: all tracked twice after {time.perf_counter() - began:.0f} s", flush=True)
    for what, values in seconds.items():
        middle, late = np.median(values), np.percentile(values, 95)
        print(f"  {what}: {middle:.2f} s in the middle, {late:.2f} s at 95 % (of {len(values)})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="a clip of one's own, with --place")
    parser.add_argument("--place", help="X,Y of an object in its frame 0")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sessions", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, place = options.video or folder / "clip.mp4", (0.0, 0.0)
        if options.video is None:
            place = draw(video, FRAMES, HEIGHT, WIDTH)
        elif options.place is not None:
            x, y = options.place.split(",")
            place = float(x), float(y)
        projects = Projects(folder / "app", AppOptions(queue_size=1000, device="cpu"))
        desk = Desk(projects)
        desk.start()
        try:
            run(options, projects, desk, folder, video, place)
        finally:
            desk.stop()


def run(
    options: argparse.Namespace, projects: Projects, desk: Desk, folder: Path, video: Path, place: tuple[float, float]
) -> None:
    if [*options.part] == ["sessions"]:
        sessions(projects, desk, folder, options.sessions)
        return
    project = clicks(projects, video, place)
    frames = project.frames
    size, machine = f"{len(frames)} frames of {frames.width}x{frames.height}", f"{os.cpu_count()} processors"
    print(f"({size}; {machine}, load {os.getloadavg()[0]:.1f})")
    if "track" in options.part:
        tracks(desk, project)
    if "memory" in options.part:
        memory(desk, project)
    if "sessions" in options.part:
        sessions(projects, desk, folder, options.sessions)


if __name__ == "__main__":
    main()
