"""Downloads from a server that misbehaves: the right files, and a list of the rest."""

import csv
import os
import signal
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from video_server import video_server

from videopainter.cli.preparation.download_videos import download_listed
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.preparation.download import fetching
from videopainter.preparation.download.answers import retry_after
from videopainter.preparation.download.fetching import DEAD, DONE, FAILED, OTHER, Fetcher, FetchOptions
from videopainter.preparation.download.limits import DiskLimit, RateLimit, Stop, Stopped
from videopainter.preparation.download.part import Part, PartOrigin
from videopainter.preparation.download.videos import check_video

DOOR = Path(__file__).parents[1] / "data_utils" / "VPData_download.py"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """Two seconds of noise, some 100 kB."""
    file = tmp_path_factory.mktemp("video") / "v.mp4"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 96, 3), dtype=np.uint8)
    with VideoWriter(file, fps=8) as writer:
        writer.write(pixels)
    return file.read_bytes()


@pytest.fixture
def server(video):
    with video_server({"v.mp4": video}) as running:
        yield running


@pytest.fixture
def quick(monkeypatch):
    """Pauses of milliseconds."""
    monkeypatch.setattr(fetching, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(fetching, "_LONGEST_WAIT", 0.02)


def make_fetcher(folder: Path, *, rate=None, budget=None, stop=None, **options) -> Fetcher:
    stop = stop or Stop()
    limits = {"stop": stop, "rate": RateLimit(rate, stop), "disk": DiskLimit(folder, 0, budget, stop)}
    return Fetcher(FetchOptions(**{"timeout": 5.0, **options}), **limits)


def fetch(server, how, folder, check=check_video, **options):
    with make_fetcher(folder, **options) as fetcher:
        return fetcher.fetch(server.url(f"{how}/v.mp4"), folder / "v.mp4", check)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("how", "tries"),
    [
        ("good", 1),
        ("moved", 1),
        ("drops", 4),
        ("noranges", 3),
        ("changes", 2),
        ("liar", 3),
        ("unavailable", 3),
        ("unknown", 2),
        ("gzip", 2),
        ("resets", 3),
    ],
)
def test_the_right_file_in_the_end(server, video, tmp_path, how, tries):
    result = fetch(server, how, tmp_path)
    assert (result.status, result.attempts) == (DONE, tries), result
    assert (tmp_path / "v.mp4").read_bytes() == video
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("how", "status", "reason", "tries"),
    [
        ("gone", DEAD, "404 Not Found", 1),
        ("local", DEAD, "file", 1),
        ("circle", DEAD, "redirects", 1),
        ("html", OTHER, "text/html", 2),
        ("htmlvideo", OTHER, "one that can be read", 2),
        ("short", OTHER, "cut off", 2),
        ("long", FAILED, "complete message", 4),
        ("later", FAILED, "come again in 1 d", 1),
        ("teapot", FAILED, "418", 3),
        ("silent", FAILED, "disconnected", 3),
        ("huge", FAILED, "--max_file", 1),
    ],
)
def test_what_cannot_be_had_is_named_and_leaves_nothing_that_looks_whole(server, tmp_path, how, status, reason, tries):
    result = fetch(server, how, tmp_path, attempts=3)
    assert (result.status, result.attempts) == (status, tries), result
    assert reason in result.reason and str(tmp_path) not in result.reason
    assert not (tmp_path / "v.mp4").exists()


@pytest.mark.usefixtures("quick")
def test_endless_bodies_are_cut_off(server, tmp_path):
    result = fetch(server, "endless", tmp_path, max_file="300kB")
    assert result.status == FAILED and "--max_file" in result.reason
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick")
def test_a_server_that_drips_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "_SLOW_SECONDS", 0.2)
    result = fetch(server, "drips", tmp_path, attempts=1, timeout=60)
    assert result.status == FAILED and "a second" in result.reason


@pytest.mark.usefixtures("quick")
def test_a_connection_without_bytes_is_given_up(server, tmp_path):
    result = fetch(server, "silent", tmp_path, attempts=2, timeout=0.2)
    assert result.status == FAILED and "imed out" in result.reason


