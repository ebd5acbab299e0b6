"""The app's queue, with real worker processes and the tiny checkpoint: progress, cancel and go on, kills, restarts."""

import multiprocessing
import os
import re
import resource
import signal
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import DOORS, clean_process
from test_sam import tiny_sam2

from videopainter import locks
from videopainter.app import jobs as app_jobs
from videopainter.app.desk import Desk
from videopainter.app.filling import FillSettings
from videopainter.app.jobs import load_jobs, new_job
from videopainter.app.masking import MaskShape
from videopainter.app.options import AppOptions
from videopainter.app.projects import Projects
from videopainter.app.queue.lane import Lane, new_flag
from videopainter.app.queue.work import Bench, needs_device
from videopainter.app.queue.worker import _Teller, is_asked
from videopainter.app.speeds import Speeds
from videopainter.data.images import write_image
from videopainter.data.synthetic.scenes import render_clip
from videopainter.data.video.reader import open_video
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError, Interrupted
from videopainter.files import WriteError
from videopainter.runs.watch import Watch

FRAMES, HEIGHT, WIDTH = 21, 48, 64
LONG_FRAMES = 20 * FRAMES
PAINTED = {"task": "inpaint", "prompt": "a wall", "steps": 2, "size": [32, 48], "window": 9, "seed": 3}
# What is to be met at work takes seconds more from there, however late a busy machine lets a test look.
SLOWLY = PAINTED | {"steps": 24}


def wait(desk, job, seconds=60.0, until=lambda status: not status.is_open):
    deadline = time.monotonic() + seconds
    while not until(status := desk.status(job)):
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status


@pytest.fixture(scope="module")
def scene():
    clip = render_clip(102, num_frames=FRAMES, height=HEIGHT, width=WIDTH)
    largest = np.bincount(clip.masks[0].ravel())[1:].argmax() + 1
    return clip.frames, clip.masks == largest


