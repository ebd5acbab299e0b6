"""The evaluation of the tiny checkpoint: its scenes, its tables, its files, with the shipped weights at few steps."""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from videopainter.errors import InputError
from videopainter.metrics.consistency import return_consistency

ROOT = Path(__file__).parents[1]
TINY = ROOT / "ckpt" / "tiny"
SIZE = {"num_frames": 5, "height": 32, "width": 48}


@pytest.fixture
def part(monkeypatch):
    """Imports a module of train/tiny by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "train" / "tiny"))
    return importlib.import_module


@pytest.mark.parametrize("kind", ["object-shaped", "free-form"])
def test_removal_cases_hide_what_differs_from_the_truth(part, kind):
    cases = list(part("heldout").removal_cases(4, kind, **SIZE))
    assert len({case.seed for case in cases}) == 4
    for case in cases:
        np.testing.assert_array_equal(case.frames[~case.hole], case.truth[~case.hole])
        assert case.hole[1:].any()
        assert (case.frames != case.truth).any() == (kind == "object-shaped")
    again = next(part("heldout").removal_cases(1, kind, **SIZE))
    np.testing.assert_array_equal(again.hole, cases[0].hole)


def test_free_form_holes_move_and_differ(part):
    holes = [part("heldout").free_form_hole((9, 32, 48), np.random.default_rng(seed)) for seed in range(12)]
    assert sum((hole[0] != hole[-1]).any() for hole in holes) > 8
    assert len({hole.tobytes() for hole in holes}) == 12
    assert all(0.01 < hole.mean() < 0.6 for hole in holes)


def test_returning_objects_are_themselves_without_their_shadow(part):
    size = {"num_frames": 61, "height": 48, "width": 72, "first_seed": 900004}
    cases = list(part("heldout").return_cases(2, **size))
    for case in cases:
        assert not (case.seen & ~case.hole).any()
        assert return_consistency(case.frames, case.seen) > 0.6
        before, after = case.moments
        assert case.seen[before].any() and case.seen[after].any()
        assert (~case.hole[before:after].any(axis=(1, 2))).sum() >= 17
    assert part("measure").mistaken_identity(cases[0], cases[1:]) < 0.3


def test_darkened_tells_shadow_from_object(part):
    empty = np.full((1, 4, 4, 3), (200, 150, 100), np.uint8)
    frames = empty.copy()
    frames[0, 0] = np.rint(0.5 * empty[0, 0] + 0.5 * np.array([12, 12, 18]))
    frames[0, 1] = (40, 160, 70)
    frames[0, 2] = (45, 45, 50)
    assert part("heldout").darkened(frames, empty)[0, :, 0].tolist() == [True, False, False, False]


def test_differences_are_paired_and_bold_only_beyond_doubt(part):
    scores = part("measure").Scores(seeds=[1, 2, 3])
    for ours, theirs in ((21.0, 20.0), (31.5, 30.0), (12.0, 10.0)):
        scores.add("ours", {"PSNR": ours})
        scores.add("theirs", {"PSNR": theirs})
    table = part("tables").difference_table({"x": scores}, [("ours", "theirs"), ("theirs", "ours")], ["PSNR"])
    assert "| ours − theirs | **+1.50** [+1.00, +2.00] |" in table
    assert "| theirs − ours | **-1.50**" in table
    scores.values["theirs"]["PSNR"] = [25.0, 30.0, 10.0]
    assert "**" not in part("tables").difference(scores, "ours", "theirs", "PSNR")
    assert "| ours | 21.50 |" in part("tables").mean_table({"x": scores}, ["PSNR"])


def test_insert_replaces_what_is_between_the_markers_again_and_again(part):
    tables = part("tables")
    text = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    once = tables.insert(text, "| new |\n")
    assert once == f"before\n{tables.BEGIN}\n| new |\n{tables.END}\nafter\n"
    assert tables.insert(once, "| new |\n") == once
    for bad in ("none", f"{tables.END}\n{tables.BEGIN}", text + text):
        with pytest.raises(ValueError, match="each once"):
            tables.insert(bad, "x")


@pytest.mark.slow
def test_the_command_writes_tables_numbers_and_sheets(part, tmp_path, capsys):
    options = {"clips": 2, "num_frames": 5, "steps": 1, "height": 32, "width": 48, "long_clips": 2, "long_frames": 41}
    options |= {"prev_clip_weights": 0.5, "sheet_clips": 1, "output": tmp_path, "checkpoint": TINY}
    part("evaluate").main([text for name, value in options.items() for text in (f"--{name}", str(value))])
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out
    numbers = json.loads((tmp_path / "table.json").read_text())
    removal = numbers["removal"]["object-shaped"]
    assert len(removal["seeds"]) == 2
    assert {len(values) for scores in removal["values"].values() for values in scores.values()} == {2}
    psnr = {name: np.mean(scores["PSNR"]) for name, scores in removal["values"].items()}
    assert psnr["truth through the VAE"] > psnr["backbone alone"]
    for name, mean in psnr.items():
        assert f"| {name} | {mean:.2f} |" in table
    assert numbers["returning"]["values"]["ID adapter, prev_clip_weight 0.5"]["consistency"][0] > 0
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > cv2.imread(str(tmp_path / "sheet_returning.png")).shape[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clips", "1"], "2 or more"),
        (["--clips", "0", "--long_clips", "0"], "2 or more"),
        (["--num_frames", "18"], "4k[+]1"),
        (["--steps", "0"], "num_inference_steps"),
        (["--height", "60"], "height"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--output", str(TINY / "README.md")], "expected a folder"),
        (["--prev_clip_weights", "-1"], "prev_clip_weights"),
    ],
)
def test_mistakes(part, flags, message):
    with pytest.raises(ValueError, match=message):
        part("evaluate").main(flags)


def test_a_readme_without_markers_is_found_before_anything_runs(part, tmp_path):
    for folder in ("CogVideoX-5b-I2V", "VideoPainter", "VideoPainterID"):
        (tmp_path / folder).symlink_to(TINY / folder)
    flags = ["--checkpoint", str(tmp_path), "--update_readme", "--output", str(tmp_path / "out")]
    with pytest.raises(InputError, match="there is none"):
        part("evaluate").main(flags)
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(InputError, match="table:begin"):
        part("evaluate").main(flags)
    assert not (tmp_path / "out").exists()
