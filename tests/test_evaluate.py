"""Evaluation from flags to reports, on rendered clips and the tiny checkpoint: made, resumed, killed, scored alone."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import clean_process
from shells import command_of, die_after

from videopainter.cli import evaluate, score
from videopainter.cli.running import run_door
from videopainter.data.images import write_image
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.data.synthetic.writing import write_set
from videopainter.data.video.reader import VideoWriter, open_video
from videopainter.evaluation.finding import entries_of
from videopainter.evaluation.pairs import borders_of
from videopainter.evaluation.scoring import Scoring
from videopainter.metrics.catalog import CSV_COLUMNS, LPIPS
from videopainter.metrics.networks.downloads import WEIGHTS
from videopainter.metrics.report.summary import load_summary

REPO = Path(__file__).resolve().parents[1]
SIZE = ("--height", "32", "--width", "48", "--resize_to", "32x48")
QUICK = ("--num_inference_steps", "1", "--guidance_scale", "1", "--inpainting_frames", "5", *SIZE, "--quiet")


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """Three rendered clips of 12 frames at 8 fps."""
    folder = tmp_path_factory.mktemp("bench")
    look = SyntheticLook(num_frames=12, height=48, width=64, seed=3)
    write_set(folder, {"train": 3, "val": 0, "test": 0, "long": 0, "long_test": 0}, look, processes=1)
    return folder / "pexels_videovo_train_dataset.csv"


def start_evaluation(words: list[str]) -> int:
    return evaluate.evaluate(evaluate.read_options(words))


def evaluation_killed_after(words: list[str], pattern: str) -> None:
    die_after(pattern, 1)
    start_evaluation(words)


def start_scoring(words: list[str]) -> int:
    return score.score(*score.read_options(words))


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """A door without a process of its own: its lines on stderr."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()

    def run(door, *arguments: object, code: int = 0) -> list[str]:
        words = [str(word) for word in arguments]
        capsys.readouterr()
        words += ["--ckpt", "weights"]
        main = start_evaluation if door is evaluate else start_scoring
        with pytest.raises(SystemExit) as exit_:
            run_door(lambda: main(words))
        errors = capsys.readouterr().err
        assert exit_.value.code == code, errors
        return [line for line in errors.splitlines() if not line.startswith(("left out", "Failed to load CPU"))]

    return run


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def means(folder: Path) -> dict[str, float]:
    metrics = load_summary(folder / "metrics.json")["metrics"]
    return {key: metric["mean"] for key, metric in metrics.items() if key not in ("seconds_per_frame", "peak_memory")}


