"""`infer/inpaint.py` with an image prompt that is missing: who writes it, once; without an answer nothing is made."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from caption_server import KEY, files_with
from conftest import moving_mask, noise_video
from test_first_frame import save_stable_diffusion

from videopainter.cli.inpaint import inpaint, read_options
from videopainter.cli.running import run_door
from videopainter.data.video.reader import VideoWriter


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`infer/inpaint.py` on a small clip with a first-frame filler that reads prompts: exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_stable_diffusion(tmp_path, inpainting=True)
    for name, frames in (("clip", noise_video(5)), ("mask", 255 * np.repeat(moving_mask(5)[..., None], 3, -1))):
        with VideoWriter(tmp_path / f"{name}.mkv", fps=8, lossless=True) as writer:
            writer.write(frames.astype(np.uint8))
    flags = "--video clip.mkv --mask mask.mkv --prompt waves --img_inpainting_model pipe --output_path out/result.mkv"
    quick = "--num_inference_steps 1 --inpainting_frames 5 --height 32 --width 48"

    def run(*more: str) -> tuple[object, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_door(lambda: inpaint(read_options([*flags.split(), *quick.split(), *more])))
        return ended.value.code, capsys.readouterr().err

    return run


def test_a_run_has_its_image_prompt_written_once(server, run, tmp_path):
    server.script = ['{"answer": "Foam on a wave."}']
    code, told = run("--llm_model", "some-model")
    assert code == 0, told
    record = json.loads((tmp_path / "out/result.json").read_text())
    assert record["image_inpainting_prompt"] == "Foam on a wave."
    assert record["video_inpainting_prompt"] == "waves"
    assert [note["text"] for note in record["captions"]] == ["Foam on a wave."]
    assert "waves" in json.dumps(server.requests[0]["messages"])
    code, told = run("--llm_model", "some-model")
    assert (code, len(server.requests)) == (0, 1)
    assert "finished already" in told
    code, told = run("--llm_model", "replay:out/result.json")
    assert code == 2, "a result of these answers would replace them"
    shutil.copy(tmp_path / "out/result.json", tmp_path / "answers.json")
    code, told = run("--llm_model", "replay:answers.json")
    assert (code, len(server.requests)) == (0, 1)
    assert "finished already" in told, "who wrote the prompt does not change a pixel"
    assert not files_with(KEY, tmp_path)
    assert KEY not in told


def test_a_run_without_an_answer_makes_nothing(server, run, tmp_path):
    server.otherwise = ("status", 401, f"no such key: {KEY}")
    code, told = run("--llm_model", "some-model")
    assert code == 2
    assert told.count("\n") == 1
    assert "401" in told
    assert not (tmp_path / "out").exists() or not [p for p in (tmp_path / "out").iterdir() if p.name[0] != "."]
    assert not files_with(KEY, tmp_path)
    assert KEY not in told


def test_nobody_is_asked_for_what_nobody_reads(server, run):
    code, told = run("--llm_model", "some-model", "--image_prompt", "a rock")
    assert code == 0, told
    code, told = run("--llm_model", "some-model", "--img_inpainting_model", "opencv", "--overwrite")
    assert code == 0, told
    assert not server.requests
