"""Whole runs of the inpainting command on the tiny checkpoint: own files, rows, processes, kills, bash scripts."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from shells import Command, command_of

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.images import write_image
from videopainter.data.video.reader import VideoWriter, open_video
from videopainter.files import fingerprint
from videopainter.models.checkpoint_files import read_config
from videopainter.models.id_adapter import IDAdapter
from videopainter.runs.weights import lora_ranks

REPO = Path(__file__).resolve().parents[1]
# Small and quick: one step, windows of 5 frames.
QUICK = ("--num_inference_steps", "1", "--inpainting_frames", "5", "--height", "32", "--width", "48", "--quiet")


def door(*arguments: object, cwd: Path) -> Command:
    variables = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cwd / "cache")}
    return Command(cwd, [], str(REPO / "infer/inpaint.py"), [str(argument) for argument in arguments], variables)


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """The command without a process of its own (imports take seconds): its lines on stderr."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: object, code: int = 0) -> list[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run_door(lambda: inpaint(read_options([str(argument) for argument in arguments])))
        errors = capsys.readouterr().err
        assert exit_.value.code == code, errors
        return errors.splitlines()

    return run


def scene(count: int, height: int, width: int) -> np.ndarray:
    """Smooth colours that move, with a little noise: uint8 (T, H, W, 3)."""
    t, y, x = np.meshgrid(np.arange(count), np.arange(height), np.arange(width), indexing="ij")
    colours = np.stack([x * 4 + t * 3, y * 4, x + y + t * 5], -1) % 256
    return (colours * 0.8 + np.random.default_rng(0).integers(0, 40, colours.shape)).astype(np.uint8)


