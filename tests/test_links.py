"""A table of links as the input of `build_vpdata.py`: what comes is built, what cannot be had is listed."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_server import video_server

from videopainter.cli.preparation.build_vpdata import build_vpdata
from videopainter.data.video.writer import VideoWriter
from videopainter.errors import InputError
from videopainter.preparation.download import fetching
from videopainter.preparation.stages.collect import collect_links, linked_videos

pytest.importorskip("scenedetect", reason="finds scenes; make setup EXTRAS=data")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> bytes:
    """Two seconds of patches that move."""
    file = tmp_path_factory.mktemp("video") / "v.mp4"
    wide = np.random.default_rng(0).integers(0, 256, (12, 30, 3), dtype=np.uint8)
    wide = cv2.resize(wide, (240, 96), interpolation=cv2.INTER_CUBIC)
    with VideoWriter(file, fps=8, threads=1) as writer:
        writer.write(np.stack([wide[:, 3 * k : 3 * k + 128] for k in range(16)]))
    return file.read_bytes()


@pytest.fixture
def server(video, monkeypatch):
    monkeypatch.setattr(fetching, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(fetching, "_LONGEST_WAIT", 0.02)
    with video_server({"v.mp4": video}) as running:
        yield running


def build(links: Path, output: Path, *flags: str) -> int:
    given = {"--links": links, "--output_dir": output, "--min_clip_seconds": 1.5, "--keep_free": "1MB"}
    fixed = ("--processes", "1", "--until", "clips", "--min_sharpness", "0", "--max_same_bits", "-1")
    return build_vpdata([*(str(word) for pair in given.items() for word in pair), *fixed, *flags])


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_what_comes_is_built_and_the_rest_listed(server, tmp_path, capsys):
    """Of a table as a spreadsheet writes it: with a mark at its start, and semicolons."""
    how = {"1": "good", "2": "drops", "3": "gone", "4": "htmlvideo", "5": "local", "../6": "moved", "1 ": "busy"}
    lines = [f"{name};{server.url(f'{what}/v.mp4')}" for name, what in how.items()]
    lines += [f"7;{server.url('good/v.mp4')}", f"8;file://{server.secret}"]
    (tmp_path / "links.csv").write_text("\n".join(["videoId;link", *lines]), encoding="utf-8-sig")
    output = tmp_path / "out"
    assert build(tmp_path / "links.csv", output) == 1
    assert "6 links gave no video" in capsys.readouterr().err
    clips = table(output / "work" / "clips.csv")
    assert {(row["aesthetic"], row["unsafe_frames"]) for row in clips} == {("not scored", "not scored")}
    names = sorted(row["id"] for row in clips)
    assert names[:2] == ["1-000", "2-000"] and len(names) == 3 and names[2].startswith("6-")
    rest = {row["name"]: (row["status"], row["reason"]) for row in table(output / "work" / "not_downloaded.csv")}
    assert {name: status for name, (status, _) in rest.items()} == {
        **{"1": "dead", "3": "dead", "4": "no video", "5": "dead", "7": "dead", "8": "dead"}
    }
    assert "row 0 has the same name" in rest["1"][1] and "row 0 has the same link" in rest["7"][1]
    assert "http address" in rest["8"][1]
    below = {file.relative_to(output).parts[:2] for file in output.rglob("*.mp4")}
    assert below == {("work", "raw")} and {file.name for file in tmp_path.iterdir()} == {"links.csv", "out"}
    asked = dict(server.asked)
    assert build(tmp_path / "links.csv", output) == 1
    assert {path: count - asked[path] for path, count in server.asked.items() if count > asked[path]} == {
        "/htmlvideo/v.mp4": 2
    }, "neither what is there nor what is dead"
    os.remove(next((output / "work" / "raw").rglob("2.mp4")))
    (tmp_path / "links.csv").write_text(f"videoId,link\n9,{server.url('gone/v.mp4')}\n2,{server.url('good/v.mp4')}\n")
    assert build(tmp_path / "links.csv", output) == 1
    assert [row["id"] for row in table(output / "work" / "clips.csv")] == ["2-000"]
    assert [row["name"] for row in table(output / "work" / "not_downloaded.csv")] == ["9"], "of this table alone"


def test_names_of_links_alone(tmp_path):
    address = "https://a.example"
    urls = [f"{address}/x/A%20clip.webm?sig=1", f"{address}/x/A%20clip.webm?sig=2", f"{address}/y/A%20clip.webm"]
    urls += [f"{address}/watch?v=1", f"{address}/watch?v=2", "https://[", "", f"{address}/../../etc/{'n' * 300}.mp4"]
    (tmp_path / "links.csv").write_text("link\n" + "".join(f'"{url}"\n' for url in urls))
    links = linked_videos(tmp_path / "links.csv")
    assert [link.fault[:29] for link in links] == ["", "row 0 has the same name", *[""] * 4, links[6].fault[:29], ""]
    assert "http address" in links[6].fault and len({link.name for link in links if not link.fault}) == 6
    assert all(".." not in link.path and len(link.name) < 100 for link in links)
    assert collect_links(links, tmp_path) == []


@pytest.mark.parametrize(
    "content",
    ["link\nhttps://a/x,y,z.mp4\n", " videoId , link \n1,https://a/x,y,z.mp4\n", "link,,\nhttps://a/x%2Cy,,,,,\n"],
)
def test_commas_that_nobody_quoted(tmp_path, content):
    (tmp_path / "links.csv").write_text(content)
    (link,) = linked_videos(tmp_path / "links.csv")
    assert not link.fault and link.url == ("https://a/x%2Cy" if ",," in content else "https://a/x,y,z.mp4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path\nx\n", "found no link"),
        (b"link\n", "expected rows, got none"),
        (b"", "found no link"),
        ("link\nh\u00e4\n".encode("utf-16"), "cannot be read"),
        (b"link\nfile:///etc/hostname\n", "--links: expected a link that gives a video, got 1 other"),
        (b'link\n"' + b"x" * 200_000, "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, message):
    (tmp_path / "links.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        build(tmp_path / "links.csv", tmp_path / "out")


def test_videos_or_links(tmp_path):
    with pytest.raises(InputError, match="got both"):
        build(tmp_path / "links.csv", tmp_path / "out", "--videos", ".")
    with pytest.raises(InputError, match="found none at"):
        build(tmp_path / "links.csv", tmp_path / "out")
