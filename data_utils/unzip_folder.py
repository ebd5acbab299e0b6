"""Unpack all .zip files of a folder, safely. `--help` documents every flag.

python data_utils/unzip_folder.py --source_dir ./data/videovo_masks --target_dir ./data/video_inpainting/videovo
"""

from videopainter.cli.running import run_door


def main() -> int:
    """Parse, run; the exit code."""
    from videopainter.cli.preparation.unzip_folder import unzip_folder

    return unzip_folder()


if __name__ == "__main__":
    run_door(main)