def box(count: int, height: int, width: int) -> np.ndarray:
    masks = np.zeros((count, height, width), bool)
    masks[:, height // 4 : -height // 4, width // 4 : -width // 4] = True
    return masks


def write_pair(
    folder: Path, count: int, height: int, width: int, fps: Fraction | int, stem: str = "clip"
) -> tuple[Path, Path]:
    """A video without loss, and its mask."""
    video, mask = folder / f"{stem}.mkv", folder / f"{stem} mask.mkv"
    for path, frames in (
        (video, scene(count, height, width)),
        (mask, np.repeat(box(count, height, width)[..., None], 3, -1) * np.uint8(255)),
    ):
        with VideoWriter(path, fps=fps, lossless=True) as writer:
            writer.write(frames)
    return video, mask


def add_sound(video: Path, output: Path, seconds: float) -> None:
    """A copy of `video` with a tone."""
    rate = 44100
    with av.open(str(video)) as source, av.open(str(output), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        tone = target.add_stream("aac", rate=rate, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
        for begin_ in range(0, int(seconds * rate), 1024):
            wave = np.sin(np.arange(begin_, begin_ + 1024) * 440 * 2 * np.pi / rate).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, begin_
            target.mux(tone.encode(frame))
        target.mux(tone.encode(None))


def test_own_files_in_a_folder_with_spaces(tmp_path: Path, run):
    """Portrait, odd size, 23.976 fps, sound: same rate, size and length, background untouched, a full record."""
    folder = tmp_path / "my clips"
    folder.mkdir()
    fps = Fraction(24000, 1001)
    silent, mask = write_pair(folder, 7, 51, 35, fps)
    video = folder / "with sound.mkv"
    add_sound(silent, video, 7 / 23.976)
    flags = [
        "--video",
        video,
        "--mask",
        mask,
        "--prompt",
        "a wall",
        "--output_path",
        folder / "my result.mkv",
        "--lossless",
    ]
    run(*flags, *QUICK, "--save_comparison", "--contact_sheet")

    result = open_video(folder / "my result.mkv")
    assert (len(result), result.height, result.width, result.fps) == (7, 51, 35, fps)
    with av.open(str(folder / "my result.mkv")) as container:
        assert len(container.streams.audio) == 1
    frames, hole = scene(7, 51, 35), box(7, 51, 35)
    np.testing.assert_array_equal(result.read(0, 7)[~hole], frames[~hole])
    assert (result.read(0, 7)[hole] != frames[hole]).mean() > 0.5
    comparison = open_video(folder / "my result_comparison.mp4")
    assert (len(comparison), comparison.width) == (7, 4 * 35)
    assert (folder / "my result_contact_sheet.png").stat().st_size > 1000
    assert not list(folder.glob("*.partial"))
    check_record(json.loads((folder / "my result.json").read_text()), video)

    # Again: nothing to do; other settings: refused, unless told to.
    before = (folder / "my result.mkv").stat().st_mtime_ns
    assert "finished already" in run(*flags, *QUICK)[-1]
    [line] = run(*flags, *QUICK, "--seed", "7", code=2)
    assert "other settings" in line
    assert (folder / "my result.mkv").stat().st_mtime_ns == before
    run(*flags, *QUICK, "--seed", "7", "--overwrite")
    assert json.loads((folder / "my result.json").read_text())["seed"] == 7


def check_record(record: dict, video: Path) -> None:
    released = [
        "path",
        "mask_id",
        "start_frame",
        "end_frame",
        "fps",
        "video_inpainting_prompt",
        "image_inpainting_prompt",
    ]
    assert list(record)[:7] == released
    assert record["video_inpainting_prompt"] == "a wall"
    assert (record["start_frame"], record["end_frame"], record["frames"]) == (0, 7, 7)
    assert record["seed"] == 42
    assert record["recipe"]["settings"]["num_frames"] == 5
    assert len(record["inputs"][str(video)]) == 64
    for role in ("model_path", "inpainting_branch"):
        assert all(len(digest) == 64 for digest in record["weights"][role]["sha256"].values())
        assert any(name.endswith(".safetensors") for name in record["weights"][role]["sha256"])
    assert {"torch", "diffusers", "videopainter"} <= record["versions"].keys()
    assert set(record["seconds"]) == {"check", "hash", "first_frame", "load", "inpaint"}
    assert record["peak_memory_bytes"]["process"] > 2**20
    assert record["fingerprint"] == fingerprint(record["recipe"])


def test_a_single_frame_and_a_smaller_image_as_mask(tmp_path: Path, run):
    write_image(tmp_path / "photo.png", scene(1, 48, 64)[0])
    write_image(tmp_path / "mask.png", box(1, 24, 32)[0].astype(np.uint8) * 255)
    run("--video", "photo.png", "--mask", "mask.png", "--img_inpainting_model", "none", *QUICK)
    result = open_video(tmp_path / "output.mp4")
    assert (len(result), result.height, result.width) == (1, 48, 64)


def test_a_step_cache_is_part_of_the_record_and_of_the_stamp(tmp_path: Path, run):
    video, mask = write_pair(tmp_path, 5, 32, 48, 8)
    flags = ["--video", video, "--mask", mask, "--prompt", "a wall", *QUICK, "--num_inference_steps", "6"]
    run(*flags, "--output_path", tmp_path / "plain.mp4")
    run(*flags, "--output_path", tmp_path / "cached.mp4", "--cache", "taylorseer")
    plain, cached = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "cached"))
    assert plain["cache"] is None and "cache" not in plain["recipe"]
    assert cached["cache"] == {"name": "taylorseer", "threshold": 3.0} == cached["recipe"]["cache"]
    assert (tmp_path / "plain.mp4").read_bytes() != (tmp_path / "cached.mp4").read_bytes()
    again = ("--output_path", tmp_path / "cached.mp4", "--cache", "taylorseer")
    assert "finished already" in " ".join(run(*flags, *again))
    assert "other settings" in " ".join(run(*flags, *again, "--cache_threshold", "2", code=2))


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """Four rows in the benchmark's layout at 29.97 fps; row 1 has no mask of its id."""
    root = tmp_path_factory.mktemp("bench")
    rows = []
    for number in range(4):
        base = f"{number:012d}_{100 + number}"
        video = root / "pexels/pexels/raw_video" / base[:9] / f"{base}.mp4"
        masks = root / "video_inpainting/pexels" / base / "all_masks.npz"
        masks.parent.mkdir(parents=True)
        with VideoWriter(video, fps=Fraction(30000, 1001)) as writer:
            writer.write(scene(24, 48, 64))
        np.savez_compressed(masks, box(24, 48, 64).astype(np.uint8) * 2)
        rows.append(f"{base}.mp4,0,24,30,{9 if number == 1 else 2},a caption,a patch")
    head = "path,start_frame,end_frame,fps,mask_id,caption,image_inpainting_prompt"
    (root / "bench.csv").write_text("\n".join([head, *rows]) + "\n")
    return root


def test_many_rows_with_a_bad_one(bench: Path, tmp_path: Path, run):
    """One process makes rows 0 and 2, reports row 1, exits with 1, and does nothing a second time."""
    flags = ["--inpainting_mask_meta", bench / "bench.csv", "--inpainting_sample_id", "0-2", "--output_path", "out"]
    lines = run(*flags, "--llm_model", "gpt-4o", *QUICK, code=1)
    failed = [line for line in lines if line.startswith("failed: ")]
    assert len(failed) == 1
    assert "sample 1" in failed[0]
    assert lines[-1].startswith("error: 1 of 3 failed: sample 1")
    results = sorted((tmp_path / "out").glob("*.mp4"))
    assert [path.name[:2] for path in results] == ["0_", "2_"]
    # 24 frames at 29.97 are 7 at 8 fps, of which the first window's 5 are made.
    result = open_video(results[0])
    assert (len(result), result.fps) == (5, 8)
    record = json.loads(results[0].with_suffix(".json").read_text())
    assert (record["mask_id"], record["end_frame"], record["fps"]) == (2, 24, 30)
    assert record["image_inpainting_prompt"] == "a patch"

    again = run(*flags, "--llm_model", "gpt-4o", *QUICK, "--save_comparison", code=1)
    assert sum(line.startswith("finished already") for line in again) == 2
    # Asked for later, the comparison is made from the finished result.
    assert len(open_video(tmp_path / "out" / f"{results[0].stem}_comparison.mp4")) == 5


def test_nothing_can_start_if_all_rows_are_bad(bench: Path, tmp_path: Path, run):
    flags = [
        "--inpainting_mask_meta",
        bench / "bench.csv",
        "--inpainting_sample_id",
        "1",
        "--num_videos_per_prompt",
        "2",
    ]
    lines = run(*flags, *QUICK, "--output_path", "out", code=2)
    assert lines[-1].startswith("error: ")


def test_an_extra_lora_joins_the_id_adapter(tmp_path: Path, run):
    """Each adapter alone, and both, give results of their own: neither takes the other's place."""
    config = read_config(REPO / "ckpt/tiny/CogVideoX-5b-I2V/transformer")
    width = config["num_attention_heads"] * config["attention_head_dim"]
    adapters = {}
    for number, name in enumerate(("id", "lora")):
        adapters[name] = tmp_path / name
        save_adapter(IDAdapter(form="exact", rank=4, alpha=4), adapters[name], width, config["num_layers"], number)
    video, mask = write_pair(tmp_path, 5, 48, 64, 8)
    flags = ["--video", video, "--mask", mask, "--lossless", "--guidance_scale", "1", *QUICK]
    given = {
        "none": [],
        "id": ["--id_adapter_resample_learnable_path", adapters["id"]],
        "lora": ["--lora_path", adapters["lora"], "--lora_rank", "4"],
    }
    results = []
    for names in (["none"], ["id"], ["lora"], ["id", "lora"]):
        output = tmp_path / f"{'_'.join(names)}.mkv"
        run(*flags, *(flag for name in names for flag in given[name]), "--output_path", output)
        results.append(open_video(output).read(1, 5))
    for i, first in enumerate(results):
        for second in results[i + 1 :]:
            assert (first != second).any()


def save_adapter(adapter: IDAdapter, folder: Path, width: int, layers: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(layers):
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            for part, shape in (("A", (adapter.rank, width)), ("B", (width, adapter.rank))):
                key = f"transformer_blocks.{layer}.attn1.{name}.lora_{part}.weight"
                weights[key] = torch.randn(shape, generator=generator) * 0.3
    adapter.save(folder, weights)


def test_two_processes_share_the_rows(bench: Path, tmp_path: Path):
    """As a launcher starts them; the bad row is one process's, both wait for each other and leave with 1."""
    flags = [
        "--inpainting_mask_meta",
        bench / "bench.csv",
        "--inpainting_sample_id",
        "all",
        "--long_video",
        "--output_path",
        "out",
    ]
    first, second = door(*flags, *QUICK, cwd=tmp_path).run(2, tmp_path, code=1)
    assert first.splitlines()[-1].startswith("error: 1 of 4 failed: sample 1")
    assert "failed: sample 1" in second
    results = sorted((tmp_path / "out").glob("*.mp4"))
    assert [path.name[0] for path in results] == ["0", "2", "3"]
    assert [len(open_video(path)) for path in results] == [7, 7, 7]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_gives_the_same_file(tmp_path: Path):
    """Eight windows; killed after the third, the second start denoises only what is missing."""
    video, mask = write_pair(tmp_path, 33, 48, 64, 8)
    steps = 3
    loud = [flag for flag in QUICK if flag != "--quiet"]
    flags = [
        "--video",
        video,
        "--mask",
        mask,
        "--prompt",
        "a wall",
        *loud,
        "--num_inference_steps",
        steps,
    ]
    broken = door(*flags, "--output_path", "broken.mp4", cwd=tmp_path)
    windows = tmp_path / "broken.mp4.partial/windows"
    broken.run_until_killed(tmp_path / "said", "*/window_*", 3)
    assert not (tmp_path / "broken.mp4").exists()
    finished = len(list(windows.glob("window_*")))
    assert finished == 3

    [told] = door(*flags, "--output_path", "whole.mp4", cwd=tmp_path).run(1, tmp_path)
    [told_again] = broken.run(1, tmp_path)
    # The progress bars count the steps.
    assert f"/{8 * steps} " in told
    assert f"/{(8 - finished) * steps} " in told_again
    assert (tmp_path / "broken.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not windows.parent.exists()


def test_the_bash_scripts_run_from_anywhere(bench: Path, tmp_path: Path):
    """Both scripts, with variables from the environment and a flag passed on."""
    tiny = REPO / "ckpt/tiny"
    variables = {
        "model_path": str(tiny / "CogVideoX-5b-I2V"),
        "inpainting_branch": str(tiny / "VideoPainter/checkpoints/branch"),
        "id_adapter_resample_learnable_path": str(tiny / "VideoPainterID/checkpoints"),
        "img_inpainting_model": "opencv",
        "image_or_video_path": str(bench),
        "inpainting_mask_meta": str(bench / "bench.csv"),
        "inpainting_sample_id": "0 2",
        "num_inference_steps": "1",
        "inpainting_frames": "5",
        "dtype": "float32",
        "dilate_size": "3",
        "height": "32",
        "width": "48",
    }
    [rank] = lora_ranks(tiny / "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors")
    environment = os.environ | variables | {"lora_rank": str(rank), "OMP_NUM_THREADS": "1"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    for script, frames, weight in (("inpaint.sh", 5, 0.0), ("inpaint_id_resample.sh", 7, 0.5)):
        out = tmp_path / Path(script).stem
        command = command_of(REPO / "infer" / script, tmp_path, "--quiet", **environment | {"output_path": str(out)})
        assert command.launcher == []
        command.run(1, tmp_path)
        results = sorted(out.glob("*.mp4"))
        assert [len(open_video(path)) for path in results] == [frames, frames]
        settings = json.loads(results[0].with_suffix(".json").read_text())["recipe"]["settings"]
        assert settings["prev_clip_weight"] == weight
