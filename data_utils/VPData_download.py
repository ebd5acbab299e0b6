"""Fetch VPData's raw videos from their links. `--help` documents every flag; none is needed.

cd data_utils && python VPData_download.py
"""

from videopainter.cli.door import run_door
from videopainter.cli.preparation.download_videos import download_listed


def main() -> int:
    """Parse, run; the exit code."""
    return download_listed()


if __name__ == "__main__":
    run_door(main)