def files_of(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_sweep_is_made_scored_and_reported_and_made_only_once(bench: Path, tmp_path: Path, run):
    flags = ("--sets", f"standard={bench}", "--dilate_sizes", 5, 0, "--replace_gts", "true", "false", *QUICK)
    flags = (*flags, "--inpainting_sample_id", "0-1", "--output_path", "out", "--paste_background", "false")
    lines = run(evaluate, *flags)
    settings = [f"dilate{size}_{kept}" for size in (5, 0) for kept in ("replace", "generate")]
    assert [line.split(":")[0] for line in lines[-4:]] == ["report"] * 4
    assert sorted(path.name for path in Path("out/standard").iterdir()) == sorted(settings)
    for name in settings:
        folder = Path("out/standard") / name
        table = rows_of(folder / "metrics.csv")
        assert list(table[0]) == list(CSV_COLUMNS)
        assert [row["Video_Index"] for row in table] == ["0", "1", "Average"]
        values = [float(row["Masked_PSNR"]) for row in table]
        assert values[2] == pytest.approx(np.mean(values[:2])) and np.isfinite(values).all()
        assert table[0]["LPIPS"] == "" and table[0]["Video_Caption"]
        assert "squeezenet" in (folder / "metrics.md").read_text()
        assert "paper, VPBench-S" in (folder / "metrics.md").read_text()
        page = (folder / "report/index.html").read_text()
        assert len(list((folder / "report/media").iterdir())) == 6 and "<video" in page
        assert '"outlines": ["M' in page
        record = json.loads(next((folder / "videos").glob("0_*.json")).read_text())
        assert record["recipe"]["settings"]["replace_gt"] is name.endswith("replace")
        assert record["frames"] == 5 and record["height"] == 32
    assert len({tuple(means(Path("out/standard") / name).items()) for name in settings}) == 4
    assert len(rows_of(Path("out/sweep.csv"))) == 4

    before = files_of(tmp_path / "out")
    again = run(evaluate, *flags)
    assert sum(line.startswith("finished already") for line in again) == 8
    assert not any(line.startswith("scored anew") for line in again)
    kept = [name for name in before if "/videos/" in name or "/scores/" in name or "/players/" in name]
    assert kept and all(files_of(tmp_path / "out")[name] == before[name] for name in kept)


def test_other_settings_are_noticed_and_nothing_is_lost(bench: Path, tmp_path: Path, run):
    flags = ("--sets", f"standard={bench}", "--inpainting_sample_id", "0-1", *QUICK, "--output_path", "out")
    run(evaluate, *flags)
    before = {name: time for name, time in files_of(tmp_path / "out").items() if "/videos/" in name}
    lines = run(evaluate, *flags, "--seed", 7, code=2)
    assert sum("made with other settings" in line for line in lines) == 2
    assert {name: time for name, time in files_of(tmp_path / "out").items() if "/videos/" in name} == before
    # What was made otherwise does not stand in a report beside what is made now.
    every = [*flags[:2], *QUICK, "--output_path", "out", "--seed", 7]
    run(evaluate, *every, code=1)
    folder = Path("out/standard/dilate32_replace")
    assert [row["Video_Index"] for row in rows_of(folder / "metrics.csv")] == ["2", "Average"]
    assert "2 of 3 videos have no scores" in (folder / "metrics.md").read_text()
    run(evaluate, *flags, "--seed", 7, "--overwrite")
    assert load_summary(Path("out/standard/dilate32_replace/metrics.json"))["run"]["seed"] == 7
    # Scores follow their results, and the protocol.
    lines = run(evaluate, *flags, "--seed", 7, "--protocol", "release", "--generate", "false")
    assert sum(line.startswith("scored anew") for line in lines) == 2
    assert load_summary(Path("out/standard/dilate32_replace/metrics.json"))["protocol"] == "release"


def test_a_broken_clip_is_told_and_the_report_says_what_is_missing(bench: Path, tmp_path: Path, run):
    data = tmp_path / "data"
    shutil.copytree(bench.parent, data)
    name = rows_of(bench)[1]["path"]
    (video,) = data.rglob(name)
    video.write_bytes(video.read_bytes()[:1000])
    flags = ("--sets", f"standard={data / bench.name}", *QUICK, "--output_path", "out", "--html", "false")
    lines = run(evaluate, *flags, code=1)
    assert any(line.startswith("failed: standard dilate32_replace: sample 1") for line in lines)
    folder = Path("out/standard/dilate32_replace")
    assert [row["Video_Index"] for row in rows_of(folder / "metrics.csv")] == ["0", "2", "Average"]
    assert "1 of 3 videos have no scores" in (folder / "metrics.md").read_text()


def test_an_untouched_background_is_infinite_and_told(bench: Path, run):
    run(evaluate, "--sets", f"standard={bench}", "--inpainting_sample_id", "0-1", *QUICK, "--output_path", "out")
    folder = Path("out/standard/dilate32_replace")
    assert [row["Masked_PSNR"] for row in rows_of(folder / "metrics.csv")] == ["inf"] * 3
    assert load_summary(folder / "metrics.json")["metrics"]["masked_psnr"]["infinite"] == 2
    assert "∞" in (folder / "metrics.md").read_text()


def test_scoring_alone_gives_the_same_numbers_from_videos_and_from_frames(bench: Path, run):
    flags = ("--sets", f"standard={bench}", "--inpainting_sample_id", "0 2", "--dilate_sizes", 5, *QUICK)
    run(evaluate, *flags, "--paste_background", "false", "--output_path", "out", "--save_frames", "--html", "false")
    folder = Path("out/standard/dilate5_replace")
    of_rows = ("--inpainting_mask_meta", bench, "--inpainting_sample_id", "0,2", "--dilate_size", 5)
    run(score, "--results", folder / "videos", *of_rows, "--resize_to", "32x48", "--num_frames", 5, "--quiet")
    assert means(folder / "videos/evaluation") == pytest.approx(means(folder), rel=1e-12)
    frames = sorted((folder / "frames").iterdir())
    assert [len(list((frames[0] / name).iterdir())) for name in ("comp_frames", "ori_frames", "masks")] == [5, 5, 5]
    run(score, "--results", folder / "frames", "--output_path", "again", "--quiet")
    assert means(Path("again")) == pytest.approx(means(folder), rel=1e-12)
    again = run(score, "--results", folder / "frames", "--output_path", "again", "--quiet")
    assert not any(line.startswith("scored anew") for line in again)


def write_video(path: Path, frames: np.ndarray, fps: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps=fps, lossless=True) as writer:
        writer.write(frames)
    return path


def noise(count: int = 6, height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(20, 230, (count, height, width, 3)).astype(np.uint8)


@pytest.fixture
def triple(tmp_path: Path) -> dict[str, Path]:
    """Folders with an original `a b`, its mask, and a result 10 levels brighter in the hole."""
    frames = noise()
    hole = np.zeros(frames.shape[:3], bool)
    hole[:, 8:24, 12:36] = True
    write_video(tmp_path / "originals/a b.mkv", frames)
    write_video(tmp_path / "results/a b.mkv", frames + (10 * hole[..., None]).astype(np.uint8))
    for number, mask in enumerate(hole):
        path = tmp_path / f"masks/a b/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, mask.astype(np.uint8) * 255)
    return {name: tmp_path / name for name in ("originals", "results", "masks")}


def flags_of(triple: dict[str, Path]) -> list[object]:
    return [word for name, path in triple.items() for word in (f"--{name}", path)]


def test_known_differences_of_own_files(triple, run):
    run(score, *flags_of(triple), "--ground_truth", "originals", "--output_path", "out", "--quiet")
    found = means(Path("out"))
    error = (10 / 255) ** 2
    assert found["hole_mse"] == pytest.approx(error, rel=1e-5)
    assert found["hole_psnr"] == pytest.approx(-10 * np.log10(error), rel=1e-5)
    assert found["mse"] == pytest.approx(error * 16 * 24 / (32 * 48), rel=1e-5)
    assert found["masked_mse"] == 0 and found["masked_psnr"] == np.inf
    one = [triple["results"] / "a b.mkv", triple["originals"] / "a b.mkv", triple["masks"] / "a b"]
    words = [word for name, path in zip(("results", "originals", "masks"), one) for word in (f"--{name}", path)]
    run(score, *words, "--ground_truth", "originals", "--output_path", "single", "--quiet")
    assert means(Path("single")) == found


def test_a_score_is_of_its_files_settings_and_weights(triple, tmp_path: Path, monkeypatch):
    """Whatever decides the numbers is in the fingerprint: each change makes another, undone it is the first again."""
    mask = triple["masks"] / "a b/000.png"
    squeeze = tmp_path / "weights" / WEIGHTS[LPIPS].paths[0]
    squeeze.parent.mkdir()
    squeeze.write_bytes(b"some weights")

    def of(*flags: object) -> str:
        words = [*flags_of(triple), "--ground_truth", tmp_path / "truth", "--metrics", "lpips", *flags]
        results, options = score.read_options([str(word) for word in words])
        (entry,) = entries_of(results, options)
        return Scoring(options=options, device="cpu", ckpt=tmp_path / "weights").fingerprint(entry.open())

    write_video(tmp_path / "truth/a b.mkv", noise())
    first = of()
    assert of() == first
    changed = [of("--protocol", "release"), of("--metrics", "mae"), of("--dilate_size", 3)]
    for path in (triple["results"] / "a b.mkv", triple["originals"] / "a b.mkv", tmp_path / "truth/a b.mkv"):
        kept = path.read_bytes()
        write_video(path, noise(seed=1))
        changed.append(of())
        path.write_bytes(kept)
    kept = mask.read_bytes()
    write_image(mask, np.zeros((32, 48), np.uint8))
    changed.append(of())
    mask.write_bytes(kept)
    squeeze.write_bytes(b"other weights")
    changed.append(of())
    squeeze.unlink()
    changed.append(of())
    squeeze.write_bytes(b"some weights")
    assert of() == first
    (tmp_path / "other.pth").write_bytes(b"other weights of channels")
    monkeypatch.setattr("videopainter.evaluation.scoring.weightings_file", lambda: tmp_path / "other.pth")
    changed.append(of())
    assert len({first, *changed}) == 1 + len(changed)


def test_only_what_is_asked_for_is_computed(triple, run):
    run(score, *flags_of(triple), "--metrics", "mae", "peak_memory", "--output_path", "some", "--quiet")
    assert list(load_summary(Path("some/metrics.json"))["metrics"]) == ["mae"]
    run(score, *flags_of(triple), "--metrics", "peak_memory", "--output_path", "none", "--quiet", "--save_frames")
    assert load_summary(Path("none/metrics.json"))["metrics"] == {}
    assert len(list(Path("none/frames/a b/comp_frames").iterdir())) == 6


def test_borders_are_those_of_the_whole_result():
    record = {"frames": 12, "recipe": {"settings": {"num_frames": 9, "overlap_frames": 1}}}
    whole = borders_of(record, 12)
    assert whole and borders_of(record, whole[0] + 1) == whole[:1] and borders_of(record, whole[0]) == ()
    assert borders_of({}, 12) == ()


def test_what_could_not_be_scored_is_told_in_the_report(triple, tmp_path: Path, run):
    for kind in ("originals", "results"):
        write_video(tmp_path / kind / "c.mkv", noise(6 if kind == "originals" else 4))
    shutil.copytree(tmp_path / "masks/a b", tmp_path / "masks/c")
    lines = run(score, *flags_of(triple), "--output_path", "out", "--quiet", code=1)
    assert [line.split(":")[0] for line in lines] == ["failed", "error", "report"]
    assert "1 of 2 videos have no scores (c)" in Path("out/metrics.md").read_text()


def test_one_result_is_not_scored_for_two_rows(bench: Path, tmp_path: Path, run):
    rows = rows_of(bench)[:1] * 2
    with (bench.parent / "twice.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    stem = Path(rows[0]["path"]).stem.removesuffix(".0")
    write_video(tmp_path / "results" / f"{stem}.mkv", noise(12, 48, 64))
    flags = ("--results", "results", "--inpainting_mask_meta", bench.parent / "twice.csv", "--quiet")
    (line,) = run(score, *flags, code=2)
    assert "both 0" in line and "NUMBER_NAME" in line


def test_a_truth_of_another_shape_is_refused(triple, tmp_path: Path, run):
    write_video(tmp_path / "truth/a b.mkv", noise(6, 48, 32))
    (line,) = run(score, *flags_of(triple), "--ground_truth", tmp_path / "truth", "--quiet", code=2)
    assert "another shape" in line and "truth" in line


def test_results_of_another_size_are_compared_at_theirs(triple, run):
    small = open_video(triple["results"] / "a b.mkv").read(0, 6)[:, ::2, ::2]
    write_video(triple["results"] / "a b.mkv", small)
    run(score, *flags_of(triple), "--output_path", "out", "--quiet")
    (video,) = load_summary(Path("out/metrics.json"))["videos"]
    assert (video["details"]["height"], video["details"]["width"]) == (16, 24)


def test_what_does_not_go_together_is_one_line(triple, tmp_path: Path, run):
    result = triple["results"] / "a b.mkv"
    write_video(result, noise(5))
    (line,) = run(score, *flags_of(triple), "--quiet", code=2)
    assert "expected a result of 6 frames as the original, got 5" in line and "--allow_shorter" in line
    run(score, *flags_of(triple), "--allow_shorter", "--quiet")
    (line,) = run(score, *flags_of(triple), "--allow_shorter", "--quiet", "--output_path", result, code=2)
    assert "cannot write to the output folder" in line
    write_video(result, noise(6, 48, 32))
    (line,) = run(score, *flags_of(triple), "--quiet", code=2)
    assert "another shape" in line
    result.write_bytes(result.read_bytes()[:300])
    (line,) = run(score, *flags_of(triple), "--quiet", code=2)
    assert str(result) in line
    result.unlink()
    (line,) = run(score, *flags_of(triple), "--quiet", code=2)
    assert "--results: expected one of a b, got none" in line
    write_video(result, noise())
    shutil.rmtree(triple["masks"])
    triple["masks"].mkdir()
    (line,) = run(score, *flags_of(triple), "--quiet", code=2)
    assert "expected a mask of a b" in line


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sets", "standard"], "expected NAME=CSV"),
        ([], "none came"),
        (["--sets", "a={csv}", "a={csv}"], "expected each name once, got a twice"),
        (["--sets", "a=missing.csv"], "got no such file"),
        (["--sets", "a={csv}", "--long_sets", "b"], "expected sets out of a, got b"),
        (["--sets", "a={csv}", "--dilate_sizes", "-1"], "--dilate_size"),
        (["--sets", "a={csv}", "--replace_gts", "maybe"], "expected true and/or false"),
        (["--sets", "a={csv}", "--resize_to", "480"], "HEIGHTxWIDTH"),
        (["--sets", "a={csv}", "--metrics", "pnsr"], "no such metric: pnsr"),
        (["--sets", "a={csv}", "--protocol", "none"], "expected one of background"),
        (["--sets", "a={csv}", "--ground_truth", "nowhere"], "expected `originals` or a folder"),
        (["--sets", "a={csv}", "--inpainting_sample_id", "9"], "out of range"),
        (["--sets", "a={csv}", "--inpainting_frames", "6"], "4k+1"),
        (["--sets", "a={csv}", "--model_path", "nowhere"], "--inpainting_branch"),
        (["--sets", "a={csv}", "--generate", "false", "--score", "false"], "expected one of them, got false for both"),
        (["--sets", "a={csv}", "--num_videos_per_prompt", "2"], "one result per row"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_loaded(bench: Path, run, flags, told):
    lines = run(evaluate, *(flag.format(csv=bench) for flag in flags), code=2)
    assert len(lines) == 1 and told in lines[0], lines


@pytest.mark.slow
def test_killed_half_way_the_same_command_ends_with_the_same_numbers(bench: Path, tmp_path: Path, run):
    """SIGKILL once while results are made and once while they are scored."""
    flags = ["--sets", f"standard={bench}", *QUICK, "--paste_background", "false", "--long_sets", "standard"]
    flags += ["--overlap_frames", "1", "--html", "false", "--ckpt", "weights"]
    run(evaluate, *flags[:-2], "--output_path", "alone")
    words = [*flags, "--output_path", "killed"]
    for pattern in ("*/videos/*.mkv", "*/scores/*.json"):
        process = clean_process(evaluation_killed_after, words, pattern)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not list(Path("killed").glob("standard/*/metrics.csv"))
    run(evaluate, *words[:-4], *words[-2:])
    alone, killed = (Path(name) / "standard/dilate32_replace/metrics.csv" for name in ("alone", "killed"))
    assert killed.read_bytes() == alone.read_bytes()
    assert means(killed.parent) == means(alone.parent)
    assert "seam_error" in means(killed.parent)


@pytest.mark.slow
def test_the_bash_scripts_run_with_all_that_they_hand_on(bench: Path, tmp_path: Path):
    """The longest chain: the alias of long editing, over the ID script, to the one that runs; two processes."""
    data = tmp_path / "my data"
    shutil.copytree(bench.parent, data)
    rows = rows_of(bench)[:2]
    with (data / "our_video_edit_long.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["path", "start_frame", "end_frame", "fps", "mask_id", "Edited_video_caption"])
        writer.writeheader()
        for row in rows:
            place = {name: row[name] for name in writer.fieldnames[:5]}
            writer.writerow({**place, "Edited_video_caption": "A red ball."})
    tiny = REPO / "ckpt/tiny"
    variables = {
        "model_path": tiny / "CogVideoX-5b-I2V",
        "inpainting_branch": tiny / "VideoPainter/checkpoints/branch",
        "id_adapter_resample_learnable_path": tiny / "VideoPainterID/checkpoints",
        "lora_rank": 32,
        "img_inpainting_model": "opencv",
        "data": data,
        "output_path": tmp_path / "out",
        "dilate_sizes": "4",
        "height": 32,
        "width": 48,
        "dtype": "float32",
        "num_inference_steps": 1,
        "guidance_scale": 1,
        "inpainting_frames": 9,
        "CUDA_VISIBLE_DEVICES": "",
        "num_processes": 2,
        "OMP_NUM_THREADS": 1,
        "XDG_CACHE_HOME": tmp_path / "cache",
    }
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    command = command_of(REPO / "evaluate/eval_edit_id_resample.sh", tmp_path, "--quiet", **environment)
    assert command.launcher[-4:] == ["torchrun", "--standalone", "--nproc_per_node", "2"]
    command.run(2, tmp_path)
    folder = tmp_path / "out/edit_long/dilate4_replace"
    table = rows_of(folder / "metrics.csv")
    assert [row["Video_Index"] for row in table] == ["0", "1", "Average"]
    assert table[0]["Video_Caption"] == "A red ball."
    summary = load_summary(folder / "metrics.json")
    assert summary["run"]["sampling"]["prev_clip_weight"] == 0.5 and "id_adapter" in summary["run"]["weights"]
    assert [video["details"]["frames"] for video in summary["videos"]] == [12, 12]
    assert "identity_consistency" in summary["metrics"]
