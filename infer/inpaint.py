"""Inpaint videos: your own files, or rows of a benchmark CSV. `--help` documents every flag.

python infer/inpaint.py --video clip.mp4 --mask mask.mp4 --prompt "..." --output_path result.mp4
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.inpaint import inpaint, read_options

    return inpaint(read_options())


if __name__ == "__main__":
    run_door(main)
