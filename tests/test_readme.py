"""What the README shows exists and runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from videopainter.cli.cache_latents import CacheOptions
from videopainter.cli.door import DoorParser
from videopainter.cli.make_synthetic import SyntheticSetOptions
from videopainter.cli.options import INPAINT_OPTIONS
from videopainter.cli.train import GROUPS as TRAIN_OPTIONS
from videopainter.data.synthetic_set import SyntheticLook

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_flags_exist():
    shown = {flag for block in blocks("bash") for flag in re.findall(r"(--[a-z_]+)", block)}
    shown |= set(re.findall(r"`(--[a-z_]+)", README))
    doors = [INPAINT_OPTIONS, list(TRAIN_OPTIONS.values()), [SyntheticSetOptions, SyntheticLook], [CacheOptions]]
    known = {flag for options in doors for flag in DoorParser(options)._option_string_actions}
    assert shown - known <= {"--index", "--version"}, shown - known


def test_make_targets_and_files_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
