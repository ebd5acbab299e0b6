"""What the README shows exists and runs."""

import re

import pytest
from readme_blocks import DOCUMENTS, NEEDS, ROOT, blocks

from videopainter.app.options import AppOptions
from videopainter.cli.cache_latents import CacheOptions
from videopainter.cli.door import DoorParser
from videopainter.cli.make_synthetic import SyntheticSetOptions
from videopainter.cli.preparation.build_vpdata import BUILD_OPTIONS
from videopainter.cli.preparation.check_data import CHECK_OPTIONS
from videopainter.cli.preparation.download_data import DATA_OPTIONS
from videopainter.cli.preparation.download_videos import VIDEO_OPTIONS
from videopainter.cli.preparation.download_weights import WEIGHT_OPTIONS
from videopainter.cli.preparation.shard_data import SHARD_OPTIONS
from videopainter.cli.preparation.unzip_folder import UNZIP_OPTIONS
from videopainter.cli.segment import SEGMENT_OPTIONS
from videopainter.cli.train import GROUPS as TRAIN_OPTIONS
from videopainter.data.synthetic.dataset import SyntheticLook
from videopainter.editing.options import EDIT_BENCH_OPTIONS
from videopainter.evaluation.options import EVALUATE_OPTIONS, SCORE_OPTIONS
from videopainter.metrics.catalog import METRICS
from videopainter.metrics.networks.downloads import WEIGHTS
from videopainter.runs.options import INPAINT_OPTIONS
from videopainter.training.tracking.curves import CurveOptions

EVALUATION = (ROOT / "evaluate/README.md").read_text()


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks_run(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(block.code, {})


def test_what_a_block_needs_is_known():
    assert {block.needs for block in blocks("bash")} <= NEEDS


def test_the_readme_is_a_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("document", DOCUMENTS)
def test_flags_exist(document):
    text = (ROOT / document).read_text()
    shown = {flag for block in blocks("bash", [document]) for flag in re.findall(r"(--[a-z_]+)", block.code)}
    shown |= set(re.findall(r"`(--[a-z_-]+)", text))
    doors = [INPAINT_OPTIONS, list(TRAIN_OPTIONS.values()), [SyntheticSetOptions, SyntheticLook], [CacheOptions]]
    doors += [EDIT_BENCH_OPTIONS, EVALUATE_OPTIONS, SCORE_OPTIONS, [CurveOptions]]
    doors += [DATA_OPTIONS, VIDEO_OPTIONS, UNZIP_OPTIONS, WEIGHT_OPTIONS, CHECK_OPTIONS, BUILD_OPTIONS]
    doors += [SEGMENT_OPTIONS, SHARD_OPTIONS, [AppOptions]]
    known = {flag for options in doors for flag in DoorParser(options)._option_string_actions}
    known |= {"--help", "--help-all"}
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
    for target in re.findall(r"^make (\w+)", "\n".join(block.code for block in blocks("bash")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)]+)\)", (ROOT / document).read_text()):
            file, _, anchor = link.partition("#")
            target = (ROOT / document).parent / file if file else ROOT / document
            assert link.startswith("http") or target.exists(), link
            assert link.startswith("http") or not anchor or anchor in anchors(target.read_text()), link


def anchors(text):
    """Links to the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
