"""The inpainting command: flags, result paths, records, and whole runs on the tiny checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from videopainter.cli.door import parse_options, run_door
from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.manifest import Hasher, begin, fingerprint, is_finished, manifest_path, work_dir, write_json
from videopainter.cli.options import INPAINT_OPTIONS
from videopainter.cli.outputs import output_paths
from videopainter.cli.plan import Job, build_settings, parse_prompts_at
from videopainter.cli.report import Report
from videopainter.cli.samples import Sample
from videopainter.cli.shards import Shard
from videopainter.cli.weights import lora_ranks, resolve_weights
from videopainter.data.errors import InputError
from videopainter.data.video_io import VideoWriter, open_video

REPO = Path(__file__).resolve().parents[1]
# Small and quick: one step, windows of 5 frames.
QUICK = ("--num_inference_steps", "1", "--inpainting_frames", "5", "--height", "32", "--width", "48", "--quiet")


# ---- flags


def test_defaults_are_the_releases():
    options = read_options([])
    assert (options.sampling.num_inference_steps, options.sampling.guidance_scale, options.sampling.seed) == (
        50,
        6.0,
        42,
    )
    assert (options.clip.inpainting_frames, options.sampling.overlap_frames) == (49, 0)
    assert options.sampling.mask_add
    assert options.sampling.replace_gt
    assert not options.sampling.add_first


def test_the_releases_command_line_is_understood():
    """Every flag of the release's inpaint.py, spelled as there."""
    command = (
        "--prompt p --model_path m --lora_path l --lora_rank 256 --output_path o.mp4 --image_or_video_path v "
        "--num_inference_steps 50 --guidance_scale 6.0 --num_videos_per_prompt 1 --dtype bfloat16 "
        "--generate_type i2v_inpainting --seed 42 --inpainting_branch b --inpainting_mask_meta c.csv "
        "--inpainting_sample_id 3 --inpainting_frames 49 --mask_background --add_first --first_frame_gt --replace_gt "
        "--mask_add --down_sample_fps 8 --overlap_frames 0 --prev_clip_weight 0.5 --img_inpainting_model f "
        "--llm_model gpt-4o --long_video --dilate_size 32 --id_adapter_resample_learnable_path i"
    )
    options = read_options(command.split())
    assert options.clip.inpainting_sample_id == ["3"]
    assert options.clip.long_video
    assert options.prompts.first_frame_gt is True
    assert options.sampling.mask_background
    assert options.sampling.prev_clip_weight == 0.5
    assert options.model.id_adapter_resample_learnable_path == "i"


def test_switches_can_be_turned_off():
    options = read_options(["--no_mask_add", "--replace_gt", "false", "--first_frame_gt", "false"])
    assert not options.sampling.mask_add
    assert not options.sampling.replace_gt
    assert options.prompts.first_frame_gt is False


def test_every_flag_is_documented(capsys):
    with pytest.raises(SystemExit):
        read_options(["--help"])
    text = capsys.readouterr().out
    flags = [name for options in asdict(read_options([])).values() for name in options]
    assert len(flags) > 50
    for name in flags:
        assert f"  --{name}" in text
    assert "--no_mask_add" in text


def test_unknown_flag_suggests_a_known_one():
    with pytest.raises(InputError, match="--guidance_scale"):
        parse_options(INPAINT_OPTIONS, ["--guidance_scle", "6"])


@pytest.mark.parametrize(
    ("filler", "given", "expected"),
    [("opencv", [], True), ("none", [], False), ("opencv", ["--first_frame_gt", "false"], False)],
)
def test_first_frame_is_final_where_one_is_filled(filler: str, given: list[str], expected: bool):
    options = read_options(["--img_inpainting_model", filler, *given])
    assert build_settings(options, 7).first_frame_gt is expected
    assert build_settings(options, 7).seed == 7


def test_prompts_at():
    assert parse_prompts_at(["9: at night: stars", "30:dawn"]) == {9: "at night: stars", 30: "dawn"}
    with pytest.raises(InputError, match="from 1 on"):
        parse_prompts_at(["0:first"])


