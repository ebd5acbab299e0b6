"""The inpainting command without a model: flags, result paths, records of finished work, shares of processes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from videopainter.cli.door import parse_options
from videopainter.cli.inpaint import read_options
from videopainter.cli.running import run_door
from videopainter.errors import InputError
from videopainter.files import fingerprint, write_json
from videopainter.runs.options import INPAINT_OPTIONS
from videopainter.runs.outcomes import Outcomes
from videopainter.runs.plan import build_settings, parse_prompts_at, plan_jobs
from videopainter.runs.processes import Shard
from videopainter.runs.results.manifest import (
    WINDOWS_FOLDER,
    Hasher,
    begin,
    is_finished,
    manifest_path,
    work_dir,
)
from videopainter.runs.results.outputs import output_paths
from videopainter.runs.weights import lora_ranks, resolve_weights

# ---- flags


def test_defaults_are_the_releases():
    options = read_options(["--model_path", "elsewhere"])
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
        read_options(["--help-all"])
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
    assert read_options(["--prompt_at", "1:a", "2:b", "--prompt_at", "3:c"]).prompts.prompt_at == ["1:a", "2:b", "3:c"]


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
    assert output_paths("x/v1.5", rows, [1])[0, 1] == Path("x/v1.5/3_a.mp4")
    assert output_paths("x/{id:04d}.mkv", rows, [1])[1, 1] == Path("x/0005.mkv")
    assert output_paths(None, one, [1], lossless=True) == {(0, 1): Path("output.mkv")}
    for bad in ("x.mp4", "x/{other}.mp4", "x/{id.mp4"):
        with pytest.raises(InputError):
            output_paths(bad, rows, [1])
    with pytest.raises(InputError, match="ending in"):
        output_paths("x/v1.5", one, [1])
    with pytest.raises(InputError, match="a file for each result"):
        output_paths("{name}.mp4", [(1, "same"), (2, "same")], [1])


def test_shards_share_out_everything_once():
    items = list(range(11))
    shares = [Shard(rank=rank, local_rank=rank, size=3).own(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_finds_its_place(monkeypatch):
    assert Shard.from_env() == Shard()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="RANK"):
        Shard.from_env()
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert Shard.from_env() == Shard(rank=3, local_rank=1, size=4)


def test_finished_means_same_recipe(tmp_path: Path):
    result = tmp_path / "r.mp4"
    mine, other = fingerprint({"seed": 1}), fingerprint({"seed": 2})
    assert not is_finished(result, mine, overwrite=False)
    begin(result, mine)
    # Nothing is lost yet with other settings; finished windows would be.
    assert not is_finished(result, other, overwrite=False)
    (work_dir(result) / WINDOWS_FOLDER).mkdir()
    (work_dir(result) / WINDOWS_FOLDER / "window_00000.safetensors").touch()
    with pytest.raises(InputError, match="finished windows"):
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


def test_quantization_names_the_package_it_lacks(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    with pytest.raises(ValueError, match="bitsandbytes"):
        plan_jobs(read_options(["--quantization", "nf4"]))


def test_one_bad_job_of_several_does_not_stop_the_rest(capsys):
    report = Outcomes(several=True)
    with report.attempt("bad"):
        raise InputError("broken")
    with report.attempt("good"):
        report.done.append("good")
    assert report.exit_code(Shard()) == 2
    report.started = True
    assert report.exit_code(Shard()) == 1
    assert capsys.readouterr().err.splitlines()[0] == "failed: bad: broken"
    with pytest.raises(InputError), Outcomes(several=False).attempt("only"):
        raise InputError("broken")
