"""Doors on small data, killed at any moment (three times in four by SIGKILL, else by SIGTERM) and started again: the
same results, no file left over, no process either.

python tests/kills.py             forty kills over all doors
python tests/kills.py --kills 6   fewer
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from caption_server import CaptionServer, by_question, serving

from videopainter.files import TEMPORARY_NAME

REPO = Path(__file__).resolve().parents[1]
TIME_LIMIT = 240
END_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """A door: its command for an output folder, what makes its result, which files of it are compared, and what else
    may be wrong in the end."""

    command: Callable[[Path], list[str]]
    compared: Callable[[Path], bool] = lambda path: True
    resumed: tuple[str, ...] = ()
    wrong: Callable[[], list[str]] = list


def door(script: str, *flags: object) -> list[str]:
    return [sys.executable, str(REPO / script), *map(str, flags)]


def make_data(folder: Path) -> Path:
    """A set of small clips, which is what all other doors work on."""
    look = shlex.split("--num_frames 9 --height 48 --width 64 --processes 1")
    counts = shlex.split("--clips 6 --val_clips 0 --test_clips 2")
    subprocess.run(
        door("data_utils/make_synthetic.py", "--output_dir", folder, *counts, *look), check=True, timeout=120
    )
    return folder


def asked_again(server: CaptionServer) -> list[str]:
    """Questions of a pair run that were asked again although they had been answered. One at which a kill came may be:
    then it is the next one, too. Each output folder has a key of its own."""
    last: dict[str, str] = {}
    asked, wrong = set(), []
    for request in server.requests:
        key, question = request["key"], json.dumps(request["messages"])
        if (key, question) in asked and last[key] != question:
            wrong.append(f"asked again: {key}: {question[-200:]}")
        asked.add((key, question))
        last[key] = question
    return wrong


def cases(data: Path, work: Path, server: CaptionServer | None = None) -> dict[str, Case]:
    """Every door that writes more than a picture; with a server of captions also the one that asks it."""
    pairs = {} if server is None else {"edit_bench": pairs_case(data, server)}
    return files_cases(data, work) | pairs


def pairs_case(data: Path, server: CaptionServer) -> Case:
    """Answers are kept in a folder of each output's own, so that all are asked for anew."""
    server.otherwise = by_question
    flags = shlex.split(
        "--inpainting_sample_id 0-3 --video_editing_instruction auto --llm_model some --judge_model some "
        "--num_inference_steps 2 --guidance_scale 1 --height 48 --width 64 --inpainting_frames 9 --quiet --device cpu"
    )
    return Case(
        command=lambda out: [
            *("env", f"OPENAI_BASE_URL={server.url}", f"OPENAI_API_KEY={out.name}", f"XDG_CACHE_HOME={out}.cache"),
            *door("infer/edit_bench.py", "--inpainting_mask_meta", data / "pexels_videovo_train_dataset.csv"),
            *(*flags, "--output_path", str(out)),
        ],
        compared=lambda path: path.suffix in (".mp4", ".npz", ".csv", ".md"),
        wrong=lambda: asked_again(server),
    )


def files_cases(data: Path, work: Path) -> dict[str, Case]:
    """Those that ask nobody."""
    tiny = REPO / "ckpt/tiny/CogVideoX-5b-I2V"
    video, mask = REPO / "data/demo/video.mp4", REPO / "data/demo/mask.mp4"
    sampling = shlex.split("--img_inpainting_model none --guidance_scale 1 --num_inference_steps 2 --device cpu")
    rows = ["--image_or_video_path", data / "videovo/raw_video"] if (data / "videovo/raw_video").is_dir() else []
    metrics = shlex.split("--metrics masked_psnr masked_ssim")
    sample = shlex.split("--height 48 --width 64 --max_num_frames 9")
    return {
        "inpaint": Case(
            command=lambda out: door(
                "infer/inpaint.py", "--video", video, "--mask", mask, "--prompt", "a wall", *sampling,
                "--height", 64, "--width", 96, "--inpainting_frames", 13, "--save_comparison", "--contact_sheet",
                "--output_path", out / "result.mp4",
            ),
            compared=lambda path: path.suffix != ".json",
        ),
        "segment": Case(
            command=lambda out: door(
                "data_utils/segment.py", "--video", video, "--box", "40,20,90,60", "--object", "2: box 10,10,40,50,4",
                "--output", out / "masks.npz", "--quiet",
            ),
            compared=lambda path: path.name == "masks.npz" or path.suffix == ".png",
        ),
        "make_synthetic": Case(
            command=lambda out: door(
                "data_utils/make_synthetic.py", "--output_dir", out, "--clips", 12, "--val_clips", 1,
                "--num_frames", 9, "--height", 64, "--width", 96, "--processes", 2,
            ),
        ),
        "cache_latents": Case(
            command=lambda out: door(
                "train/cache_latents.py", "--pretrained_model_name_or_path", tiny, "--meta_file_path",
                data / "pexels_videovo_train_dataset.csv", "--latent_cache", out, *sample, "--shard_megabytes", 0.01,
                "--variants", 2, "--dataloader_num_workers", 1, "--device", "cpu", "--quiet",
            ),
        ),
        "evaluate": Case(
            command=lambda out: door(
                "evaluate/evaluate.py", "--sets", f"standard={data / 'our_video_inpaint.csv'}", *rows, *sampling,
                "--inpainting_frames", 9, "--output_path", out, *metrics, "--save_frames", "--html",
            ),
            compared=lambda path: path.suffix in (".csv", ".mkv", ".png"),
        ),
        "score": Case(
            command=lambda out: door(
                "evaluate/score.py", "--results", work / "results", "--originals", work / "originals", "--masks",
                work / "masks", "--output_path", out, *metrics, "--save_frames", "--html", "--device", "cpu",
            ),
            compared=lambda path: path.suffix in (".csv", ".png", ".mp4"),
        ),
        "train": Case(
            command=lambda out: door(
                "train/train_cogvideox_inpainting_i2v_video.py", "--pretrained_model_name_or_path", tiny,
                "--meta_file_path", data / "pexels_videovo_train_dataset.csv", "--output_dir", out, *sample,
                "--max_train_steps", 6, "--checkpointing_steps", 1, "--checkpoints_total_limit", 2, "--mask_add",
                "--report_to", "none", "--dataloader_num_workers", 1, "--train_batch_size", 1, "--logging_steps", 1,
                "--cpu",
            ),
            compared=lambda path: path.suffix == ".safetensors",
            resumed=("--resume_from_checkpoint", "latest"),
        ),
    }  # fmt: skip


