"""Every mistake a user can make with `infer/inpaint.py`: one line on stderr, exit code 2, soon, by the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import save_file

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.images import write_image
from videopainter.data.video.reader import VideoWriter

REPO = Path(__file__).resolve().parents[1]
FRAMES, HEIGHT, WIDTH = 10, 48, 64
# The promise is 15 s; a checking command that takes longer than this has begun to load a model.
SECONDS = 15


def write_video(path: Path, frames: np.ndarray, fps: Fraction | int = 8) -> Path:
    with VideoWriter(path, fps=fps) as writer:
        writer.write(frames)
    return path


def noise(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, height, width, 3), dtype=np.uint8)


def box(count: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    masks = np.zeros((count, height, width, 3), np.uint8)
    masks[:, height // 4 : height // 2, width // 4 : width // 2] = 255
    return masks


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder of good and bad inputs, made once."""
    root = tmp_path_factory.mktemp("inputs")
    video = write_video(root / "video.mp4", noise(FRAMES))
    write_video(root / "mask.mp4", box(FRAMES))
    write_video(root / "mask_short.mp4", box(FRAMES - 3))
    write_video(root / "mask_tall.mp4", box(FRAMES, height=96))
    write_video(root / "mask_empty.mp4", np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8))
    (root / "text.mp4").write_text("not a video at all\n" * 50)
    (root / "unreadable.mp4").write_bytes(np.random.default_rng(1).bytes(4096))
    (root / "truncated.mp4").write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    (root / "nothing.mp4").touch()
    sound_only(root / "no_frames.mp4")
    (root / "no_images").mkdir()
    ids = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    ids[:, 10:20, 10:30] = 3
    np.savez(root / "all_masks.npz", ids)
    benchmark(root / "bench", video, ids)
    (root / "filler").mkdir()
    (root / "filler" / "model_index.json").write_text('{"_class_name": "StableDiffusionInpaintPipeline"}')
    (root / "not_a_model").mkdir()
    (root / "not_a_model" / "config.json").write_text("{}")
    write_image(root / "wide.png", np.zeros((20, 90, 3), np.uint8))
    (root / "regular_file").touch()
    narrow = {"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight": np.zeros((4, 3), np.float32)}
    save_file(narrow, root / "narrow.safetensors")
    return root


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def benchmark(root: Path, video: Path, ids: np.ndarray) -> None:
    """One good row in the benchmark's layout, and a CSV that lacks a column."""
    videos = root / "videovo/raw_video/000000001"
    masks = root / "video_inpainting/videovo/000000001000"
    videos.mkdir(parents=True)
    masks.mkdir(parents=True)
    (videos / "000000001000.0.mp4").write_bytes(video.read_bytes())
    np.savez(masks / "all_masks.npz", ids)
    row = f"000000001000.0.mp4,0,{FRAMES},8,3"
    (root / "good.csv").write_text(f"path,start_frame,end_frame,fps,mask_id,caption\n{row},a caption\n")
    (root / "no_mask_id.csv").write_text(f"path,start_frame,end_frame,fps,caption\n000000001000.0.mp4,0,{FRAMES},8,x\n")
    (root / "missing_video.csv").write_text(
        "path,start_frame,end_frame,fps,mask_id,caption\n000000009000.0.mp4,0,9,8,3,x\n"
    )


