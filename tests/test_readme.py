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
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.evaluation.options import EVALUATE_OPTIONS, SCORE_OPTIONS
from videopainter.metrics.catalog import METRICS
from videopainter.metrics.networks.weights import WEIGHTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EVALUATION = (ROOT / "evaluate/README.md").read_text()


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [README, EVALUATION], ids=["README", "evaluate/README"])
def test_flags_exist(text):
    shown = {flag for block in blocks("bash", text) for flag in re.findall(r"(--[a-z_]+)", block)}
    shown |= set(re.findall(r"`(--[a-z_]+)", text))
    doors = [INPAINT_OPTIONS, list(TRAIN_OPTIONS.values()), [SyntheticSetOptions, SyntheticLook], [CacheOptions]]
    doors += [EVALUATE_OPTIONS, SCORE_OPTIONS]
    known = {flag for options in doors for flag in DoorParser(options)._option_string_actions}
    assert shown - known <= {"--index", "--version", "--local", "--exclude"}, shown - known


def test_every_metric_is_explained_and_every_weight_has_its_command():
    for key in METRICS:
        family = next((prefix for prefix in ("masked_", "hole_") if key.startswith(prefix)), None)
        assert f"`{key}`" in EVALUATION or f"`{family}*`" in EVALUATION or f"`{family}…`" in EVALUATION, key
    shown = " ".join(EVALUATION.split())
    for weights in WEIGHTS.values():
        assert " ".join(weights.fetch.split()) in shown, weights.name


def test_make_targets_and_files_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
