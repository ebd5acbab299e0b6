"""Evaluate on VPBench or DAVIS: inpaint every row, score, report. `--help` documents every flag.

python evaluate/evaluate.py --sets standard=data/our_video_inpaint.csv --output_path outputs/evaluation
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.evaluate import evaluate, read_options

    return evaluate(read_options())


if __name__ == "__main__":
    run_door(main)
