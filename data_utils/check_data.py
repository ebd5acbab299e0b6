"""Check a data folder against its CSVs. `--help` documents every flag.

python data_utils/check_data.py --data_root data --sample 1000
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.check_data import check_data

    return check_data()


if __name__ == "__main__":
    run_door(main)