@pytest.mark.usefixtures("quick")
def test_a_dropped_file_goes_on_where_it_was(server, video, tmp_path):
    fetch(server, "drops", tmp_path)
    starts = [asked for _, _, asked in server.log]
    third = (len(video) - 1) // 3
    assert starts == [None, f"bytes={third}-", f"bytes={2 * third}-", f"bytes={3 * third}-"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("whole", [False, True])
def test_a_part_of_an_earlier_run_goes_on(server, video, tmp_path, whole):
    url, part = server.url("good/v.mp4"), Part(tmp_path / "v.mp4")
    part.begin(PartOrigin(url, f'"{hash(video)}"', len(video)))
    part.file.write_bytes(video if whole else video[:1000])
    assert fetch(server, "good", tmp_path, lambda file: None).status == DONE
    assert server.log[0][2] == f"bytes={len(video) if whole else 1000}-"
    assert (tmp_path / "v.mp4").read_bytes() == video


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("origin", ["other address", "no validator", "no notes", "other length"])
def test_a_part_that_may_be_of_another_file_does_not(server, video, tmp_path, origin):
    url, part = server.url("good/v.mp4"), Part(tmp_path / "v.mp4")
    known = {
        "other address": PartOrigin(server.url("good/w.mp4"), f'"{hash(video)}"', len(video)),
        "no validator": PartOrigin(url),
        "no notes": PartOrigin(url),
        "other length": PartOrigin(url, "", len(video) + 1),
    }[origin]
    part.begin(known)
    part.file.write_bytes(b"?" * 1000)
    if origin == "no notes":
        (tmp_path / "v.mp4.part.json").write_text("{")
    assert fetch(server, "good", tmp_path, lambda file: None).status == DONE
    assert (tmp_path / "v.mp4").read_bytes() == video


def test_bytes_are_only_added_where_a_change_could_be_told():
    assert PartOrigin("u", "tag").can_go_on("u") and PartOrigin("u", total=7).can_go_on("u")
    assert not PartOrigin("u").can_go_on("u") and not PartOrigin("u", "tag", 7).can_go_on("v")


def test_retry_after():
    assert retry_after("7") == 7 and retry_after("") is None and retry_after("soon") is None
    assert 25 < (retry_after(formatdate(time.time() + 30, usegmt=True)) or 0) <= 30
    assert retry_after(formatdate(time.time() - 30, usegmt=True)) == 0


def test_all_threads_heed_what_one_is_told(server, video, tmp_path):
    """A server asks for a second of peace: the other worker, in the middle of its list, keeps it, too."""
    write_links(server, tmp_path, ["busy/v.mp4", *["good/v.mp4"] * 12])
    flags = ["--data_root", str(tmp_path), "--workers", "2", "--max_rate", f"{6 * len(video)}"]
    assert download_listed(flags) == 0
    first, *others = [when for when, path, _ in server.log if path.startswith("/busy")]
    assert len(others) == 2 and others[0] - first >= 0.95
    # One may have been on its way already; a worker that does not know asks four times.
    assert len([when for when, _, _ in server.log if first + 0.3 < when < first + 0.95]) <= 1
    assert server.asked["/good/v.mp4"] == 12


def test_the_rate_is_kept(server, video, tmp_path):
    started = time.monotonic()
    with make_fetcher(tmp_path, rate=len(video)) as fetcher:
        for k in range(2):
            assert fetcher.fetch(server.url("good/v.mp4"), tmp_path / f"{k}.mp4").status == DONE
    assert 1.2 < time.monotonic() - started < 30


def test_a_budget_of_disk_ends_the_run_and_keeps_what_came(server, video, tmp_path):
    with make_fetcher(tmp_path, budget=1000) as fetcher, pytest.raises(Stopped):
        fetcher.fetch(server.url("good/v.mp4"), tmp_path / "v.mp4")
    assert not (tmp_path / "v.mp4").exists()


# ---- the door


def write_links(server, folder: Path, paths, ids=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pexels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["videoId", "link"])
        writer.writerows((ids[k] if ids else 1000 + k, server.url(path)) for k, path in enumerate(paths))
    return folder / "pexels.csv"


def rest_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "pexels_not_downloaded.csv").open() as stream:
        return {row["row"]: row for row in csv.DictReader(stream)}


@pytest.mark.usefixtures("quick")
def test_the_release_layout_and_a_list_of_the_rest(server, video, tmp_path, capsys):
    hows = ["good", "gone", "drops", "html", "short", "moved", "local", "unavailable", "teapot", "moved"]
    write_links(server, tmp_path, [f"{how}/v.mp4" for how in hows])

    code = download_listed(["--data_root", str(tmp_path), "--attempts", "2", "--workers", "3"])

    assert code == 1
    folder = tmp_path / "pexels" / "pexels" / "raw_video" / "000000000"
    good = [0, 2, 5, 7, 9]
    assert sorted(path.name for path in folder.iterdir()) == [f"{k:012d}_{1000 + k}.mp4" for k in good]
    assert all(path.read_bytes() == video for path in folder.iterdir())
    assert {row: found["status"] for row, found in rest_of(tmp_path).items()} == {
        "1": DEAD, "3": OTHER, "4": OTHER, "6": DEAD, "8": FAILED,
    }  # fmt: skip
    assert "5 fetched, 2 dead, 2 no video, 1 failed" in capsys.readouterr().out

    before = dict(server.asked)
    assert download_listed(["--data_root", str(tmp_path), "--attempts", "1"]) == 1
    again = {path.split("/")[1] for path, count in server.asked.items() if count != before[path]}
    assert again == {"html", "short", "teapot"}, "what is there and what is dead is left alone"
    assert "5 there" in capsys.readouterr().out
    server.files["v.mp4"] = video
    assert download_listed(["--data_root", str(tmp_path), "--attempts", "1", "--retry_dead", "--rows", "1"]) == 1
    assert server.asked["/gone/v.mp4"] == before["/gone/v.mp4"] + 1


