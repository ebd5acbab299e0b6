"""A data tree against its CSVs: every fault is found, named once, and nothing else is."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videopainter.cli.preparation.check_data import check_data
from videopainter.data.records import record_paths
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.data.synthetic.writing import write_set
from videopainter.errors import InputError
from videopainter.preparation.check import run as check_run

DOOR = Path(__file__).parents[1] / "data_utils" / "check_data.py"
TABLE = "pexels_videovo_train_dataset.csv"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Twelve clips of 60 frames at 8 per second, 32×48, without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    look = SyntheticLook(num_frames=60, height=32, width=48, seed=3)
    write_set(folder, {"train": 12, "val": 2, "test": 0, "long": 0, "long_test": 0}, look, processes=1)
    return folder


@pytest.fixture
def data(whole, tmp_path) -> Path:
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def rows_of(data: Path) -> list[dict[str, str]]:
    with (data / TABLE).open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_rows(data: Path, rows: list[dict[str, str]]) -> None:
    with (data / TABLE).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def check(data: Path, *flags: str) -> tuple[int, set[tuple[int, str]]]:
    """(exit code, {(row, problem)} of the training table)."""
    output = data.parent / "out"
    code = check_data(["--data_root", str(data), "--output_dir", str(output), "--processes", "1", *flags])
    with (output / "findings.csv").open(newline="") as stream:
        return code, {(int(row["row"]), row["problem"]) for row in csv.DictReader(stream) if row["csv"] == TABLE}


@pytest.mark.parametrize("decode", ["none", "first", "ends", "all"])
def test_a_whole_set_has_no_problem(data, decode):
    assert check(data, "--decode", decode) == (0, set())
    page = (data.parent / "out" / "report.html").read_text()
    assert "Nothing is wrong" in page and "data:image/jpeg;base64," in page
    assert not (data.parent / "out" / "parts").exists()


def change_masks(file: Path, change) -> None:
    with np.load(file) as stored:
        ids = stored["arr_0"]
    np.savez_compressed(file, change(ids))


def test_every_fault_is_found(data):
    rows = rows_of(data)
    files = [tuple(data / path for path in record_paths(row["path"])) for row in rows]
    length = 60
    files[0][0].unlink()
    files[1][1].unlink()
    files[2][0].write_bytes(files[2][0].read_bytes()[:-300])
    files[3][1].write_bytes(b"no archive")
    change_masks(files[4][1], lambda ids: ids[:-1])
    change_masks(files[5][1], lambda ids: ids[:, :, :-8])
    change_masks(files[6][1], lambda ids: np.repeat(np.repeat(ids, 2, 1), 2, 2))
    rows[7]["mask_id"] = "77"
    rows[8].update(start_frame=str(length), end_frame=str(length + 9))
    rows[9]["end_frame"] = "20"
    rows[10]["caption"] = "short"
    rows[11]["fps"] = "16"
    rows.append(dict(rows[11]))
    rows.append({**rows[11], "start_frame": "x"})
    rows.append({**rows[11], "path": "../up.mp4"})
    write_rows(data, rows)

    code, found = check(data)

    assert code == 1
    assert found == {
        (0, "no video"),
        (1, "no masks"),
        (2, "video unreadable"),
        (3, "masks unreadable"),
        (4, "mask length differs"),
        (5, "mask size differs"),
        (6, "masks of another size"),
        (7, "id absent"),
        (8, "range outside"),
        (9, "too short to train"),
        (10, "short caption"),
        (11, "rate differs"),
        (12, "rate differs"),
        (12, "duplicate row"),
        (13, "bad row"),
        (14, "bad row"),
    }
    summary = json.loads((data.parent / "out" / "summary.json").read_text())
    assert summary["bad_rows"] == 10 and summary["rows"][TABLE] == 15
    page = (data.parent / "out" / "report.html").read_text()
    assert all(problem in page for _, problem in found)
    assert str(data) not in (data.parent / "out" / "findings.csv").read_text()


def test_only_the_levels_that_decode_see_what_does_not_decode(data):
    """The container is whole, the pictures are noise from the second key frame on."""
    video = data / record_paths(rows_of(data)[0]["path"])[0]
    content = bytearray(video.read_bytes())
    at = content.index(b"mdat") + 8
    content[at + 200 :] = os.urandom(len(content) - at - 200) if content.index(b"moov") < at else content[at + 200 :]
    video.write_bytes(content)
    assert check(data, "--decode", "none") == (0, set())
    assert check(data, "--decode", "ends") == (1, {(0, "video unreadable")})


def test_the_length_of_a_training_clip_is_the_users(data):
    assert check(data, "--max_num_frames", "61")[1] == {(row, "too short to train") for row in range(12)}


def test_an_id_in_other_frames_than_the_rows(data):
    rows = rows_of(data)
    masks = data / record_paths(rows[0]["path"])[1]
    change_masks(masks, lambda ids: np.concatenate([ids[:30], np.zeros_like(ids[30:])]))
    rows[0].update(start_frame="30")
    write_rows(data, rows)
    assert (0, "id absent") in check(data)[1]


def test_videos_in_several_sets(data):
    with (data / "pexels_videovo_val_dataset.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow(rows_of(data)[3].values())
    check(data)
    text = (data.parent / "out" / "findings.csv").read_text()
    assert f"pexels_videovo_val_dataset.csv,2,{rows_of(data)[3]['path']},in several sets,also in {TABLE},yes" in text


def test_a_sample(data):
    for row in rows_of(data):
        (data / record_paths(row["path"])[0]).unlink()
    code, found = check(data, "--sample", "5", "--csv", str(data / TABLE))
    assert code == 1 and len(found) == 5
    assert check(data, "--sample", "5", "--csv", str(data / TABLE))[1] == found


def test_tables_of_something_else_are_left_out_and_told(data, capsys):
    (data / "pexels.csv").write_text("videoId,link\n1,http://x\n")
    assert check(data) == (0, set())
    assert "pexels.csv: not checked" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"pexels\.csv"):
        check(data, "--csv", str(data / "pexels.csv"))


def write_davis(data: Path) -> Path:
    """Three sequences of four frames: one whole, one with a mask too few, one without a hole; and a row without any."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
    for name in ("bear", "cows", "dance"):
        for kind, suffix in (("JPEGImages_432_240", "jpg"), ("test_masks", "png")):
            (data / "davis" / kind / name).mkdir(parents=True)
            for k in range(3 if (name, kind) == ("cows", "test_masks") else 4):
                image = pixels if suffix == "jpg" else np.uint8(255) * (np.arange(36) < 9) * np.ones((24, 1), np.uint8)
                image = image * (name != "dance") if suffix == "png" else image
                Image.fromarray(image.astype(np.uint8)).save(data / "davis" / kind / name / f"{k:05d}.{suffix}")
    table = data / "davis" / "davis_caption.csv"
    rows = "".join(f"{k},{name},a,b\n" for k, name in enumerate(["bear", "cows", "dance", "eels", "bear"]))
    table.write_text(f"Video_Index,Video_Name,Video_Caption,Masked_Target_Caption\n{rows}")
    return table


