"""What the launch tests share, and the table that they end with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from launch.trainings import Weights
from launch.ways import REPO, SCRIPTS, WAYS
from wan_models import write_checkpoint

CELL = "cell"
PARTS = ("fresh", "resumed")


def make_clips(folder: Path) -> None:
    """A set of small synthetic clips, as the training scripts take it."""
    counts = "--clips 12 --val_clips 2 --test_clips 1 --processes 1"
    look = "--num_frames 5 --height 64 --width 96"
    command = [sys.executable, str(REPO / "data_utils/make_synthetic.py"), "--output_dir", str(folder)]
    subprocess.run([*command, *counts.split(), *look.split()], check=True, capture_output=True)
    # The scripts name this folder; the clips lie beside it, where the public set has them.
    (folder / "videovo/raw_video").mkdir(parents=True)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "synthetic"
    make_clips(folder)
    return folder


@pytest.fixture(scope="session")
def wan(tmp_path_factory) -> Weights:
    folder = write_checkpoint(tmp_path_factory.mktemp("wan"))
    return Weights(folder, folder / "branch")


@pytest.fixture
def cell(record_property):
    """`cell(way, task, part, text)`: a field of the table."""

    def write(way: str, task: str, part: str, text: str) -> None:
        record_property(CELL, [way, task, part, text])

    return write


# ---- the table


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Configs x tasks x {fresh, resumed}; what was not reached stays empty."""
    cells: dict[tuple[str, str, str], str] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", []):
                if name == CELL:
                    way, task, part, text = value
                    cells.setdefault((way, task, part), text)
    if not cells:
        return
    columns = [(task, part) for task in SCRIPTS for part in PARTS]
    lines = [["", *(f"{task}, {part}" for task, part in columns)]]
    lines += [[way.name, *(cells.get((way.name, *column), "-") for column in columns)] for way in WAYS]
    widths = [max(map(len, column)) for column in zip(*lines)]
    terminalreporter.section(f"launch matrix, {time.strftime('%Y-%m-%d %H:%M')}")
    for number, line in enumerate(lines):
        terminalreporter.write_line("| " + " | ".join(map(str.ljust, line, widths)) + " |")
        if number == 0:
            terminalreporter.write_line("|" + "|".join("-" * (width + 2) for width in widths) + "|")
