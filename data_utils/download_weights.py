"""Fetch published weights into ckpt/. `--help` documents every flag and name.

python data_utils/download_weights.py inpaint --dry_run
"""

from videopainter.cli.door import run_door
from videopainter.cli.preparation.download_weights import download_weights


def main() -> int:
    """Parse, run; the exit code."""
    return download_weights()


if __name__ == "__main__":
    run_door(main)
