"""Raw videos into clips worth training on. `--help` documents every flag.

python data_utils/build_vpdata.py --videos raw --output_dir outputs/vpdata
"""

from videopainter.cli.door import run_door
from videopainter.cli.preparation.build_vpdata import build_vpdata


def main() -> int:
    """Parse, run; the exit code."""
    return build_vpdata()


if __name__ == "__main__":
    run_door(main)
