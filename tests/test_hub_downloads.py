"""Weights and data sets from a hub on localhost, through the hub's own library."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest
from hub_server import hub_server
from huggingface_hub import constants
from video_server import video_server

from videopainter.cli.preparation.download_data import download_data
from videopainter.cli.preparation.download_weights import download_weights
from videopainter.errors import InputError
from videopainter.preparation.download import hub, weights
from videopainter.preparation.download.weights import CATALOGUE, TASKS, PublishedWeights, WebFile, names_of
from videopainter.preparation.unpack.folder import PROBLEMS_FILE

TEXT = b"{}"


def packed(*names) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, f"content of {name}")
    return file.getvalue()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An empty folder to stand in, a hub, pauses of milliseconds."""
    branch = "VideoPainter/checkpoints/branch"
    repos = {
        ("models", "TencentARC/VideoPainter"): {
            "README.md": TEXT,
            f"{branch}/config.json": TEXT,
            f"{branch}/diffusion_pytorch_model.safetensors": os.urandom(30_000),
            "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors": os.urandom(20_000),
        },
        ("models", "THUDM/CogVideoX-5b-I2V"): {
            "model_index.json": TEXT,
            "README.md": TEXT,
            "vae/config.json": TEXT,
            "vae/diffusion_pytorch_model.safetensors": os.urandom(5000),
            "tokenizer/spiece.model": b"tokens",
        },
        ("models", "black-forest-labs/FLUX.1-Fill-dev"): {"model_index.json": TEXT},
        ("datasets", "TencentARC/VPBench"): {
            "README.md": b"theirs",
            "our_video_inpaint.csv": b"path,caption\n",
            "pexels.zip": packed("pexels/pexels/raw_video/000000000/000000000000_1.mp4"),
            "videovo.zip": packed("videovo/raw_video/000005000/000005000000.0.mp4"),
            "davis.zip": packed("davis/test.json"),
            "video_inpainting.zip": packed("video_inpainting/pexels/000000000000_1/all_masks.npz", "../evil"),
        },
        ("datasets", "TencentARC/VPData"): {
            "pexels.csv": b"videoId,link\n",
            "videovo_masks/1.zip": packed("000005000000/all_masks.npz"),
            "pexels_masks/1.zip": packed("000000000000_1/all_masks.npz"),
            "pexels_masks/2.zip": packed("000000000001_2/all_masks.npz"),
            "videovo_raw_videos/1.zip": packed("000005000/000005000000.0.mp4"),
        },
    }
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_FIRST_WAIT", 0.01)
    with hub_server(repos) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def files_in(folder: Path) -> set[str]:
    """Without what the hub's library notes for itself."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if ".cache/" not in name and not name.endswith(".partial.lock")}


CKPT = {
    "VideoPainter/checkpoints/branch/config.json",
    "VideoPainter/checkpoints/branch/diffusion_pytorch_model.safetensors",
    "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors",
    "CogVideoX-5b-I2V/model_index.json",
    "CogVideoX-5b-I2V/vae/config.json",
    "CogVideoX-5b-I2V/vae/diffusion_pytorch_model.safetensors",
    "CogVideoX-5b-I2V/tokenizer/spiece.model",
}


def test_weights_as_ckpt_is_documented(run, tmp_path, capsys):
    assert download_weights(["inpaint", "--dry_run", "--keep_free", "1MB"]) == 0
    told = capsys.readouterr().out
    assert "3 files, 50.0 kB, of which 3 (50.0 kB) are missing" in told and "to fetch: 55.0 kB" in told
    assert not run.fetched and not (tmp_path / "ckpt").exists()

    assert download_weights(["inpaint", "--keep_free", "1MB"]) == 0
    assert files_in(tmp_path / "ckpt") == CKPT
    for (_, repo), files in list(run.repos.items())[:2]:
        folder = tmp_path / "ckpt" / ("CogVideoX-5b-I2V" if "Cog" in repo else "")
        assert all((folder / name).read_bytes() == files[name] for name in files if name != "README.md")

    before = dict(run.fetched)
    capsys.readouterr()
    assert download_weights(["inpaint", "--keep_free", "1MB"]) == 0
    assert run.fetched == before and "all there" in capsys.readouterr().out


def test_a_dropped_file_goes_on_where_it_was(run, tmp_path, monkeypatch):
    name = "VideoPainter/checkpoints/branch/diffusion_pytorch_model.safetensors"
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4000)
    run.drops[name] = 12_000
    assert download_weights(["videopainter", "--keep_free", "1MB"]) == 0
    content = run.repos["models", "TencentARC/VideoPainter"][name]
    assert (tmp_path / "ckpt" / name).read_bytes() == content
    assert [asked for file, asked in run.ranges if file == name][1:] == ["bytes=12000-"]


def test_weights_that_were_put_there_by_hand_are_not_fetched_again_nor_replaced(run, tmp_path):
    folder = tmp_path / "ckpt" / "CogVideoX-5b-I2V"
    (folder / "vae").mkdir(parents=True)
    files = run.repos["models", "THUDM/CogVideoX-5b-I2V"]
    name = "vae/diffusion_pytorch_model.safetensors"
    (folder / name).write_bytes(files[name])
    assert download_weights(["cogvideox", "--keep_free", "1MB"]) == 0
    assert not run.fetched[name]

    (folder / ".cache").rename(tmp_path / "cache")
    (folder / name).write_bytes(b"mine, of another length, which took me weeks to train" * 100)
    with pytest.raises(InputError, match=r"found another of .* in its place"):
        download_weights(["cogvideox", "--keep_free", "1MB"])
    assert (folder / name).read_bytes().startswith(b"mine")
    (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert download_weights(["cogvideox", "--keep_free", "1MB"]) == 0
    assert (folder / name).read_bytes() == files[name]


def test_gated_missing_and_unreachable_repositories_are_lines_and_the_rest_comes(run, tmp_path, monkeypatch, capsys):
    run.gated.add("black-forest-labs/FLUX.1-Fill-dev")
    del run.repos["models", "THUDM/CogVideoX-5b-I2V"]
    assert download_weights(["edit", "--keep_free", "1MB"]) == 1
    told = capsys.readouterr()
    assert "flux: black-forest-labs/FLUX.1-Fill-dev: its owner wants the terms accepted" in told.err
    assert "cogvideox: THUDM/CogVideoX-5b-I2V: the hub has no such repository" in told.err
    assert "could not be had: cogvideox, flux" in told.err
    assert len(files_in(tmp_path / "ckpt")) == 3
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert download_weights(["cogvideox", "--dry_run"]) == 1
    assert "the hub cannot be reached" in capsys.readouterr().err


def test_single_files_and_their_digest(run, tmp_path, monkeypatch, capsys):
    with video_server({"a.pth": b"weights", "b.pth": b"weights"}) as web:
        digest = hashlib.sha256(b"weights").hexdigest()[:8]
        a = WebFile(url=web.url("good/a.pth"), path="a.pth", sha256=digest)
        b = WebFile(url=web.url("good/b.pth"), path="b.pth", sha256="00000000")
        monkeypatch.setitem(weights.CATALOGUE, "lpips", PublishedWeights(what="a", source=a))
        monkeypatch.setitem(weights.CATALOGUE, "i3d", PublishedWeights(what="b", source=b))
        monkeypatch.setattr("videopainter.preparation.download.fetching._FIRST_WAIT", 0.01)
        assert download_weights(["lpips", "i3d", "--keep_free", "1MB"]) == 1
    assert files_in(tmp_path / "ckpt") == {"a.pth"}
    assert "its sha256 begins with 00000000" in capsys.readouterr().err


def test_every_task_names_weights_that_there_are():
    assert names_of(["all"]) == list(CATALOGUE)
    assert names_of(["edit", "flux"]) == ["cogvideox", "videopainter", "flux"]
    assert all(name in CATALOGUE for task in TASKS.values() for name in task)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a task"),
        (["inpaintt"], "got 'inpaintt'"),
        (["inpaint", "--workers", "0"], "--workers: expected a number from 1 to 256"),
        (["inpaint", "--keep_free", "0.9EB"], "--keep_free: expected a size"),
        (["inpaint", "--keep_free", "900000TB"], "to fetch it: expected"),
        (["inpaint", "--ckpt", "file"], "--ckpt: expected a folder"),
    ],
)
def test_bad_words(run, tmp_path, words, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        download_weights(words)


# ---- data sets


BENCH = {
    "our_video_inpaint.csv",
    "pexels.zip",
    "videovo.zip",
    "davis.zip",
    "video_inpainting.zip",
    "pexels/pexels/raw_video/000000000/000000000000_1.mp4",
    "videovo/raw_video/000005000/000005000000.0.mp4",
    "davis/test.json",
    "video_inpainting/pexels/000000000000_1/all_masks.npz",
}


def test_vpbench_into_the_documented_tree(run, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("ours")
    assert download_data(["vpbench", "--keep_free", "1MB"]) == 1, "one entry leads out"
    assert files_in(tmp_path / "data") == {*BENCH, "README.md", PROBLEMS_FILE}
    assert (tmp_path / "data" / "README.md").read_text() == "ours" and not (tmp_path / "evil").exists()
    assert "'../evil': its name leads out of the target" in capsys.readouterr().err
    before = dict(run.fetched)
    assert download_data(["vpbench", "--keep_free", "1MB", "--part", "videos,captions"]) == 0
    assert run.fetched == before and "0 files (0 B) unpacked, 3 were there" in capsys.readouterr().out


def test_parts(run, tmp_path):
    assert download_data(["vpbench", "--part", "captions", "--keep_free", "1MB"]) == 0
    assert files_in(tmp_path / "data") == {"our_video_inpaint.csv"}


def test_a_clone_that_was_moved_to_data_is_taken_over(run, tmp_path, capsys):
    """git clone .../VPBench; mv VPBench data: here it becomes data/VPBench."""
    clone = tmp_path / "data" / "VPBench"
    (clone / ".git").mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref")
    for name, content in run.repos["datasets", "TencentARC/VPBench"].items():
        (clone / name).write_bytes(content)
    (clone / "davis.zip").write_text("version https://git-lfs.github.com/spec/v1\n")  # git lfs did not fetch it
    (tmp_path / "data" / "our_video_inpaint.csv").write_text("path,caption\n")  # the same
    assert download_data(["vpbench", "--keep_free", "1MB"]) == 1
    assert files_in(tmp_path / "data") >= BENCH
    assert set(run.fetched) == {"davis.zip"}
    assert (clone / ".git" / "HEAD").exists() and (clone / "README.md").exists()
    told = capsys.readouterr()
    assert "3 files moved" in told.out and "git-lfs pointer" in told.err


@pytest.mark.parametrize("text", ["path,caption\nmine.mp4,mine\n", "path,MYCAPT\n"], ids=["longer", "as long"])
def test_a_table_of_ones_own_is_not_replaced(run, tmp_path, text):
    (tmp_path / "data").mkdir()
    mine = tmp_path / "data" / "our_video_inpaint.csv"
    mine.write_text(text)
    with pytest.raises(InputError, match="found another"):
        download_data(["vpbench", "--keep_free", "1MB"])
    assert mine.read_text() == text and not run.fetched


def test_vpdata_archives_one_by_one(run, tmp_path, monkeypatch, capsys):
    with video_server({}) as web:
        table = f"videoId,link\n1,{web.url('gone/x.mp4')}\n".encode()
        run.repos["datasets", "TencentARC/VPData"]["pexels.csv"] = table
        assert download_data(["vpdata", "--delete_archives", "--keep_free", "1MB"]) == 1
    assert files_in(tmp_path / "data") == {
        ".unpacked.json",
        "pexels.csv",
        "pexels_not_downloaded.csv",
        "video_inpainting/videovo/000005000000/all_masks.npz",
        "video_inpainting/pexels/000000000000_1/all_masks.npz",
        "video_inpainting/pexels/000000000001_2/all_masks.npz",
        "videovo/raw_video/000005000/000005000000.0.mp4",
    }
    assert "1 links gave no video" in capsys.readouterr().err
    before = dict(run.fetched)
    assert download_data(["vpdata", "--part", "masks,captions", "--keep_free", "1MB"]) == 0
    assert run.fetched == before, "what was unpacked and deleted is not fetched again"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected one of vpbench, vpdata, got nothing"),
        (["vpbench", "vpdata"], "expected one of vpbench, vpdata"),
        (["vpbench", "--part", "mask"], "--part: expected masks, captions, videos, got 'mask'"),
        (["vpbench", "--keep_free", "900000TB"], "to fetch and unpack it: expected"),
    ],
)
def test_bad_sets(run, words, message):
    with pytest.raises(InputError, match=message):
        download_data(words)