@pytest.mark.usefixtures("quick")
def test_halves_and_pages_that_the_release_left_are_fetched_anew(server, video, tmp_path):
    write_links(server, tmp_path, ["good/v.mp4"] * 3)
    folder = tmp_path / "pexels" / "pexels" / "raw_video" / "000000000"
    folder.mkdir(parents=True)
    (folder / "000000000000_1000.mp4").write_bytes(video[: len(video) // 2])
    (folder / "000000000001_1001.mp4").write_bytes(b"<html>not found</html>")
    (folder / "000000000002_1002.mp4").write_bytes(video)
    assert download_listed(["--data_root", str(tmp_path)]) == 0
    assert not (tmp_path / "pexels_not_downloaded.csv").exists()
    assert {path.read_bytes() for path in folder.iterdir()} == {video} and server.asked["/good/v.mp4"] == 2


@pytest.mark.usefixtures("quick")
def test_names_in_the_list_cannot_lead_out(server, tmp_path):
    write_links(server, tmp_path / "data", ["good/v.mp4"] * 2, ids=["../../../../../../evil", "7"])
    assert download_listed(["--data_root", str(tmp_path / "data")]) == 1
    assert "videoId" in rest_of(tmp_path / "data")["0"]["reason"]
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.usefixtures("quick")
def test_videovo_links(server, video, tmp_path):
    rows = f"path,link\n000005000000.0.mp4,{server.url('good/v.mp4')}\n000005000000.0.mp4,{server.url('good/v.mp4')}\n"
    (tmp_path / "videovo.csv").write_text(rows)
    assert download_listed(["--data_root", str(tmp_path), "--subset", "videovo"]) == 1
    assert (tmp_path / "videovo" / "raw_video" / "000005000" / "000005000000.0.mp4").read_bytes() == video
    assert "row 0 has the same name" in (tmp_path / "videovo_not_downloaded.csv").read_text()


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (None, [], "expected a data folder with pexels.csv"),
        ("id,link\n1,x\n", [], "found no videoId"),
        ("videoId,link\n", [], "expected rows, got none"),
        ("videoId,link\n1,x\n", ["--workers", "0"], "--workers: expected a number from 1 to 256"),
        ("videoId,link\n1,x\n", ["--max_rate", "fast"], "--max_rate: expected a size"),
        ("videoId,link\n1,x\n", ["--keep_free", "900000TB"], "--keep_free"),
        ("videoId,link\n1,x\n", ["--subset", "davis"], "--subset: expected pexels or videovo"),
        ("videoId,link\n1,x\n", ["--rows", "5"], "out of range"),
        ("videoId,link\n1,x\n", ["--attempts", "0"], "--attempts: expected at least 1"),
    ],
)
def test_bad_input(tmp_path, text, flags, message):
    if text is not None:
        (tmp_path / "pexels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        download_listed(["--data_root", str(tmp_path), *flags])


def test_without_arguments_from_inside_data_utils_killed_and_started_again(server, video, tmp_path):
    """As documented; killed in the middle of a slow file, the second run takes only what is missing."""
    write_links(server, tmp_path / "data" / "VPData", ["good/v.mp4", "drips/v.mp4", "good/v.mp4"])
    (tmp_path / "data_utils").mkdir()
    env = {**os.environ, "VIDEOPAINTER_DEBUG": ""}
    process = subprocess.Popen([sys.executable, DOOR], cwd=tmp_path / "data_utils", env=env, stderr=subprocess.PIPE)
    folder = tmp_path / "data" / "pexels" / "pexels" / "raw_video" / "000000000"
    deadline = time.monotonic() + 60
    wanted = {f"00000000000{k}_100{k}.mp4" for k in (0, 2)} | {"000000000001_1001.mp4.part"}
    while time.monotonic() < deadline and not (folder.exists() and wanted <= {path.name for path in folder.iterdir()}):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert wanted <= {path.name for path in folder.iterdir()}

    write_links(server, tmp_path / "data" / "VPData", ["good/v.mp4", "good/v.mp4", "good/v.mp4"])
    before = server.asked["/good/v.mp4"]
    done = subprocess.run([sys.executable, DOOR], cwd=tmp_path / "data_utils", env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 fetched, 2 there" in done.stdout and server.asked["/good/v.mp4"] == before + 1
    assert {path.name for path in folder.iterdir()} == {f"00000000000{k}_100{k}.mp4" for k in range(3)}
    assert all(path.read_bytes() == video for path in folder.iterdir())
