"""Mistakes by the real commands: what the other files see in this process holds outside of it, too.

`test_cli_errors.py` has four more of infer.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bad_input.harness import REPO, Case, check
from bad_input.test_evaluate_doors import BASES as EVALUATE
from bad_input.test_infer import OWN
from bad_input.test_train import BASES as TRAIN
from bad_input.test_train import BRANCH_DOOR

CASES = (
    Case("infer/inpaint.py", f"{OWN} --mask {{f}}/bomb.npz", "bomb.npz"),
    Case(BRANCH_DOOR, f"{TRAIN['run']} --train_batch_size 1000000", "--train_batch_size"),
    Case("evaluate/compare.py", f"{EVALUATE['one']} {{f}}/runs/nested", "nested"),
    Case("data_utils/make_synthetic.py", "--output_dir set --height 1000000", "--height"),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.door} {case.named}")
def test_commands(case, files, tmp_path):
    check(case, files, tmp_path, real=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_folder_that_may_not_be_written():
    """Root may write everywhere: the command runs as nobody, as far as it can read the code."""
    with tempfile.TemporaryDirectory() as closed:
        os.chmod(closed, 0o755)
        for folder in (*REPO.parents, *Path(sys.executable).resolve().parents, *Path(closed).parents):
            if not os.stat(folder).st_mode & 0o001:
                pytest.skip(f"nobody may not look into {folder}")
        words = ["--output_dir", f"{closed}/set", "--clips", "1", "--num_frames", "2", "--processes", "1"]
        command = [sys.executable, str(REPO / "data_utils/make_synthetic.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, user=65534, env=os.environ | {"HOME": "/tmp"})
    assert done.returncode == 2, done.stderr
    assert "Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
