"""Curves of trainings: what is read, how it is smoothed, and the picture."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videopainter.errors import InputError
from videopainter.training.tracking.curves import CurveOptions, LoggedRun, plot_curves, running_mean

BLUE, ORANGE = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)  # matplotlib's first two


@pytest.fixture
def runs(tmp_path):
    """Two trainings as `Trackers` write them: numbers every 10 steps, validations every 100."""
    for name, factor in (("first", 1.0), ("second", 0.5)):
        rows = []
        for step in range(10, 401, 10):
            loss = factor * (0.1 + np.exp(-step / 100))
            rows.append({"step": step, "loss_full": loss, "loss_masked": loss / 2, "lr": 1e-4, "grad_norm": 1 + loss})
            if step % 100 == 0:
                rows.append({"step": step, "validation/loss": loss, "validation/loss_t500": loss / 3})
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def has_colour(path, colour) -> bool:
    return bool((np.asarray(Image.open(path).convert("RGB")) == colour).all(axis=2).any())


@pytest.mark.parametrize("window", [0, 1, 2, 3, 6, 50])
def test_running_mean_is_the_mean_around_each_value(window):
    values = np.random.default_rng(0).normal(size=20)
    expected = [
        values[max(0, k - (window - 1) // 2) : k + window // 2 + 1].mean() if window > 1 else values[k]
        for k in range(20)
    ]
    np.testing.assert_allclose(running_mean(values, window), expected, rtol=1e-12)


def test_what_is_read(runs):
    run = LoggedRun.read(f"{runs / 'first'}")
    assert run.name == "first"
    steps, values = run.curves["validation/loss"]
    assert steps.tolist() == [100, 200, 300, 400]
    assert values[0] == pytest.approx(0.1 + np.exp(-1))
    assert LoggedRun.read(f"mine={runs / 'first/metrics.jsonl'}").name == "mine"


def test_killed_and_resumed_runs(tmp_path):
    lines = ['{"step": 2, "loss": 5}', '{"step": 1, "loss": 7}', '{"step": 2, "loss": 3}', '{"step": 3, "loss": NaN}']
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 4, "lo']))
    steps, values = LoggedRun.read(str(tmp_path)).curves["loss"]
    assert (steps.tolist(), values.tolist()) == ([1, 2], [7, 3])


def test_the_picture(runs):
    pytest.importorskip("matplotlib")
    first, second = str(runs / "first"), str(runs / "second")
    one = plot_curves(CurveOptions(runs=[first], output=str(runs / "new/one.png"), dpi=60))
    two = plot_curves(CurveOptions(runs=[first, f"better={second}"], output=str(runs / "two.png"), dpi=60))
    assert has_colour(one, BLUE) and not has_colour(one, ORANGE)
    assert has_colour(two, BLUE) and has_colour(two, ORANGE)
    again = plot_curves(CurveOptions(runs=[first], output=str(runs / "again.png"), dpi=60))
    assert again.read_bytes() == one.read_bytes()
    chosen = plot_curves(
        CurveOptions(runs=[first], output=str(runs / "c.png"), dpi=60, metrics=["validation/loss_t500"])
    )
    assert Image.open(chosen).width < Image.open(one).width  # one panel, not two by two
    assert sorted(path.name for path in runs.glob("*.png")) == ["again.png", "c.png", "two.png"]
    assert not list(runs.glob("**/.*"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"runs": []}, "expected at least one folder"),
        ({"runs": ["nowhere"]}, "found none at nowhere"),
        ({"output": "curves.pdf"}, "expected a .png"),
        ({"smoothing": 2}, "smoothing: expected a number from 0 to 1"),
        ({"dpi": 1}, "dpi"),
        ({"metrics": ["validation/los"]}, "expected one of validation/los; the runs have grad_norm"),
        ({"output": "first/metrics.jsonl/curves.png"}, "cannot write"),
    ],
)
def test_mistakes_in_one_line(runs, monkeypatch, options, expected):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(runs)
    with pytest.raises(InputError, match=expected) as error:
        plot_curves(CurveOptions(**{"runs": ["first"], **options}))
    assert "\n" not in str(error.value)


def test_without_matplotlib(runs, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        plot_curves(CurveOptions(runs=[str(runs / "first")], output=str(runs / "x.png")))


@pytest.mark.slow
def test_the_door(runs):
    pytest.importorskip("matplotlib")
    door = Path(__file__).resolve().parents[1] / "train/plot_curves.py"
    command = [sys.executable, str(door), "--runs", "first", "second", "--output", "out.png", "--dpi", "60"]
    done = subprocess.run(command, cwd=runs, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "out.png\n")
    assert has_colour(runs / "out.png", ORANGE)
    failed = subprocess.run([*command[:3], "third"], cwd=runs, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines()[-1].startswith("error: runs: expected a training's output folder")
