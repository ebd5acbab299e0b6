"""Wrong input of `data_utils/`."""

import pytest
from bad_input.harness import cases, check

SMALL = "--clips 1 --val_clips 0 --test_clips 0 --num_frames 5 --height 32 --width 48 --processes 1"
BASES = {"set": f"--output_dir set {SMALL}"}

SYNTHETIC = r"""
set | --clips 0 | clips
set | --clips -1 | clips
set | --clips 1000000000 | clips
set | --val_clips -1 | val_clips
set | --long_clips 1000000000 | long_clips
set | --processes -1 | processes
set | --processes 1000000 | processes
set | --height 0 | height
set | --height 33 | height
set | --height 1000000 --width 1000000 | height
set | --height 8192 --width 8192 --num_frames 100 | num_frames
set | --height 16384 --width 16384 | height
set | --num_frames 0 | num_frames
set | --num_frames 1000000000 | num_frames
set | --num_frames nan | num_frames
set | --long_frames 1 | long_frames
set | --long_frames 1000000000 --long_clips 1 | long_frames
set | --fps inf | fps
set | --fps nan | fps
set | --fps 0 | fps
set | --fps -8 | fps
set | --fps 1e30 | fps
set | --fps fast | fps
set | --fps 1/0 | fps
set | --removal_share nan | removal_share
set | --removal_share 2 | removal_share
set | --camera_speed nan | camera_speed
set | --camera_speed inf | camera_speed
set | --camera_speed -1 | camera_speed
set | --crf 52 | crf
set | --seed -1 | seed
set | --seed 123456789012345678901234567890 | seed
set | --chroma 411 | 411
set | --subset davis | davis
set | --frames 3 | --frames
set | --output_dir {f}/regular_file | regular_file
set | --output_dir {f}/regular_file/set | regular_file
set | --output_dir {f}/frames_good | frames_good
set | --output_dir {f}/loop_folder | loop_folder
set | --output_dir {300} | xxx
set | --output_dir a\0b | output_dir
set | --output_dir /proc/set | /proc/set
set | --output_dir {f}/sets/list | list
set | --output_dir {f}/sets/text | text
set | --output_dir {f}/sets/nested | nested
set | --output_dir {f}/sets/other | other
"""


@pytest.mark.parametrize("case", cases("data_utils/make_synthetic.py", BASES, SYNTHETIC))
def test_synthetic(case, files, tmp_path):
    check(case, files, tmp_path)