def test_sequences_of_davis(data):
    write_davis(data)
    assert check(data)[0] == 1
    with (data.parent / "out" / "findings.csv").open(newline="") as stream:
        found = {(row["path"], int(row["row"]), row["problem"]) for row in csv.DictReader(stream)}
    assert found == {
        ("cows", 1, "bad row"),
        ("dance", 2, "masks empty"),
        ("eels", 3, "bad row"),
        ("bear", 4, "duplicate row"),
    }


def test_killed_and_started_again(data, monkeypatch):
    """SIGKILL in the middle: batches that were through are not checked again, and the report is the same."""
    (data / record_paths(rows_of(data)[0]["path"])[0]).unlink()
    expected = check(data)
    findings = (data.parent / "out" / "findings.csv").read_bytes()
    output = data.parent / "killed"
    code = (
        "import os, signal, sys\n"
        "from videopainter.preparation.check import run\n"
        "from videopainter.cli.preparation.check_data import check_data\n"
        "run._BATCH = 2\n"
        "one, count = run._check_batch, []\n"
        "def check(*args):\n"
        "    count.append(1)\n"
        "    if len(count) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    one(*args)\n"
        "run._check_batch = check\n"
        "check_data(sys.argv[1:])\n"
    )
    flags = ["--data_root", str(data), "--output_dir", str(output), "--processes", "1"]
    killed = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    records = {file.name: file.stat().st_mtime_ns for file in (output / "parts").glob("0*.json")}
    assert len(records) == 3

    checked = []
    one = check_run.check_video_rows
    monkeypatch.setattr(check_run, "_BATCH", 2)
    monkeypatch.setattr(check_run, "check_video_rows", lambda video, *args: checked.append(video) or one(video, *args))
    assert check_data(flags) == expected[0]
    assert len(checked) == 14 - 6
    assert (output / "findings.csv").read_bytes() == findings


def test_records_of_another_check_are_not_taken(data, monkeypatch):
    monkeypatch.setattr(check_run.CheckRecords, "remove", lambda self: None)
    assert check(data) == (0, set())
    rows = rows_of(data)
    rows[0]["mask_id"] = "99"
    write_rows(data, rows)
    assert check(data)[1] == {(0, "id absent")}


def test_several_processes_find_the_same(data, monkeypatch):
    (data / record_paths(rows_of(data)[5]["path"])[1]).unlink()
    expected = check(data)
    monkeypatch.setattr(check_run, "_BATCH", 3)
    started = time.perf_counter()
    assert check(data, "--processes", "2", "--sheet", "false") == expected
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data_root", "nowhere"], "--data_root: expected a folder"),
        (["--data_root", "."], "expected a folder with CSVs"),
        (["--data_root", ".", "--sample", "-1"], "--sample: expected at least 0"),
        (["--data_root", ".", "--csv", "x.csv"], "x.csv"),
        (["--data_root", ".", "--decode", "some"], "--decode"),
    ],
)
def test_bad_flags(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        check_data(flags)
