"""A set in shards: what training, WebDataset and `datasets` read from them, from a folder and from object storage."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from videopainter.cli.preparation.shard_data import shard_data
from videopainter.data.records import record_paths
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.data.synthetic.writing import write_set
from videopainter.data.training import shards
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.errors import InputError
from videopainter.preparation import shards as sharding

TRAIN = "pexels_videovo_train_dataset.csv"


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set") / "set"
    write_set(folder, {"train": 3, "test": 1}, SyntheticLook(num_frames=17, height=32, width=48))
    return folder


@pytest.fixture(scope="module")
def sharded(plain, tmp_path_factory) -> Path:
    """Shards of some 10 kB: two of the training's clips and one of the test's."""
    folder = tmp_path_factory.mktemp("shards") / "shards"
    assert write(plain, folder) == 0
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(plain: Path, folder: Path, size: str = "") -> int:
    largest = max(file.stat().st_size for file in plain.rglob("*.mp4"))
    return shard_data(
        ["--data_root", str(plain), "--output_dir", str(folder), "--shard_size", size or str(3 * largest)]
    )


def training_set(csv: Path, root: str | None = None) -> TrainingSet:
    options = TrainingSetOptions(
        meta_file_path=str(csv), instance_data_root=root, height=32, width=48, max_num_frames=17, min_caption_length=0
    )
    return TrainingSet(options)


def check_equal(found: TrainingSet, expected: TrainingSet) -> None:
    assert found.rows == expected.rows
    for row in expected.rows:
        key = SampleKey(epoch=0, row=row, single=False)
        ours, theirs = found[key], expected[key]
        assert not ours.replaced and ours.caption == theirs.caption
        np.testing.assert_array_equal(ours.frames, theirs.frames)
        np.testing.assert_array_equal(ours.masks, theirs.masks)


def test_training_reads_the_same_samples(plain, sharded):
    names = sorted(file.name for file in sharded.glob("*.tar"))
    assert len(names) == 3 and names[0].startswith("test-000000-")
    check_equal(training_set(sharded / TRAIN), training_set(plain / TRAIN))


def test_training_reads_object_storage(plain, sharded):
    """fsspec's storage in memory stands for any other one."""
    storage = fsspec.filesystem("memory")
    storage.put(str(sharded), "/bucket/shards", recursive=True)
    check_equal(training_set(plain / TRAIN, "memory://bucket/shards"), training_set(plain / TRAIN))
    for file in storage.glob("/bucket/shards/train-000000-*.tar"):
        storage.rm(file)
    shutil.rmtree(shards.user_cache())
    with pytest.raises(shards.StorageError, match="expected a file that can be read"):
        training_set(plain / TRAIN, "memory://bucket/shards")[SampleKey(epoch=0, row=0, single=False)]


class Failing(LocalFileSystem):
    """Storage that fails so many times, in its package's own way."""

    protocol = "failing"
    left, tried = 0, 0

    class Error(Exception):
        pass

    def _open(self, path, *args, **kwargs):
        Failing.tried += 1
        if Failing.left:
            Failing.left -= 1
            raise Failing.Error(f"503 of https://me:secret@host{path}?token=secret")
        return super()._open(path, *args, **kwargs)


def test_storage_that_fails_is_asked_again_and_never_swaps_a_sample(plain, sharded, monkeypatch):
    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setattr(shards, "_WAITS", (0.0, 0.0))
    found, key = training_set(plain / TRAIN, f"failing://{sharded}"), SampleKey(epoch=0, row=0, single=False)
    Failing.left, Failing.tried = 4, 0
    with pytest.raises(shards.StorageError, match="got 503 of https://host/") as error:
        found[key]
    assert Failing.tried == 3 and "secret" not in str(error.value)
    assert not found[key].replaced and Failing.tried == 6
    with pytest.raises(InputError) as error:
        training_set(plain / TRAIN, "nothere://me:secret@host/shards?token=secret")
    assert "nothere://host/shards" in str(error.value) and "secret" not in str(error.value)


