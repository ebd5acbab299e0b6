"""Score results of any method against originals and masks. `--help` documents every flag.

python evaluate/score.py --results propainter/ --originals videos/ --masks masks/
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.score import read_options, score

    return score(*read_options())


if __name__ == "__main__":
    run_door(main)
