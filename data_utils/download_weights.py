"""Fetch published weights into ckpt/. `--help` documents every flag and name.

python data_utils/download_weights.py inpaint --dry_run
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.download_weights import download_weights

    return download_weights()


if __name__ == "__main__":
    run_door(main)