def test_bytes_that_are_not_those_of_the_table_are_not_taken(sharded, tmp_path):
    shutil.copytree(sharded, tmp_path / "shards")
    for shard in (tmp_path / "shards").glob("*.tar"):
        shard.write_bytes(bytes(shard.stat().st_size))
    files = shards.ShardedFiles(str(tmp_path / "shards"), 1e9)
    with pytest.raises(shards.StorageError, match=r"expected the bytes of .*mp4 that shards\.csv lists"):
        files.find(Path(next(name for name in files._places if name.endswith(".mp4"))))


def read_all(root: str) -> dict[str, bytes]:
    files = shards.ShardedFiles(root, 1e9)
    return {name: Path(files.find(Path(name)) or "").read_bytes() for name in files._places}


def swapped(plain: Path, folder: Path) -> Path:
    """The same names and sizes, other bytes: the last one of each video."""
    shutil.copytree(plain, folder)
    for file in folder.rglob("*.mp4"):
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return folder


def test_two_projects_and_a_set_that_changed_keep_their_own_files(plain, tmp_path, monkeypatch):
    other = swapped(plain, tmp_path / "other")
    for project, data in (("one", plain), ("two", other)):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        write(data, Path("shards"))
        expected = {file.name: file.read_bytes() for file in data.rglob("*.mp4")}
        assert {Path(name).name: got for name, got in read_all("shards").items() if ".mp4" in name} == expected
        assert len(list((shards.user_cache() / "shards").iterdir())) == (1 if project == "one" else 2)
    write(plain, tmp_path / "two" / "shards")  # under the same address
    expected = {file.name: file.read_bytes() for file in plain.rglob("*.mp4")}
    assert {Path(name).name: got for name, got in read_all("shards").items() if ".mp4" in name} == expected