def prepare_score(work: Path) -> None:
    """Results of some other program: here the demo's own clip."""
    for name, source in (("results", "video"), ("originals", "video"), ("masks", "mask")):
        (work / name).mkdir(parents=True)
        for copy in ("a", "b", "c"):
            shutil.copy(REPO / f"data/demo/{source}.mp4", work / name / f"{copy}.mp4")


def run(command: list[str], log: Path, kill_after: float | None = None, by: signal.Signals = signal.SIGKILL) -> int:
    """The exit code; with `kill_after` a signal after so many seconds, if the command still runs then.

    AssertionError if any process that it started lives on.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        try:
            return process.wait(TIME_LIMIT if kill_after is None else kill_after)
        except subprocess.TimeoutExpired:
            process.send_signal(by)
            process.wait()
            if kill_after is None:
                raise
    if alive := survivors(process.pid):
        raise AssertionError(f"{alive} still run {END_SECONDS} s after {by.name}: {command}")
    return -by


def survivors(session: int) -> list[int]:
    """Processes of a session that do not end within `END_SECONDS`."""
    deadline = time.monotonic() + END_SECONDS
    while alive := [process.pid for process in psutil.process_iter() if _session(process.pid) == session]:
        if time.monotonic() > deadline:
            return alive
        time.sleep(0.1)
    return []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def digests(folder: Path, compared: Callable[[Path], bool]) -> dict[str, str]:
    """{file: sha256} of what is compared."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and compared(path)]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(folder: Path) -> list[str]:
    """What a finished command should not leave."""
    found = [path for path in folder.rglob("*") if TEMPORARY_NAME.fullmatch(path.name) or path.suffix == ".partial"]
    return [str(path.relative_to(folder)) for path in found]


def try_door(name: str, case: Case, folder: Path, kills: int, rng: random.Random) -> list[str]:
    """Kill a door's command `kills` times, each time anew where it had ended by itself; what went wrong."""
    whole, out, log = folder / "whole", folder / "killed", folder / "log"
    folder.mkdir(parents=True)
    begun = time.monotonic()
    if (code := run(case.command(whole), log)) != 0:
        return [f"{name}: exit code {code}: {log.read_text()[-2000:]}"]
    seconds, wanted, wrong = time.monotonic() - begun, digests(whole, case.compared), leftovers(whole)
    done = 0
    for _ in range(5 * kills):
        if done == kills:
            break
        # Starting takes more than half of these short commands: moments after it count twice.
        moment = seconds * max(rng.uniform(0.1, 1), rng.uniform(0.1, 1))
        by = signal.SIGTERM if done % 4 == 3 else signal.SIGKILL
        code = run([*case.command(out), *case.resumed], log, kill_after=moment, by=by)
        done += code == -by
        if code != -by:
            wrong += check(name, case, out, wanted, code, log)
            out = out.with_name(f"{out.name}_")  # it was whole before the kill came
    code = run([*case.command(out), *case.resumed], log)
    wrong += check(name, case, out, wanted, code, log) + case.wrong()
    print(f"{name}: {done} kills in {time.monotonic() - begun:.0f} s, {len(wanted)} files equal", flush=True)
    return wrong


def check(name: str, case: Case, out: Path, wanted: dict[str, str], code: int, log: Path) -> list[str]:
    if code != 0:
        return [f"{name}: exit code {code}: {log.read_text()[-2000:]}"]
    found = digests(out, case.compared)
    other = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    return [
        f"{name}: {what}: {path}" for what, paths in (("differs", other), ("left", leftovers(out))) for path in paths
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--doors", nargs="*", help="some of them alone")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serving() as server:
        folder = Path(name)
        data = make_data(folder / "data")
        prepare_score(folder)
        chosen = {key: case for key, case in cases(data, folder, server).items() if key in (options.doors or [key])}
        wrong = []
        for number, (key, case) in enumerate(chosen.items()):
            share = options.kills // len(chosen) + (number < options.kills % len(chosen))
            if share:
                wrong += try_door(key, case, folder / key, share, random.Random(options.seed + number))
    print(json.dumps(wrong, indent=1) if wrong else "all as without")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
