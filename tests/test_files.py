"""Files under temporary names, strict JSON, disks that are full, locks, and what killed processes leave."""

import errno
import faulthandler
import json
import math
import multiprocessing
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from videopainter import files, locks
from videopainter.data.images import write_image
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.files import WriteError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def fill(partial: Path, error: type[BaseException]) -> None:
    partial.write_text("half")
    raise error


# ---- whole or not at all


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new/folder/x.txt"
    with files.replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
        assert partial.parent == path.parent
        assert partial.suffix == ".txt"
    assert path.read_text() == "whole"
    assert names(path.parent) == ["x.txt"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, InputError])
def test_or_not_at_all(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as partial:
        fill(partial, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_permissions_are_those_of_any_new_file(tmp_path):
    """safetensors' own are for the owner alone."""
    with files.replacing(tmp_path / "x.safetensors") as partial:
        save_file({"x": torch.zeros(1)}, partial)
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x.safetensors", "plain")}
    assert len(modes) == 1


def test_a_folder_takes_the_place_of_another(tmp_path):
    path = tmp_path / "frames"
    for content in ("one", "two"):
        with files.replacing_folder(path) as partial:
            (partial / f"{content}.txt").write_text(content)
    assert names(tmp_path) == ["frames", "two.txt"]
    with pytest.raises(ZeroDivisionError), files.replacing_folder(path) as partial:
        fill(partial / "three.txt", ZeroDivisionError)
    assert names(tmp_path) == ["frames", "two.txt"]


@pytest.mark.parametrize(
    "name", ["x.mp4", "two.dots.npz", "no_suffix", ".hidden", "checkpoint-500", "a b.png", "v1. 2"]
)
def test_temporary_names_are_known_hidden_and_of_the_suffix(tmp_path, name):
    path = tmp_path / name
    found = {files.temporary(path), files.temporary(path), files.temporary(path, shared=True)}
    assert len(found) == 3
    for partial in found:
        assert files.TEMPORARY_NAME.fullmatch(partial.name), partial
        assert partial.name.startswith(".")
        assert partial.suffix == path.suffix or not re.fullmatch(r"\.\w+", path.suffix)


@pytest.mark.parametrize("name", ["result.mp4.partial", ".partially", "x.partial-1.mp4", ".bashrc", ".yarn.lock"])
def test_other_names_are_not_ours(name):
    assert not files.TEMPORARY_NAME.fullmatch(name)


# ---- what cannot be written


def test_no_folder_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    for write in (files.write_text, files.write_json, lambda path, _: write_image(path, np.zeros((4, 4, 3), np.uint8))):
        with pytest.raises(WriteError, match=r"^cannot write .*file/x.png: File exists$"):
            write(tmp_path / "file/x.png", "text")


def test_what_is_missing_beside_the_output_is_another_matter(tmp_path):
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "out.txt"):
        (tmp_path / "input.txt").read_text()


def full(path: Path) -> None:
    """What each library says when no more can be written."""
    faulthandler.dump_traceback_later(50)  # where it waits, should it ever
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    noise = np.random.default_rng(0).integers(0, 256, (6, 256, 256, 3), dtype=np.uint8)
    tensor = torch.from_numpy(noise.astype(np.float32))
    failures = []

    def attempt(name, write):
        try:
            write(path / name)
        except WriteError as error:
            failures.append(str(error))

    def saved(write):
        def attempted(file):
            with files.replacing(file) as partial:
                write(partial)

        return attempted

    def video(file):
        with VideoWriter(file, fps=8, crf=0) as writer:
            writer.write(noise)

    attempt("a.txt", lambda file: files.write_text(file, "x" * 30_000))
    attempt("b.json", lambda file: files.write_json(file, [0] * 30_000))
    attempt("c.png", lambda file: write_image(file, noise[0]))
    attempt("d.npz", saved(lambda file: np.savez(file, noise)))
    attempt("e.safetensors", saved(lambda file: save_file({"x": tensor}, file)))
    attempt("f.pt", saved(lambda file: torch.save(tensor, file)))
    attempt("g.mp4", video)
    attempt("h.mkv", video)
    Path(path / "said.json").write_text(json.dumps(failures))


def test_a_full_disk_is_one_line_whoever_writes(tmp_path):
    """Every library's own error; a limit of the file size stands for the disk."""
    # Not forked: other tests' threads leave their locks behind in a forked process, which then waits forever.
    process = multiprocessing.get_context("forkserver").Process(target=full, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    said = json.loads((tmp_path / "said.json").read_text())
    assert [line.split(":")[0] for line in said] == [
        f"cannot write {tmp_path / name}"
        for name in ("a.txt", "b.json", "c.png", "d.npz", "e.safetensors", "f.pt", "g.mp4", "h.mkv")
    ]
    assert all("too large" in line or "is the disk full?" in line for line in said)
    assert names(tmp_path) == ["said.json"]


def test_a_disk_without_room(tmp_path):
    with (
        pytest.raises(WriteError, match=f"{tmp_path / 'x'}: {os.strerror(errno.ENOSPC)}"),
        files.replacing(tmp_path / "x"),
    ):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")


# ---- JSON and digests


def test_json_is_strict(tmp_path):
    content = {
        "nan": math.nan,
        "inf": [-math.inf, np.float32(np.inf)],
        "array": np.arange(3),
        "path": Path("x"),
        3: True,
    }
    files.write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=lambda constant: pytest.fail(constant)) == files.read_json(
        tmp_path / "x.json"
    )
    assert files.read_json(tmp_path / "x.json") == {
        "nan": None,
        "inf": ["-inf", "inf"],
        "array": [0, 1, 2],
        "path": "x",
        "3": True,
    }


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"x": Infinity}', "[" * 100_000, "\xff"])
def test_other_content_is_one_line(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"^a record: expected JSON, got .*x.json$"):
        files.read_json(tmp_path / "x.json", "a record")
    with pytest.raises(InputError, match="got none, in"):
        files.read_json(tmp_path / "y.json")