def run_inpaint(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The real command, as a user starts it."""
    command = [sys.executable, str(REPO / "infer/inpaint.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


OWN = ("--video", "{f}/video.mp4", "--mask", "{f}/mask.mp4")
ROW = ("--inpainting_mask_meta", "{f}/bench/good.csv", "--inpainting_sample_id", "0")

# Run by the real command. Each: arguments, and what the line must name.
MISTAKES = {
    "no input": ((), "--video"),
    "truncated mp4": (("--video", "{f}/truncated.mp4", "--mask", "{f}/mask.mp4"), "truncated.mp4"),
    "branch without parts": ((*OWN, "--inpainting_branch", "{f}/not_a_model"), "not_a_model"),
    "unknown flag": ((*OWN, "--inpaint_frames", "49"), "--inpaint_frames"),
}

# The same promise, checked in this process: starting one takes a second each time.
MORE_MISTAKES = {
    "missing video": (("--video", "{f}/gone.mp4", "--mask", "{f}/mask.mp4"), "gone.mp4"),
    "unreadable video": (("--video", "{f}/unreadable.mp4", "--mask", "{f}/mask.mp4"), "unreadable.mp4"),
    "text named mp4": (("--video", "{f}/text.mp4", "--mask", "{f}/mask.mp4"), "text.mp4"),
    "zero frames": (("--video", "{f}/no_frames.mp4", "--mask", "{f}/mask.mp4"), "no_frames.mp4"),
    "mask of another length": (("--video", "{f}/video.mp4", "--mask", "{f}/mask_short.mp4"), "mask_short.mp4"),
    "mask of another shape": (("--video", "{f}/video.mp4", "--mask", "{f}/mask_tall.mp4"), "mask_tall.mp4"),
    "mask empty": (("--video", "{f}/video.mp4", "--mask", "{f}/mask_empty.mp4"), "empty"),
    "mask id absent": (("--video", "{f}/video.mp4", "--mask", "{f}/all_masks.npz", "--mask_id", "7"), "7"),
    "csv lacks a column": ((*ROW, "--inpainting_mask_meta", "{f}/bench/no_mask_id.csv"), "mask_id"),
    "sample out of range": ((*ROW, "--inpainting_sample_id", "5"), "out of range"),
    "frames not 4k+1": ((*OWN, "--inpainting_frames", "48"), "48"),
    "overlap not 4k+1": ((*OWN, "--overlap_frames", "12"), "12"),
    "overlap too large": ((*OWN, "--inpainting_frames", "9", "--overlap_frames", "9"), "9"),
    "model folder without parts": ((*OWN, "--model_path", "{f}/not_a_model"), "not_a_model"),
    "output below a file": ((*OWN, "--output_path", "{f}/regular_file/out.mp4"), "regular_file"),
    "unknown choice": ((*OWN, "--dtype", "float8"), "float8"),
    "both inputs": ((*OWN, *ROW), "both"),
    "no mask": (("--video", "{f}/video.mp4"), "--mask"),
    "missing mask": (("--video", "{f}/video.mp4", "--mask", "{f}/gone.png"), "gone.png"),
    "empty file": (("--video", "{f}/nothing.mp4", "--mask", "{f}/mask.mp4"), "nothing.mp4"),
    "folder without frames": (("--video", "{f}/no_images", "--mask", "{f}/mask.mp4"), "no_images"),
    "csv missing": ((*ROW, "--inpainting_mask_meta", "{f}/bench/gone.csv"), "gone.csv"),
    "csv without samples": (("--inpainting_mask_meta", "{f}/bench/good.csv"), "--inpainting_sample_id"),
    "sample not a number": ((*ROW, "--inpainting_sample_id", "first"), "first"),
    "row's video missing": ((*ROW, "--inpainting_mask_meta", "{f}/bench/missing_video.csv"), "000000009000.0.mp4"),
    "data folder missing": ((*ROW, "--image_or_video_path", "{f}/gone"), "gone"),
    "mask with a csv": ((*ROW, "--mask", "{f}/mask.mp4"), "--mask"),
    "height not a multiple of 16": ((*OWN, "--height", "50", "--width", "64"), "50"),
    "height without width": ((*OWN, "--height", "48"), "width"),
    "no steps": ((*OWN, "--num_inference_steps", "0"), "num_inference_steps"),
    "no videos": ((*OWN, "--num_videos_per_prompt", "0"), "--num_videos_per_prompt"),
    "strength": ((*OWN, "--strength", "1.5"), "strength"),
    "rate not a number": ((*OWN, "--down_sample_fps", "fast"), "fast"),
    "negative dilation": ((*OWN, "--dilate_size", "-3"), "--dilate_size"),
    "model folder missing": ((*OWN, "--model_path", "{f}/no_model"), "no_model"),
    "id adapter missing": ((*OWN, "--id_adapter_resample_learnable_path", "{f}/not_a_model"), "not_a_model"),
    "lora missing": ((*OWN, "--lora_path", "{f}/gone.safetensors"), "gone.safetensors"),
    "lora no safetensors": ((*OWN, "--lora_path", "{f}/text.mp4"), "text.mp4"),
    "lora of another width": ((*OWN, "--lora_path", "{f}/narrow.safetensors"), "3 wide"),
    "rank of nothing": ((*OWN, "--lora_rank", "256"), "--lora_rank"),
    "weight of no memory": ((*OWN, "--prev_clip_weight", "0.5"), "--prev_clip_weight"),
    "filler missing": ((*OWN, "--img_inpainting_model", "{f}/no_filler"), "no_filler"),
    "first frame missing": ((*OWN, "--first_frame", "{f}/gone.png"), "gone.png"),
    "first frame of another shape": ((*OWN, "--first_frame", "{f}/wide.png"), "wide.png"),
    "first_frame_gt without one": ((*OWN, "--img_inpainting_model", "none", "--first_frame_gt"), "--first_frame_gt"),
    "nobody to write prompts": (
        (*OWN, "--img_inpainting_model", "{f}/filler", "--llm_model", "replay:gone.json"),
        "gone.json",
    ),
    "prompt_at without frame": ((*OWN, "--prompt_at", "later"), "--prompt_at"),
    "prompt_at after the end": ((*OWN, "--prompt_at", "10:later"), "10"),
    "output is no video": ((*OWN, "--output_path", "out.txt"), "out.txt"),
    "output is the input": ((*OWN, "--output_path", "{f}/video.mp4"), "video.mp4"),
    "one file for two seeds": ((*OWN, "--num_videos_per_prompt", "2", "--output_path", "x.mp4"), "x.mp4"),
    "lossless mp4": ((*OWN, "--lossless", "--output_path", "x.mp4"), ".mkv"),
    "unknown generate_type": ((*OWN, "--generate_type", "t2v"), "t2v"),
    "word without a flag": (("video.mp4", *OWN), "video.mp4"),
    "abbreviated flag": ((*OWN, "--num_inference", "3"), "--num_inference"),
}


def fill_in(arguments: tuple[str, ...], files: Path, tmp_path: Path) -> list[str]:
    filled = [argument.replace("{f}", str(files)) for argument in arguments]
    return filled if "--output_path" in filled else [*filled, "--output_path", str(tmp_path / "result.mp4")]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_gives_one_line_and_code_2(mistake: str, files: Path, tmp_path: Path):
    arguments, named = MISTAKES[mistake]
    start = time.perf_counter()
    done = run_inpaint(*fill_in(arguments, files, tmp_path), cwd=tmp_path)
    seconds = time.perf_counter() - start
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert named in lines[0]
    assert not list(tmp_path.iterdir()), "a mistake must leave nothing behind"
    assert seconds < SECONDS


@pytest.mark.parametrize("mistake", MORE_MISTAKES)
def test_mistake_is_named_before_anything_runs(mistake: str, files: Path, tmp_path: Path, monkeypatch, capfd):
    arguments, named = MORE_MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run_door(lambda: inpaint(read_options(fill_in(arguments, files, tmp_path))))
    lines = capfd.readouterr().err.splitlines()
    assert exit_.value.code == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert named in lines[0]
    assert not list(tmp_path.iterdir())


def test_debug_variable_shows_the_traceback(files: Path, tmp_path: Path):
    command = [sys.executable, str(REPO / "infer/inpaint.py"), "--video", str(files / "gone.mp4"), "--mask", "x"]
    environment = os.environ | {"VIDEOPAINTER_DEBUG": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_checking_needs_no_torch(files: Path, tmp_path: Path):
    """Why mistakes are told soon: nothing heavy is imported before the clip is known to be good."""
    program = (
        "import sys\n"
        "from videopainter.cli.inpaint import inpaint, read_options\n"
        "try:\n    inpaint(read_options(sys.argv[1:]))\n"
        "except ValueError as error:\n    print(error)\n"
        "print(sorted({'torch', 'diffusers'} & set(sys.modules)))\n"
    )
    arguments = ["--video", str(files / "video.mp4"), "--mask", str(files / "mask_empty.mp4")]
    arguments += ["--output_path", str(tmp_path / "x.mp4")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    message, modules = done.stdout.splitlines()
    assert "empty" in message
    assert modules == "[]"
