"""`.ci/run` says how long its parts took, and ends as the part that failed did."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = re.findall(r"^part(?:_if_time \d+)? (.+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)


def run(folder: Path, failing: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `.ci/run` with a `make` that does nothing, and fails with 7 at target `failing`."""
    make = folder / "make"
    make.write_text(f'#!/bin/sh\n[ "$1" != "{failing}" ] || exit 7\n')
    make.chmod(0o755)
    environment = {**os.environ, **variables, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([ROOT / ".ci/run"], env=environment, capture_output=True, text=True, check=False)


def table(output: str) -> list[str]:
    """What the rows are about; a line that is no row of the table is left as it is."""
    return [re.sub(r"^ +\d+:\d\d  ", "", line) for line in output.splitlines() if line]


def test_all_parts_are_timed(tmp_path):
    result = run(tmp_path)
    assert result.returncode == 0
    assert table(result.stdout) == [*PARTS, "in all, of 40 minutes"]


def test_where_time_is_short_the_last_parts_are_left_out_and_it_is_said(tmp_path):
    rows = table(run(tmp_path, CI_BUDGET_MINUTES="7").stdout)
    left_out = [row for row in rows if "LEFT OUT" in row]
    assert [row.split(",")[0] for row in left_out] == ["make test-docs", PARTS[-1]]
    assert "may take 9 minutes, and 0 of 7 are gone" in left_out[1]
    assert rows[:4] == PARTS[:4] and rows[-1] == "in all, of 7 minutes"


@pytest.mark.parametrize("number", [0, len(PARTS) - 1])
def test_a_part_that_fails_ends_it_with_its_code_and_the_table(tmp_path, number):
    result = run(tmp_path, PARTS[number].split()[1])
    assert result.returncode == 7
    assert table(result.stdout) == [*PARTS[:number], f"{PARTS[number]}, failed with 7", "in all, of 40 minutes"]