def test_older_files_may_hold_infinity(tmp_path):
    (tmp_path / "x.json").write_text("[NaN, Infinity]")
    assert files.read_json(tmp_path / "x.json", lenient=True)[1] == math.inf


def test_digests(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_file(tmp_path / "x") == files.sha256_text("abc") == known
    assert files.fingerprint({"a": 1, "b": [2]}) == files.fingerprint({"b": [2], "a": 1})
    # Results on users' disks carry it.
    assert files.fingerprint({"a": "ü", "b": Path("x")}) == files.sha256_text('{"a": "\\u00fc", "b": "x"}')


# ---- locks and leftovers

HOLD = """
import sys, time
from videopainter import files, locks
folder = sys.argv[1]
with locks.held(folder, folder=True), files.replacing(folder + "/x.txt") as partial:
    partial.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes in `tmp_path` and holds it."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_process_ends_in_one_line(holder, tmp_path):
    second = locks.held(tmp_path, folder=True, patience=0.1)
    with pytest.raises(InputError, match=f"another process .process {holder.pid} on ") as raised, second:
        pytest.fail("both hold it")
    assert "\n" not in str(raised.value)
    assert locks.sweep(tmp_path) == []
    assert len(names(tmp_path)) == 2


def test_or_waits_for_one_that_is_about_to_end(holder, tmp_path):
    os.kill(holder.pid, signal.SIGSTOP)
    pid = os.fork()
    if pid == 0:
        time.sleep(0.3)
        os.kill(holder.pid, signal.SIGKILL)
        os._exit(0)
    with locks.held(tmp_path, folder=True):
        pass
    os.waitpid(pid, 0)


def test_what_a_killed_process_left_goes(holder, tmp_path):
    (tmp_path / "deep").mkdir()
    other = [".y.partial-000000-1-aaaaaa0.png", "mine.txt", "result.mp4.partial"]  # another machine's, and users' own
    for name in other:
        (tmp_path / name).touch()
    shared = files.temporary(tmp_path / "checkpoint-3", shared=True)
    shared.mkdir()
    holder.kill()
    holder.wait()
    (left,) = tmp_path.glob(".x.partial-*.txt")
    os.link(left, tmp_path / "deep" / left.name)
    assert set(locks.sweep(tmp_path)) == {left, tmp_path / locks.LOCK}
    assert names(tmp_path) == sorted([*other, shared.name, "deep", left.name])
    locks.sweep(tmp_path, deep=True, shared=True)
    assert names(tmp_path) == sorted([*other, "deep"])
    os.utime(tmp_path / other[0], (0, 0))
    locks.sweep(tmp_path)
    assert names(tmp_path) == sorted([*other[1:], "deep"])


def test_of_a_process_with_our_own_number(tmp_path):
    """As a container that is started again has."""
    ours = files.temporary(tmp_path / "x.txt")
    old = ours.with_name(ours.name.replace(files.TOKEN, "abcdef"))
    ours.touch()
    old.touch()
    assert locks.sweep(tmp_path) == [old]


def test_a_forked_process_holds_nothing(tmp_path):
    """Workers of a loader outlive a killed parent by a moment."""
    with locks.held(tmp_path / "x.mp4"):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.read(read, 1)
            os._exit(0)
    with locks.held(tmp_path / "x.mp4", patience=0):
        assert names(tmp_path) == [f".x.mp4{locks.LOCK}"]
    os.write(write, b"x")
    os.waitpid(pid, 0)
    assert names(tmp_path) == []
    assert files.is_empty(tmp_path)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^cannot write to the cache .*file/x: Not a directory$"):
        files.make_folder(tmp_path / "file/x", "the cache")
