"""A set in shards: what training, WebDataset and `datasets` read from them, from a folder and from object storage."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from videopainter.cli.preparation.shard_data import shard_data
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.data.synthetic.writing import write_set
from videopainter.data.training import shards
from videopainter.data.training.sample_order import SampleKey
from videopainter.data.training.training_set import TrainingSet, TrainingSetOptions
from videopainter.errors import InputError

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
    assert len(names) == 3 and names[0] == "test-000000.tar"
    check_equal(training_set(sharded / TRAIN), training_set(plain / TRAIN))


def test_training_reads_object_storage(plain, sharded):
    """fsspec's storage in memory stands for any other one."""
    import fsspec

    storage = fsspec.filesystem("memory")
    storage.put(str(sharded), "/bucket/shards", recursive=True)
    check_equal(training_set(plain / TRAIN, "memory://bucket/shards"), training_set(plain / TRAIN))
    storage.rm("/bucket/shards/train-000000.tar")
    shutil.rmtree(shards.user_cache())
    sample = training_set(plain / TRAIN, "memory://bucket/shards")[SampleKey(epoch=0, row=0, single=False)]
    assert sample.clip_row == 2 and "expected a file that can be read" in sample.replaced[0].reason


def test_what_was_fetched_is_kept_and_makes_room(sharded, tmp_path, monkeypatch):
    files = shards.ShardedFiles(str(sharded), 1, tmp_path / "kept")
    names = [Path(name) for name in files._places]
    first = files.find(names[0])
    assert first is not None and first.stat().st_size == files._places[names[0].as_posix()].size
    monkeypatch.setattr(files, "_read", None)
    assert files.find(names[0]) == first and files.find(Path("nowhere.mp4")) is None
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
    assert sorted(file.name for file in (tmp_path / "again").glob("*.tar")) == ["test-000000.tar", "train-000000.tar"]
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