def test_door_turns_errors_into_exit_codes(capsys):
    def fails(error: BaseException):
        def main() -> int:
            raise error

        return main

    for error, code in ((InputError("two\nlines"), 2), (KeyboardInterrupt(), 130)):
        with pytest.raises(SystemExit) as exit_:
            run_door(fails(error))
        assert exit_.value.code == code
        assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(TypeError):
        run_door(fails(TypeError("a bug keeps its traceback")))


# ---- results, records, shards


def test_output_paths():
    one = [(None, "clip")]
    rows = [(3, "a"), (5, "b")]
    assert output_paths("x/y.mp4", one, [42]) == {(0, 42): Path("x/y.mp4")}
    assert output_paths(None, one, [42]) == {(0, 42): Path("output.mp4")}
    assert output_paths("x", one, [42]) == {(0, 42): Path("x/clip.mp4")}
    assert output_paths("x", one, [42, 43]) == {(0, s): Path(f"x/clip_seed{s}.mp4") for s in (42, 43)}
    assert output_paths("x", rows, [1]) == {(0, 1): Path("x/3_a.mp4"), (1, 1): Path("x/5_b.mp4")}
    assert output_paths("x/{id:04d}.mkv", rows, [1])[1, 1] == Path("x/0005.mkv")
    assert output_paths(None, one, [1], lossless=True) == {(0, 1): Path("output.mkv")}
    for bad in ("x.mp4", "x/{other}.mp4", "x/{id.mp4"):
        with pytest.raises(InputError):
            output_paths(bad, rows, [1])
    with pytest.raises(InputError, match="two results"):
        output_paths("{name}.mp4", [(1, "same"), (2, "same")], [1])


def test_shards_share_out_everything_once():
    items = list(range(11))
    shares = [Shard(rank=rank, local_rank=rank, size=3).own(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_finished_means_same_recipe(tmp_path: Path):
    result = tmp_path / "r.mp4"
    mine, other = fingerprint({"seed": 1}), fingerprint({"seed": 2})
    assert not is_finished(result, mine, overwrite=False)
    begin(result, mine)
    with pytest.raises(InputError, match="unfinished"):
        is_finished(result, other, overwrite=False)
    result.touch()
    # Killed between the video and its record: the work folder says whose it is.
    assert not is_finished(result, mine, overwrite=False)
    write_json(manifest_path(result), {"fingerprint": mine})
    (work_dir(result) / "run.json").unlink()
    assert is_finished(result, mine, overwrite=False)
    assert not is_finished(result, other, overwrite=True)
    with pytest.raises(InputError, match="other settings"):
        is_finished(result, other, overwrite=False)
    manifest_path(result).unlink()
    with pytest.raises(InputError, match="something else"):
        is_finished(result, mine, overwrite=False)


def test_work_of_another_run_is_removed(tmp_path: Path):
    result = tmp_path / "r.mp4"
    (begin(result, "a") / "first_frame.png").touch()
    assert (begin(result, "a") / "first_frame.png").exists()
    assert not (begin(result, "b") / "first_frame.png").exists()


def test_hasher_remembers_and_notices_changes(tmp_path: Path):
    file, cache = tmp_path / "w.bin", tmp_path / "cache" / "sha256.json"
    file.write_bytes(b"one")
    first = Hasher(cache).files([file])[str(file)]
    known = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: "remembered" for key in known}))
    assert Hasher(cache).files([file])[str(file)] == "remembered"
    file.write_bytes(b"other")
    assert Hasher(cache).files([file])[str(file)] not in ("remembered", first)


def test_lora_rank_is_checked_against_the_file(tmp_path: Path):
    weights = {"to_q.lora_A.weight": np.zeros((8, 32), np.float32), "to_q.lora_B.weight": np.zeros((32, 8), np.float32)}
    save_file(weights, tmp_path / "pytorch_lora_weights.safetensors")
    assert lora_ranks(tmp_path / "pytorch_lora_weights.safetensors") == {8}
    flags = ["--model_path", "m", "--inpainting_branch", "b", "--lora_path", str(tmp_path), "--lora_rank"]
    assert resolve_weights(read_options([*flags, "8"]).model).lora == str(tmp_path)
    with pytest.raises(InputError, match="rank 8"):
        resolve_weights(read_options([*flags, "256"]).model)


