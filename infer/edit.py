"""Edit videos by instruction: your own files, or rows of a benchmark CSV. `--help` documents the flags.

python infer/edit.py --video clip.mp4 --mask mask.mp4 --video_editing_instruction "..." --output_path result.mp4
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.edit import edit, read_options

    return edit(read_options())


if __name__ == "__main__":
    run_door(main)