@pytest.fixture(scope="module")
def video(scene, tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "scene.mp4"
    with VideoWriter(path, fps=Fraction(8)) as writer:
        writer.write(scene[0])
    return path


@pytest.fixture(scope="module")
def long_video(scene, tmp_path_factory):
    """There and back again: nobody tracks it to its end before a test has looked."""
    path = tmp_path_factory.mktemp("video") / "long.mp4"
    with VideoWriter(path, fps=Fraction(8)) as writer:
        for k in range(LONG_FRAMES // FRAMES):
            writer.write(scene[0][:: -1 if k % 2 else 1])
    return path


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    projects = Projects(tmp_path_factory.mktemp("app"), AppOptions(device="cpu", queue_size=3, llm_model="template"))
    multiprocessing.get_context("forkserver").set_forkserver_preload(DOORS)  # torch, once
    desk = Desk(projects)
    desk.start()
    yield projects, desk
    desk.stop()


def project_with(projects, video, scene, *, tracked=True):
    """One whose object is a painted mask in every frame, which counts as tracked, or waits to be."""
    project = projects.new()
    project.set_video(video)
    project.shape(MaskShape(grow=5))
    if tracked:
        np.savez(project.folder / "given.npz", scene[1].astype(np.uint8))
        project.set_mask(project.folder / "given.npz")
    else:
        rows, columns = np.nonzero(scene[1][0])
        project.box(1, 0, columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return project


def test_tracking_is_told_stopped_and_gone_on_with(room, long_video, scene):
    projects, desk = room
    project = project_with(projects, long_video, scene, tracked=False)
    with pytest.raises(InputError, match=f"expected Object 1 to be tracked through {LONG_FRAMES} frames, got 0"):
        project.check_fill(FillSettings())
    job = desk.submit(project.id, "track")
    status = wait(desk, job, until=lambda status: status.done > 2)
    assert (status.state, status.stage, status.total) == ("running", "track", LONG_FRAMES)
    with pytest.raises(InputError, match="waits or runs already"):
        desk.submit(project.id, "track")
    with pytest.raises(InputError, match="a job of this project waits or runs"):
        project.set_range(0, 5)
    idle = projects.new()
    assert idle.id in (removed := projects.clean(-1)) and project.id not in removed
    desk.cancel(job)
    assert wait(desk, job).state == "cancelled"
    before = project.objects[0].tracked
    assert 2 < before < LONG_FRAMES
    project.set_range(0, before + 5)
    again = desk.submit(project.id, "track")
    assert wait(desk, again, until=lambda status: status.done > 0).done >= before
    assert wait(desk, again).answer["objects"]["1"]["tracked"] == before + 5
    assert project.objects[0].tracked == before + 5
    assert {state.state for state in project.timeline()} <= {"sure", "unsure", "absent"}
    assert desk.speeds.get(f"track builtin {WIDTH}x{HEIGHT}") > 0


def test_a_cancelled_fill_goes_on_to_the_file_of_one_that_was_not(room, video, scene):
    projects, desk = room
    whole, stopped = (project_with(projects, video, scene) for _ in range(2))
    first = desk.submit(whole.id, "fill", SLOWLY)
    job = desk.submit(stopped.id, "fill", SLOWLY)
    waiting = desk.status(job)
    assert (waiting.state, waiting.place) == ("waiting", 1)
    assert wait(desk, first).state == "done", desk.status(first).message
    status = wait(desk, job, until=lambda status: status.preview is not None)
    assert open_video(status.preview).read(0, 1).shape == (1, 32, 48, 3)
    desk.cancel(job)
    status = wait(desk, job)
    assert status.state == "cancelled" and not stopped.results
    kept = list(stopped.folder.rglob("window_*.safetensors"))
    assert 1 <= len(kept) <= 3
    again = desk.submit(stopped.id, "fill", status.settings)
    assert wait(desk, again).state == "done"
    (one,), (other,) = whole.results, stopped.results
    assert one.video.read_bytes() == other.video.read_bytes()
    assert (one.settings, one.id) == (other.settings, one.id) and one.settings["prompt"] == "a wall"
    hole = open_video(one.mask).read(9, 10)[0, ..., 0] > 127
    np.testing.assert_array_equal(hole, whole.hole(9))
    original, result = open_video(whole.video_file).read(9, 10)[0], open_video(one.video).read(9, 10)[0]
    assert np.abs(original.astype(int) - result)[hole].mean() > 5 > np.abs(original.astype(int) - result)[~hole].mean()
    assert open_video(one.comparison).width == 4 * WIDTH
    plan = whole.check_fill(FillSettings.from_json(SLOWLY))
    assert (plan.windows, plan.steps, plan.width) == (3, 24, 48) and plan.seconds > 0
    assert "21 frames, 3 windows of 24 guided steps at 48x32, about" in plan.summary
    cropped = FillSettings.from_json(SLOWLY | {"crop": "auto"})
    assert "at 48x32, around the hole if it is small" in whole.check_fill(cropped).summary
    assert whole.fill_run(cropped).sampling.crop == "auto"


def test_a_killed_worker_fails_its_job_and_the_next_one_goes_on(room, video, scene):
    projects, desk = room
    project = project_with(projects, video, scene)
    job = desk.submit(project.id, "fill", SLOWLY | {"seed": 4})
    wait(desk, job, until=lambda status: status.preview is not None)
    os.kill(desk.pids[0], signal.SIGKILL)
    status = wait(desk, job)
    assert status.state == "failed" and "go on" in status.message
    kept = {file: file.stat().st_mtime_ns for file in project.folder.rglob("window_*.safetensors")}
    assert kept
    again = desk.submit(project.id, "fill", status.settings)
    assert wait(desk, again, until=lambda status: status.stage == "inpaint" and status.done > 0).done > 24
    assert wait(desk, again).state == "done"


def test_a_restarted_server_queues_what_waited_and_says_what_ran(room, video, long_video, scene, tmp_path):
    projects = Projects(tmp_path, AppOptions(device="cpu", queue_size=3))
    desk = Desk(projects)
    desk.start()
    running, waiting = (project_with(projects, file, scene, tracked=False) for file in (long_video, video))
    first, second = (desk.submit(project.id, "track") for project in (running, waiting))
    wait(desk, first, until=lambda status: status.done > 0)
    (worker,) = desk.pids
    desk.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
    again = Desk(Projects(tmp_path, projects.options))
    again.start()
    try:
        (stopped,) = again.jobs(running.id)
        assert stopped.state == "cancelled" and "go on" in stopped.message and stopped.id == first
        assert wait(again, second).state == "done"
        assert waiting.objects[0].tracked == FRAMES
    finally:
        again.stop()


def test_a_full_disk_is_told_and_the_fill_goes_on_when_there_is_room(room, video, scene):
    projects, desk = room
    project = project_with(projects, video, scene)
    finished = wait(desk, desk.submit(project.id, "fill", {"task": "remove"}))  # the worker is there
    assert finished.state == "done"
    no_limit = resource.prlimit(desk.pids[0], resource.RLIMIT_FSIZE)
    resource.prlimit(desk.pids[0], resource.RLIMIT_FSIZE, (3000, no_limit[1]))
    status = wait(desk, desk.submit(project.id, "fill", PAINTED | {"seed": 5}))
    assert status.state == "failed" and "cannot write" in status.message, status.message
    assert len(project.results) == 1
    resource.prlimit(desk.pids[0], resource.RLIMIT_FSIZE, no_limit)
    assert wait(desk, desk.submit(project.id, "fill", status.settings)).state == "done"
    assert len(project.results) == 2


def serve_until_killed(root, project, told):
    desk = Desk(Projects(Path(root), AppOptions()))
    desk.start()
    job = desk.submit(project, "track")
    wait(desk, job, until=lambda status: status.done > 2)
    Path(told).write_text(f"{job} {desk.pids[0]}")
    wait(desk, job)


def test_a_killed_server_loses_nothing_and_leaves_no_process(long_video, scene, tmp_path):
    project = project_with(Projects(tmp_path / "app", AppOptions()), long_video, scene, tracked=False)
    process = clean_process(serve_until_killed, str(tmp_path / "app"), project.id, str(tmp_path / "told"))
    process.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "told").exists():
        assert time.monotonic() < deadline and process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    job, worker = (tmp_path / "told").read_text().split()
    while psutil.pid_exists(int(worker)) and psutil.Process(int(worker)).status() != "zombie":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kept = project.objects[0].tracked
    assert 2 < kept < LONG_FRAMES
    projects = Projects(tmp_path / "app", AppOptions())
    desk = Desk(projects)
    desk.start()
    try:
        status = desk.status(job)
        assert status.state == "cancelled" and "go on" in status.message
        project = projects.open(project.id)
        project.set_range(0, kept + 5)
        again = desk.submit(project.id, "track", status.settings)
        assert wait(desk, again, until=lambda status: status.done > 0).done >= kept
        assert wait(desk, again).state == "done" and project.objects[0].tracked == kept + 5
    finally:
        desk.stop()


def test_words_are_proposed_pictures_kept_and_edits_made(room, video, scene):
    projects, desk = room
    project = project_with(projects, video, scene)
    project.set_range(0, 9)
    asked = {"question": "region", "caption": "A ball.", "instruction": "change the red ball to a blue star"}
    assert wait(desk, desk.submit(project.id, "captions", asked)).answer["text"] == "a blue star"
    swap = PAINTED | {"task": "swap", "instruction": "change the ball to a star", "prompt": "A star."}
    made = wait(desk, desk.submit(project.id, "first_frames", swap))
    (name,) = made.answer["names"]
    assert re.fullmatch(r"first_3_[0-9a-f]{12}", name), "by its content: the next one of the seed does not replace it"
    assert open_video(made.answer["pictures"][0]).width == WIDTH
    job = desk.submit(project.id, "fill", swap | {"first_frame": name})
    status = wait(desk, job)
    assert status.state == "done", status.message
    (result,) = project.results
    assert result.settings["seed"] == 3 and result.settings["first_frame"] == name
    assert len(open_video(result.video)) == 9
    removed = wait(desk, desk.submit(project.id, "fill", {"task": "remove"}))
    assert removed.state == "done", removed.message
    shown = wait(desk, desk.submit(project.id, "mask_video")).answer
    assert len(open_video(shown["mask"])) == len(open_video(shown["preview"])) == 9


def test_what_does_not_fit_is_told_before_anything_waits(room, video, scene, tmp_path):
    projects, desk = room
    project, bare = project_with(projects, video, scene), projects.new()
    wrong = [
        (bare.id, "fill", {}, "expected one to be uploaded first"),
        (bare.id, "track", {}, "expected an object first|uploaded first"),
        (project.id, "dance", {}, "job: expected track"),
        (project.id, "track", {"a": 1}, "expected no settings"),
        (project.id, "fill", {"task": "explode"}, "task: expected remove"),
        (project.id, "fill", {"steps": "9"}, "steps: expected int"),
        (project.id, "fill", {"steps": 0}, "steps: expected a number from 1 to 1000"),
        (project.id, "fill", {"colour": 1}, "settings: expected task"),
        (project.id, "fill", {"task": "swap"}, "instruction: expected what to swap"),
        (project.id, "fill", {"task": "inpaint"}, "prompt: expected"),
        (project.id, "fill", {"task": "inpaint", "prompt": "x" * 10_000}, "at most 4000 characters, got 10000"),
        (project.id, "fill", PAINTED | {"size": [65, 96]}, "a multiple of 16"),
        (project.id, "fill", PAINTED | {"overlap": 3}, "overlap_frames: expected"),
        (project.id, "fill", PAINTED | {"first_frame": "../../given"}, "name of a picture"),
        (project.id, "fill", PAINTED | {"prev_clip_weight": 1.0}, "needs ID resampling"),
        (project.id, "captions", {"question": "why"}, "question: expected"),
        ("../" + project.id, "fill", {}, "project: expected an id"),
    ]
    for name, kind, settings, said in wrong:
        with pytest.raises(InputError, match=said) as error:
            desk.submit(name, kind, settings)
        assert "\n" not in str(error.value) and str(projects.root) not in str(error.value)
    assert not load_jobs(project.folder) and not list((project.folder / "results").glob("*"))
    for name in ("x" * 24, "", None, "../x"):
        with pytest.raises(InputError, match="job: expected an id"):
            desk.status(name)
    assert "off: nobody writes captions" in Projects(tmp_path, AppOptions()).new().captions_state


def test_a_full_queue_is_told_and_what_waits_is_cancelled_at_once(room, video, scene):
    projects, desk = room
    waiting = [project_with(projects, video, scene) for _ in range(4)]
    jobs = [desk.submit(project.id, "fill", PAINTED | {"seed": 9}) for project in waiting[:3]]
    with pytest.raises(InputError, match="the queue is full"):
        desk.submit(waiting[3].id, "fill", PAINTED)
    assert [desk.status(job).place for job in jobs[1:]] == [1, 2]
    assert desk.status(jobs[2]).expected_wait is None or desk.status(jobs[2]).expected_wait > 0
    for project in (waiting[0], waiting[2]):  # one runs or is about to, one waits
        with pytest.raises(InputError, match="a job of this project waits or runs"):
            projects.remove(project.id)
    for job in reversed(jobs):
        desk.cancel(job)
    assert {wait(desk, job).state for job in jobs} == {"cancelled"}
    assert not waiting[2].results and waiting[0].id not in {job.project for job in desk.jobs(waiting[1].id)}


def test_a_model_makes_the_masks_where_one_is_named(video, scene, tmp_path):
    tiny_sam2().save_pretrained(tmp_path / "sam2")
    options = AppOptions(segmenter=str(tmp_path / "sam2"), device="cpu")
    projects = Projects(tmp_path / "app", options)
    project = projects.new()
    project.set_video(video)
    assert project.paint(1, 0, scene[1][0]).any()
    assert needs_device("track", options) and not needs_device("track", AppOptions())
    assert project.session.segmenter.identity.startswith("sam2")
    bench = Bench(projects, Speeds(projects.root))
    project.set_range(0, 3)
    assert bench.do("track", project, {}, Watch())["objects"]["1"]["tracked"] == 3
    assert "expected a model that knows words" in project.words_state


@pytest.fixture
def still_desk(tmp_path):
    """Whose lanes do not work: what is in the queue waits."""
    return Desk(Projects(tmp_path / "app", AppOptions(device="cpu", queue_size=2, llm_model="template")))


def test_halves_of_characters_are_cleaned_and_no_job_waits_in_no_lane(still_desk, video, scene, monkeypatch):
    project = project_with(still_desk.projects, video, scene)
    job = still_desk.submit(project.id, "first_frames", {"prompt": "a \ud800wall", "seed": 1})
    assert still_desk.status(job).settings["prompt"] == "a ?wall"
    assert [one.state for one in load_jobs(project.folder)] == ["waiting"]
    still_desk.cancel(job)
    assert not still_desk.projects.book.open_jobs
    monkeypatch.setattr(Lane, "add", lambda self, job: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        still_desk.submit(project.id, "mask_video")
    assert not still_desk.projects.book.open_jobs


def test_two_servers_do_not_share_a_folder(tmp_path, video, scene, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    desks = [Desk(Projects(tmp_path, AppOptions())) for _ in range(2)]
    left = desks[0].projects.folder / ".video.partial-000000-1-00000000.mp4"
    left.touch()
    os.utime(left, (0, 0))
    desks[0].start()
    try:
        assert not left.exists()
        with pytest.raises(InputError, match="--work_dir: expected a folder that no other server uses"):
            desks[1].start()
    finally:
        desks[0].stop()
    desks[1].start()
    desks[1].stop()


def test_a_fault_with_one_job_does_not_end_the_lane(tmp_path, monkeypatch):
    monkeypatch.setattr(Lane, "_ready", lambda self: 1 / 0)
    ends = []

    def told(job):
        ends.append((job.id, job.state, job.message))
        raise OSError("read-only")

    lane = Lane(tmp_path, AppOptions(), told)
    lane.start()
    jobs = [new_job("a" * 24, "track", {}, None) for _ in range(2)]
    for job in jobs:
        lane.add(job)
    deadline = time.monotonic() + 10
    while len(ends) < 4 or lane.jobs():
        assert time.monotonic() < deadline, ends
        time.sleep(0.01)
    assert [(name, state) for name, state, _ in ends] == [(job.id, s) for job in jobs for s in ("running", "failed")]
    assert "should not have happened" in ends[-1][2]
    lane.stop()


def test_who_is_killed_while_it_looks_at_the_flag_holds_nobody_up():
    stop = new_flag(multiprocessing.get_context("forkserver"))
    held = [name for name in ("_cond", "get_lock", "acquire") if hasattr(stop, name)]
    assert not held, "a lock would stay with a process that was killed while it had it"
    assert not is_asked(stop)
    stop.value = True
    assert is_asked(stop)


def test_what_a_full_disk_did_not_take_is_known_and_saved_later(still_desk, video, scene, monkeypatch):
    projects = still_desk.projects
    book, project = projects.book, project_with(projects, video, scene)
    book.load(projects.ids())
    job = new_job(project.id, "mask_video", {}, None)
    book.keep(replace(job, state="running"))
    with pytest.raises(InputError, match="waits or runs"):
        project.shape(MaskShape(grow=1))

    def full(*_):
        raise WriteError("cannot write: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(app_jobs, "write_json", full)
        book.keep(replace(job, state="done"))
        assert [one.state for one in load_jobs(project.folder)] == ["running"]
        project.check_idle()
    project.check_idle()
    assert [one.state for one in load_jobs(project.folder)] == ["done"]


def test_a_project_is_kept_after_a_long_job_and_its_jobs_go_with_its_video(still_desk, video, scene, tmp_path):
    projects = still_desk.projects
    book, project = projects.book, project_with(projects, video, scene)
    book.load(projects.ids())
    job = new_job(project.id, "mask_video", {}, None)
    book.keep(replace(job, state="running"))
    os.utime(project.folder, (0, 0))
    assert projects.clean(1000) == [] and projects._open[project.id] is project
    book.keep(replace(job, state="done"))
    assert projects.clean(1000) == [] and project.folder.is_dir()
    for k in range(32):
        book.keep(replace(new_job(project.id, "mask_video", {}, None), state="failed", created=k))
    assert len(book.of(project.id)) == len(load_jobs(project.folder)) == 30
    assert book.get(job.id) is not None, "the newest is kept"
    project.set_video(write_image(tmp_path / "one.png", scene[0][0]) or tmp_path / "one.png")
    assert book.of(project.id) == [] and book.get(job.id) is None
    book.keep(replace(job, state="done"))
    assert projects.clean(-1) == [project.id] and book.get(job.id) is None
    assert not list(projects.folder.iterdir())


def test_masks_are_written_with_progress_until_told_to_stop(still_desk, video, scene):
    projects = still_desk.projects
    project = project_with(projects, video, scene)
    told = []

    def stop():
        return len(told) > 1

    bench = Bench(projects, Speeds(projects.root))
    fill = FillSettings.from_json({"task": "remove"}).seeded().to_json()
    with pytest.raises(Interrupted):
        bench.do("fill", project, fill, Watch(on_progress=lambda *one: told.append(one), interrupted=stop))
    assert told == [("masks", 0, FRAMES), ("masks", 8, FRAMES)]
    assert not list(project.folder.rglob("mask.mp4")) and not project.results


def test_a_fault_is_told_without_this_machines_folders(still_desk, tmp_path):
    project = still_desk.projects.new()
    bench = Bench(still_desk.projects, Speeds(tmp_path))
    teller = _Teller(None, new_flag(multiprocessing), bench, "job", project.id)
    said = teller.told(KeyError(f"{project.folder}/a.png, /opt/some/where/b.py at http://host:8000/v1/chat \udc80"))
    assert said == "'a.png, b.py at http://host:8000/v1/chat \\udc80'"
