"""Masks from boxes, clicks or strokes, tracked through a video. `--help` documents every flag.

python data_utils/segment.py --video clip.mp4 --box 120,40,260,300 --output masks.npz
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.segment import segment

    return segment()


if __name__ == "__main__":
    run_door(main)