def test_a_table_never_names_other_bytes(plain, tmp_path, monkeypatch):
    """Ended between the shards and their table, and read by somebody who has the old one."""
    folder, other = tmp_path / "shards", swapped(plain, tmp_path / "other")
    write(plain, folder)
    expected = read_all(str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    reader = shards.ShardedFiles(str(folder), 1e9)
    with monkeypatch.context() as patch:
        patch.setattr(sharding, "_publish", None)
        with pytest.raises(TypeError):
            write(other, folder)
    assert all(Path(reader.find(Path(name)) or "").read_bytes() == content for name, content in expected.items())
    write(other, folder)
    assert len(list(folder.glob("*.tar"))) == 3 and read_all(str(folder)) != expected
    shutil.rmtree(shards.user_cache())
    with pytest.raises(shards.StorageError, match="expected a file that can be read"):
        [reader.find(Path(name)) for name in expected]


def test_a_part_that_is_no_more_leaves_no_table(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "set")
    write(tmp_path / "set", tmp_path / "shards")
    assert len(list((tmp_path / "shards").glob("*_dataset.csv"))) == 2
    (tmp_path / "set" / "pexels_videovo_test_dataset.csv").unlink()
    (tmp_path / "set" / "our_video_inpaint.csv").unlink()
    write(tmp_path / "set", tmp_path / "shards")
    assert [file.name for file in (tmp_path / "shards").glob("*_dataset.csv")] == [TRAIN]
    assert {file.name[:5] for file in (tmp_path / "shards").glob("*.tar")} == {"train"}


def test_names_alike_and_long_ones(plain, tmp_path):
    """WebDataset's keys have no dots, and tar's old headers no long names."""
    folder, long = tmp_path / "set", "x" * 140 + "\u732b"
    rows = (plain / TRAIN).read_text().splitlines()
    names = [f"{name}.mp4" for name in ("a.b", "a-b", long)]
    (folder / TRAIN).parent.mkdir()
    (folder / TRAIN).write_text(
        "\n".join([rows[0], *(f"{name},{row.partition(',')[2]}" for name, row in zip(names, rows[1:]))])
    )
    for name, row in zip(names, rows[1:]):
        for old, new in zip(record_paths(row.split(",")[0]), record_paths(name)):
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(plain / old, folder / new)
    assert rows[0].startswith("path,") and write(folder, tmp_path / "shards", "1GB") == 0
    found = read_all(str(tmp_path / "shards"))
    assert len(set(found.values())) == 6 and all((folder / name).read_bytes() == found[name] for name in found)
    write(folder, tmp_path / "again", "1GB")
    (one,), (two,) = (list((tmp_path / name).glob("*.tar")) for name in ("shards", "again"))
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive:
        assert sum(member.name.startswith(long) for member in archive) == 3


def test_what_was_fetched_is_kept_and_makes_room(sharded, tmp_path, monkeypatch):
    files = shards.ShardedFiles(str(sharded), 1, tmp_path / "kept")
    names = [Path(name) for name in files._places]
    first = files.find(names[0])
    assert first is not None and first.stat().st_size == files._places[names[0].as_posix()].size
    os.utime(first, (0, 0))
    monkeypatch.setattr(files, "_read", None)
    assert files.find(names[0]) == first and files.find(Path("nowhere.mp4")) is None
    assert first.stat().st_mtime == 0 and first.stat().st_atime > 0  # used; but no other file, for who has it open
    monkeypatch.undo()
    monkeypatch.setattr(shards, "_RESTS", -1.0)
    monkeypatch.setattr(shards, "_LOOK_EVERY", 1)
    files.find(names[1])
    assert not first.exists()
    assert files.find(names[0]) == first


def test_the_same_set_gives_the_same_shards_once(plain, sharded, tmp_path):
    times = {file.name: file.stat().st_mtime_ns for file in sharded.glob("*.tar")}
    assert write(plain, sharded) == 0
    assert {file.name: file.stat().st_mtime_ns for file in sharded.glob("*.tar")} == times
    write(plain, tmp_path / "again")
    for file in (file for file in sharded.iterdir() if file.is_file()):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name
    write(plain, tmp_path / "again", "1GB")
    assert sorted(file.name[:7] for file in (tmp_path / "again").glob("*.tar")) == ["test-00", "train-0"]
    check_equal(training_set(tmp_path / "again" / TRAIN), training_set(plain / TRAIN))


def test_webdataset_reads_them(plain, sharded):
    webdataset = pytest.importorskip("webdataset")
    found = list(webdataset.WebDataset([str(file) for file in sorted(sharded.glob("train-*.tar"))], shardshuffle=False))
    assert len(found) == 3 and {"mp4", "masks", "json"} <= set(found[0])
    videos = {file.stem: file.read_bytes() for file in plain.rglob("*.mp4")}
    for sample in found:
        assert sample["mp4"] == videos[sample["__key__"]]
        assert np.load(io.BytesIO(sample["masks"]))["arr_0"].shape == (17, 32, 48)


def test_datasets_loads_the_folder(sharded, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    found = datasets.load_dataset(str(sharded), cache_dir=str(tmp_path / "hf"))
    assert {name: len(split) for name, split in found.items()} == {"train": 3, "test": 1}
    sample = found["train"].cast_column("mp4", datasets.Video(decode=False))[0]
    assert sample["json"]["rows"][0]["caption"] and sample["mp4"]["bytes"][4:8] == b"ftyp"
    assert np.load(io.BytesIO(sample["masks"]))["arr_0"].dtype.kind in "iu"


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("nothere://bucket/shards", "--instance_data_root nothere://bucket/shards: .*nothere"),
        ("file:///nowhere/shards", "expected a file that can be read"),
    ],
)
def test_storage_that_is_not_there(plain, root, message):
    with pytest.raises(InputError, match=message):
        training_set(plain / TRAIN, root)


def test_mistakes(plain, tmp_path):
    with pytest.raises(InputError, match="--data_root: expected the folder of a set"):
        shard_data(["--output_dir", str(tmp_path / "out")])
    with pytest.raises(InputError, match="got none, in"):
        shard_data(["--data_root", str(tmp_path), "--output_dir", str(tmp_path / "out")])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder, or shards"):
        write(plain, tmp_path / "other")
    shutil.copytree(plain, tmp_path / "broken")
    next((tmp_path / "broken").rglob("all_masks.npz")).unlink()
    with pytest.raises(InputError, match=r"expected .*all_masks\.npz, got none"):
        write(tmp_path / "broken", tmp_path / "out")
    assert not (tmp_path / "out").exists()
