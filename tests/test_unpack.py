"""Archives of others: nothing outside the target, each fault named, the rest unpacked."""

import csv
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from videopainter import locks
from videopainter.cli.preparation.unzip_folder import unzip_folder
from videopainter.errors import InputError
from videopainter.preparation.disk import DiskOptions
from videopainter.preparation.unpack import survey
from videopainter.preparation.unpack.extract import unpack
from videopainter.preparation.unpack.folder import PROBLEMS_FILE, unpack_all
from videopainter.preparation.unpack.survey import UnpackLimits

LIMITS, DISK = UnpackLimits(), DiskOptions(keep_free="1MB")


def write_zip(path: Path, entries, method=zipfile.ZIP_DEFLATED) -> Path:
    """`entries`: (name or ZipInfo, content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def info(name: str, mode: int = 0, extra: bytes = b"") -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    made.extra = extra
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whys(result) -> dict[str, str]:
    return {entry: why for _, entry, why in result.problems}


def test_unpacks_into_the_target_and_skips_what_is_there(tmp_path):
    entries = [(f"{k:03d}/all_masks.npz", os.urandom(3000)) for k in range(200)]
    path = write_zip(tmp_path / "in" / "masks.zip", entries)
    target = tmp_path / "out"

    first = unpack(path, target, LIMITS, DISK, threads=4)

    assert tree(target) == dict(entries)
    assert (first.written, first.there, first.size, first.problems) == (200, 0, 600_000, [])
    times = {file: file.stat().st_mtime_ns for file in target.rglob("*.npz")}
    (target / "007" / "all_masks.npz").unlink()
    again = unpack(path, target, LIMITS, DISK, threads=4)
    assert (again.written, again.there) == (1, 199)
    assert sum(file.stat().st_mtime_ns != times[file] for file in times) == 1
    assert not [path for path in target.rglob(".*")]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../out.txt", "leads out"),
        ("a/../../out.txt", "leads out"),
        ("..\\out.txt", "leads out"),
        ("/tmp/videopainter-out.txt", "absolute"),
        ("C:\\out.txt", "absolute"),
        ("\\\\server\\out.txt", "absolute"),
        ("a\x01b.txt", "control"),
        ("n" * 300, "too long"),
        ("./", "no name"),
    ],
)
def test_names_that_lead_out_are_left_out(tmp_path, name, why):
    path = write_zip(tmp_path / "a" / "bad.zip", [("good/1.txt", "1"), (name, "bad"), ("good/2.txt", "2")])

    result = unpack(path, tmp_path / "a" / "b" / "target", LIMITS, DISK)

    assert tree(tmp_path / "a" / "b") == {"target/good/1.txt": b"1", "target/good/2.txt": b"2"}
    assert list(tmp_path.iterdir()) == [tmp_path / "a"] and not Path("/tmp/videopainter-out.txt").exists()
    (told,) = whys(result).values()
    assert why in told


def test_links_and_devices_are_left_out(tmp_path):
    unix = struct.pack("<HH", 0x000D, 12 + 8) + bytes(12) + b"good.txt"
    entries = [
        (info("link", stat.S_IFLNK | 0o777), str(tmp_path)),
        ("link/through.txt", "through the link"),
        (info("hard", stat.S_IFREG | 0o644, unix), ""),
        (info("pipe", stat.S_IFIFO | 0o644), ""),
        ("good.txt", "good"),
    ]
    target = tmp_path / "target"

    result = unpack(write_zip(tmp_path / "links.zip", entries), target, LIMITS, DISK)

    # The entry behind the link is a file like any other once the link is not made.
    assert tree(target) == {"good.txt": b"good", "link/through.txt": b"through the link"}
    assert not (target / "link").is_symlink()
    assert set(whys(result)) == {"link", "hard", "pipe"}
    assert "symbolic link" in whys(result)["link"] and "hard link" in whys(result)["hard"]


def test_links_in_the_target_are_not_followed(tmp_path):
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir(), target.mkdir()
    (outside / "kept.txt").write_text("kept")
    (target / "folder").symlink_to(outside)
    (target / "file.txt").symlink_to(outside / "kept.txt")
    os.link(outside / "kept.txt", target / "hard.txt")
    entries = [("folder/new.txt", "n"), ("file.txt", "f"), ("hard.txt", "h"), ("good.txt", "g")]

    result = unpack(write_zip(tmp_path / "x.zip", entries), target, LIMITS, DISK, overwrite=True)

    assert tree(outside) == {"kept.txt": b"kept"}
    assert (target / "hard.txt").read_text() == "h" and (target / "good.txt").read_text() == "g"
    assert set(whys(result)) == {"folder/new.txt", "file.txt"}


def test_a_target_that_is_a_link_itself_is_where_its_owner_wants_it(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    result = unpack(write_zip(tmp_path / "x.zip", [("a/b.txt", "b")]), tmp_path / "data", LIMITS, DISK)
    assert not result.problems and tree(tmp_path / "disk") == {"a/b.txt": b"b"}


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "_HARMLESS_BYTES", 1_000_000)
    bomb = zipfile.ZipInfo("bomb.bin")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(bomb, "w") as stream:
            for _ in range(5):
                stream.write(bytes(1_000_000))
        archive.writestr("good.txt", "good")

    result = unpack(path, tmp_path / "t", LIMITS, DISK)
    assert tree(tmp_path / "t") == {"good.txt": b"good"} and "bomb" in whys(result)["bomb.bin"]

    (_, entry, why), *_ = unpack(path, tmp_path / "u", UnpackLimits(max_ratio=2000, max_unpacked="4MB"), DISK).problems
    assert entry == "" and "5.0 MB" in why and "--max_unpacked" in why
    (_, entry, why), *_ = unpack(
        path, tmp_path / "u", UnpackLimits(max_ratio=2000), DiskOptions(keep_free="900TB")
    ).problems
    assert entry == "" and "--keep_free" in why
    assert not tree(tmp_path / "u")


def test_an_entry_that_holds_more_than_it_says_is_cut_off_and_left_out(tmp_path):
    path = write_zip(tmp_path / "lies.zip", [("liar.bin", bytes(500_000)), ("good.txt", "good")])
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        where = data.index(signature) + at
        data[where : where + 4] = struct.pack("<I", 10)
    path.write_bytes(data)

    result = unpack(path, tmp_path / "t", LIMITS, DISK)

    assert tree(tmp_path / "t") == {"good.txt": b"good"} and set(whys(result)) == {"liar.bin"}


def test_entries_that_share_their_bytes_are_left_out(tmp_path):
    path = write_zip(tmp_path / "o.zip", [("a.bin", os.urandom(1000)), ("b.bin", os.urandom(1000))])
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # where the local header of b.bin is
    path.write_bytes(data)
    result = unpack(path, tmp_path / "t", LIMITS, DISK)
    assert "another entry" in whys(result)["b.bin"] and set(tree(tmp_path / "t")) <= {"a.bin"}


def test_broken_entries_and_archives_are_named_and_the_rest_unpacked(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    path = write_zip(source / "1.zip", [("bad.bin", b"x" * 5000), ("good.bin", b"y" * 5000)], zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    whole = write_zip(source / "2.zip", [("c.bin", os.urandom(4000))]).read_bytes()
    (source / "2.zip").write_bytes(whole[:-50])
    (source / "3.zip").write_bytes(b"")
    (source / "4.zip").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    (source / "5.zip").write_text("<!doctype html>")
    write_zip(source / "6.zip", [("six.txt", "6")])

    code = unzip_folder(["--source_dir", str(source), "--target_dir", str(target), "--keep_free", "1MB"])

    assert code == 1
    with (target / PROBLEMS_FILE).open() as stream:
        problems = {row["archive"]: row for row in csv.DictReader(stream)}
    assert set(tree(target)) == {"good.bin", "six.txt", PROBLEMS_FILE}
    assert problems["1.zip"]["entry"] == "bad.bin" and "CRC" in problems["1.zip"]["reason"]
    assert "broken" in problems["2.zip"]["reason"] and "empty" in problems["3.zip"]["reason"]
    assert "git-lfs" in problems["4.zip"]["reason"] and "broken, or none" in problems["5.zip"]["reason"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names(tmp_path):
    entries = [("a", "1"), ("a", "1"), ("a", "2"), ("./a", "3"), ("b/c", "4"), ("b", "5"), ("d", "6"), ("d/e", "7")]
    result = unpack(write_zip(tmp_path / "d.zip", entries), tmp_path / "t", LIMITS, DISK)
    assert tree(tmp_path / "t") == {"a": b"1", "b/c": b"4", "d": b"6"}
    assert [entry for _, entry, _ in result.problems] == ["a", "./a", "b", "d/e"]


def test_what_is_there_with_other_content_stays_unless_told(tmp_path):
    path, target = write_zip(tmp_path / "x.zip", [("a.txt", "new"), ("b.txt", "b")]), tmp_path / "t"
    target.mkdir()
    (target / "a.txt").write_text("old")  # the same length: only the content tells
    result = unpack(path, target, LIMITS, DISK)
    assert tree(target) == {"a.txt": b"old", "b.txt": b"b"} and "another file" in whys(result)["a.txt"]
    assert not unpack(path, target, LIMITS, DISK, overwrite=True).problems
    assert tree(target) == {"a.txt": b"new", "b.txt": b"b"}


def test_very_many_entries(tmp_path):
    entries = [(f"{k % 100:02d}/{k}", b"") for k in range(5000)]
    path = write_zip(tmp_path / "many.zip", entries, zipfile.ZIP_STORED)
    (refused,) = unpack(path, tmp_path / "t", UnpackLimits(max_entries=4999), DISK).problems
    assert "4999" in refused[2] and not (tmp_path / "t").exists()
    assert unpack(path, tmp_path / "t", LIMITS, DISK, threads=2).written == 5000


def test_encrypted_and_unknown_methods(tmp_path):
    path = write_zip(tmp_path / "x.zip", [("a", "a"), ("b", "b"), ("c", "c")])
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02")
    data[first + 8] |= 1
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 10] = 9  # Deflate64
    path.write_bytes(data)
    result = unpack(path, tmp_path / "t", LIMITS, DISK)
    assert tree(tmp_path / "t") == {"c": b"c"}
    assert "encrypted" in whys(result)["a"] and "method" in whys(result)["b"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    target = tmp_path / "t"
    (target / "a").mkdir(parents=True)
    left = target / "a" / ".b.partial-000000-1-0000000.txt"
    left.write_text("half")
    os.utime(left, (0, 0))
    unpack(write_zip(tmp_path / "x.zip", [("a/b.txt", "b")]), target, LIMITS, DISK)
    assert tree(target) == {"a/b.txt": b"b"}


def test_the_door_finds_a_clone_below_data(tmp_path, monkeypatch, capsys):
    write_zip(tmp_path / "data" / "VPData" / "videovo_masks" / "1.zip", [("000005000000/all_masks.npz", "x")])
    monkeypatch.chdir(tmp_path)
    assert unzip_folder([]) == 0
    assert tree(tmp_path / "data" / "video_inpainting") == {"videovo/000005000000/all_masks.npz": b"x"}
    assert "data/VPData/videovo_masks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source_dir", "nowhere"], "--source_dir: expected a folder of .zip files, found no folder nowhere"),
        (["--source_dir", "empty"], "found none in empty"),
        (["--source_dir", "full", "--target_dir", "full/1.zip"], "--target_dir: expected a folder"),
        (["--source_dir", "full", "--threads", "-1"], "--threads: expected at least 0, got -1"),
        (["--source_dir", "full", "--max_unpacked", "much"], "--max_unpacked: expected a size"),
        (["--source_dir", "full", "--max_ratio", "0"], "--max_ratio: expected at least 1"),
    ],
)
def test_bad_flags(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_zip(tmp_path / "full" / "1.zip", [("a", "a")])
    with pytest.raises(InputError, match=message):
        unzip_folder(flags)


def test_two_runs_do_not_unpack_into_one_folder_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_SECONDS", 0.1)
    path = write_zip(tmp_path / "x.zip", [("a", "a")])
    (tmp_path / "t").mkdir()
    with locks.held(tmp_path / "t", folder=True), pytest.raises(InputError, match="another process"):
        unpack_all([path], tmp_path / "t", LIMITS, DISK, threads=1)
