"""Fetch VPData's raw videos from their links. `--help` documents every flag; none is needed.

cd data_utils && python VPData_download.py
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.download_videos import download_listed

    return download_listed()


if __name__ == "__main__":
    run_door(main)
