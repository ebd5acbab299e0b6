"""Render a data set of synthetic clips in VPData's layout. `--help` documents every flag.

python data_utils/make_synthetic.py --output_dir data/synthetic --clips 200 --processes 2
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.make_synthetic import make_synthetic

    return make_synthetic()


if __name__ == "__main__":
    run_door(main)
