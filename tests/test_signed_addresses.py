"""Addresses with a signature in their query: of shards, and of downloads that go on under a new one."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from fsspec.registry import _registry
from fsspec.spec import AbstractFileSystem
from test_shards import TRAIN, own_cache, plain, sharded, training_set  # noqa: F401 (fixtures)

from videopainter.data.training import shards
from videopainter.data.training.sample_order import SampleKey
from videopainter.preparation.download.part import PartOrigin


class Signed(AbstractFileSystem):
    """A web server's folder whose files need a signature."""

    protocol = "https"
    folder, asked = Path(), []

    @classmethod
    def _strip_protocol(cls, path):
        return path

    def _open(self, path, *args, **kwargs):
        name, _, signature = path.partition("?")
        Signed.asked.append(name.rpartition("/")[2])
        if not name.startswith("https://host/set/") or not signature.startswith("token=secret"):
            raise FileNotFoundError(path)
        return BytesIO((Signed.folder / name.removeprefix("https://host/set/")).read_bytes())


def test_shards_behind_a_signature(plain, sharded, monkeypatch):  # noqa: F811
    monkeypatch.setitem(_registry, "https", Signed)
    monkeypatch.setattr(Signed, "folder", sharded)
    key = SampleKey(epoch=0, row=1, single=False)
    for number in (1, 2):  # signed anew, the files that are here are still theirs
        Signed.asked.clear()
        sample = training_set(plain / TRAIN, f"https://host/set/?token=secret{number}&x=/")[key]
        assert not sample.replaced and len(Signed.asked) == (3 if number == 1 else 1)
        np.testing.assert_array_equal(sample.frames, training_set(plain / TRAIN)[key].frames)
    with pytest.raises(shards.StorageError) as error:
        training_set(plain / TRAIN, "https://host/set?token=wrong")
    assert "https://host/set/shards.csv" in str(error.value) and "wrong" not in str(error.value)


def test_a_part_goes_on_under_a_new_signature_only_where_the_server_can_tell():
    known, length = PartOrigin("https://a/v.mp4?s=1", '"tag"', 7), PartOrigin("https://a/v.mp4?s=1", total=7)
    assert known.can_go_on("https://a/v.mp4?s=2") and length.can_go_on("https://a/v.mp4?s=1")
    assert not length.can_go_on("https://a/v.mp4?s=2") and not known.can_go_on("https://a/w.mp4?s=1")
