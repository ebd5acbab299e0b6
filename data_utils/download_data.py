"""Fetch VPBench or VPData, and unpack it. `--help` documents every flag.

python data_utils/download_data.py vpbench
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.download_data import download_data

    return download_data()


if __name__ == "__main__":
    run_door(main)