def test_model_needs_its_branch():
    with pytest.raises(InputError, match="--inpainting_branch"):
        resolve_weights(read_options(["--model_path", "m"]).model)


def test_one_bad_job_of_several_does_not_stop_the_rest(capsys):
    def job(name: str) -> Job:
        sample = Sample(row=None, name=name, open=lambda: pytest.fail("not opened here"))
        return Job(sample=sample, seed=1, output=Path(f"{name}.mp4"), label=name)

    report = Report(several=True)
    with report.attempt(job("bad")):
        raise InputError("broken")
    with report.attempt(job("good")):
        report.done.append("good")
    assert report.exit_code(Shard()) == 2
    report.started = True
    assert report.exit_code(Shard()) == 1
    assert capsys.readouterr().err.splitlines()[0] == "failed: bad: broken"
    with pytest.raises(InputError), Report(several=False).attempt(job("only")):
        raise InputError("broken")


# ---- whole runs of the real command


def start(*arguments: object, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(REPO / "infer/inpaint.py"), *map(str, arguments)]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.Popen(command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """The command without a process of its own (imports take seconds): its lines on stderr."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)

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


def test_a_single_frame_and_one_image_as_mask(tmp_path: Path, run):
    from videopainter.data.images import write_image

    write_image(tmp_path / "photo.png", scene(1, 48, 64)[0])
    write_image(tmp_path / "mask.png", box(1, 48, 64)[0].astype(np.uint8) * 255)
    run("--video", "photo.png", "--mask", "mask.png", "--img_inpainting_model", "none", *QUICK)
    result = open_video(tmp_path / "output.mp4")
    assert (len(result), result.height, result.width) == (1, 48, 64)


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
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        start(*flags, *QUICK, cwd=tmp_path, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], errors
    assert errors[0].splitlines()[-1].startswith("error: 1 of 4 failed: sample 1")
    assert "failed: sample 1" in errors[1]
    results = sorted((tmp_path / "out").glob("*.mp4"))
    assert [path.name[0] for path in results] == ["0", "2", "3"]
    assert [len(open_video(path)) for path in results] == [7, 7, 7]


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_killed_run_goes_on_and_gives_the_same_file(tmp_path: Path):
    video, mask = write_pair(tmp_path, 33, 48, 64, 8)
    flags = ["--video", video, "--mask", mask, "--prompt", "a wall", *QUICK, "--num_inference_steps", "4"]
    whole = start(*flags, "--output_path", "whole.mp4", cwd=tmp_path)
    broken = start(*flags, "--output_path", "broken.mp4", cwd=tmp_path)
    windows = tmp_path / "broken.mp4.partial/windows"
    kill_after(3, windows, broken)
    assert not (tmp_path / "broken.mp4").exists()
    finished = {path: path.stat().st_mtime_ns for path in windows.glob("window_*")}
    assert 3 <= len(finished) < 8

    again = start(*flags, "--output_path", "broken.mp4", cwd=tmp_path)
    kill_after(len(finished) + 1, windows, again)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    for process in (whole, start(*flags, "--output_path", "broken.mp4", cwd=tmp_path)):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert (tmp_path / "broken.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert not windows.parent.exists()


def kill_after(count: int, windows: Path, process: subprocess.Popen[str]) -> None:
    """Kill a run as soon as `count` of its windows are finished."""
    until = time.monotonic() + 120
    while len(list(windows.glob("window_*"))) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=60)


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
    }
    [rank] = lora_ranks(tiny / "VideoPainterID/checkpoints/pytorch_lora_weights.safetensors")
    environment = os.environ | variables | {"lora_rank": str(rank), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    for script, frames, weight in (("inpaint.sh", 5, 0.0), ("inpaint_id_resample.sh", 7, 0.5)):
        out = tmp_path / script
        command = ["bash", str(REPO / "infer" / script), "--height", "32", "--width", "48", "--quiet"]
        subprocess.run(command, cwd=tmp_path, env=environment | {"output_path": str(out)}, check=True, timeout=300)
        results = sorted(out.glob("*.mp4"))
        assert [len(open_video(path)) for path in results] == [frames, frames]
        settings = json.loads(results[0].with_suffix(".json").read_text())["recipe"]["settings"]
        assert settings["prev_clip_weight"] == weight
