"""Every command that the documents show runs, in their order, in a copy of the tracked files (`make test-docs`)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from readme_blocks import DOCUMENTS, ROOT, blocks

CLIPS = Path(os.environ.get("VIDEOPAINTER_CLIPS", ROOT.parent / "shared/clips")) / "vpbench"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The tracked files as they are now, where a newcomer's clone would be."""
    folder = tmp_path_factory.mktemp("a clone")
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def run(code: str, clone: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(clone / "diffusers/src"), "VIRTUAL_ENV": sys.prefix}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(["bash", "-euc", code], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_run(document, clone):
    """One after the other: later commands use what earlier ones made."""
    for block in blocks("bash", [document]):
        if block.needs == "":
            run(block.code, clone)


@pytest.mark.skipif(not CLIPS.exists(), reason="VIDEOPAINTER_CLIPS has no benchmark clips")
@pytest.mark.parametrize("block", [block for block in blocks("bash") if block.needs == "data"])
def test_commands_on_ones_own_data_run(block, clone):
    run(block.code.replace("=/data", f"={CLIPS.resolve()}"), clone)


def test_every_flow_is_shown_once_without_weights():
    shown = "\n".join(block.code for block in blocks("bash") if block.needs == "")
    for door in (
        "inpaint.py",
        "edit_bench.py",
        "make_synthetic.py",
        "train_cogvideox_inpainting_i2v_video.py",
        "score.py",
        "compare.py",
    ):
        assert door in shown, door
