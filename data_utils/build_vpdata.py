"""Raw videos into a training set in VPData's layout. `--help` documents every flag.

python data_utils/build_vpdata.py --videos raw --output_dir outputs/vpdata
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.build_vpdata import build_vpdata

    return build_vpdata()


if __name__ == "__main__":
    run_door(main)
