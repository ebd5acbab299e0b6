"""Wrong input of `evaluate/`: evaluate, score, compare."""

import pytest
from bad_input.harness import cases, check

BASES = {
    "none": "",
    "sets": "--sets a={f}/bench/good.csv --output_path out --dilate_sizes 0 --inpainting_frames 9",
    "score": "--results {f}/video.mp4 --originals {f}/video.mp4 --masks {f}/mask.mp4 --output_path out --metrics psnr",
    "rows": "--results {f}/results --inpainting_mask_meta {f}/bench/good.csv --output_path out --metrics psnr",
    "two": "{f}/runs/good {f}/runs/good2",
    "one": "{f}/runs/good",
}

EVALUATE = r"""
none |  | --sets
sets | --sets {f}/bench/good.csv | --sets
sets | --sets a= | --sets
sets | --sets ../x={f}/bench/good.csv | --sets
sets | --sets a={f}/bench/good.csv a={f}/bench/good.csv | twice
sets | --sets a={f}/bench/gone.csv | gone.csv
sets | --sets a={f}/bench/nul.csv | nul.csv
sets | --sets a={f}/bench/fps=inf.csv | fps
sets | --sets a={f}/pipe.csv | pipe.csv
sets | --long_sets b | b
sets | --native_fps_sets c | c
sets | --dilate_sizes -1 | dilate_sizes
sets | --dilate_sizes 1000000 | dilate_sizes
sets | --dilate_sizes nan | dilate_sizes
sets | --replace_gts maybe | maybe
sets | --num_videos_per_prompt 2 | num_videos_per_prompt
sets | --generate false --score false | generate
sets | --inpainting_frames 8 | 8
sets | --inpainting_frames 1000000001 | frames
sets | --down_sample_fps inf | down_sample_fps
sets | --resize_to 1000000x1000000 | resize_to
sets | --conditioning_scale nan | conditioning_scale
sets | --num_inference_steps 1001 | num_inference_steps
sets | --seed 123456789012345678901234567890 | seed
sets | --inpainting_sample_id 7 | 7
sets | --ckpt {f}/gone | gone
sets | --ckpt {f}/video.mp4 | video.mp4
sets | --ground_truth {f}/gone | gone
sets | --metrics nonsense | nonsense
sets | --score_batch 1000000000 | score_batch
sets | --vfid_segment 0 | vfid_segment
sets | --protocol none | none
sets | --model_path {f}/models/gone | gone
sets | --output_path {f}/regular_file | regular_file
sets | --output_path {f}/loop_folder | loop_folder
sets | --output_path {300} | xxx
sets | --image_or_video_path {f}/gone | gone
sets | --img_inpainting_model {f}/no_filler | no_filler
"""
SCORE = r"""
none |  | --results
score | --results {f}/gone | gone
score | --results {f}/text.mp4 | text.mp4
score | --results {f}/truncated.mp4 | truncated.mp4
score | --results {f}/loop.mp4 | loop.mp4
score | --results {f}/pipe.mp4 | pipe.mp4
score | --results {f}/one_frame.mp4 | one_frame.mp4
score | --results {f}/tall.mp4 | tall.mp4
score | --results {f}/million.png | million.png
score | --results "" | --results
score | --results {f}/{300}.mp4 | xxx
score | --originals {f}/gone.mp4 | gone.mp4
score | --originals {f}/random.mp4 | random.mp4
score | --originals {f}/loop.mp4 | loop.mp4
score | --masks {f}/gone.mp4 | gone.mp4
score | --masks {f}/bomb.npz | bomb.npz
score | --masks {f}/mask_short.mp4 | mask_short.mp4
score | --masks {f}/two_ids.npz | two_ids.npz
score | --masks {f}/ids.npz --mask_id 99999999999999999999999 | mask_id
score | --num_frames 0 | num_frames
score | --num_frames 1000000000 | num_frames
score | --resize_to 1000000x1000000 | resize_to
score | --resize_to 0x4 | resize_to
score | --dilate_size -1 | dilate_size
score | --dilate_size 1000000 | dilate_size
score | --borders -1 | borders
score | --borders nan | borders
score | --down_sample_fps inf | down_sample_fps
score | --down_sample_fps fast | down_sample_fps
score | --set_name nonsense | nonsense
score | --metrics nonsense | nonsense
score | --score_batch 0 | score_batch
score | --prompts_file {f}/gone.csv | gone.csv
score | --prompts_file {f}/bench/good.csv | good.csv
score | --prompts_file {f}/pipe.csv | pipe.csv
score | --ground_truth {f}/gone | gone
score | --ground_truth {f}/no_images | no_images
score | --ckpt {f}/gone | gone
score | --device tpu | tpu
score | --device cuda:99 | cuda:99
score | --output_path {f}/regular_file | regular_file
score | --output_path {f}/loop_folder/x | loop_folder
score | --output_path {300} | xxx
score | --output_path /proc/x | /proc/x
score | --inpainting_mask_meta {f}/bench/good.csv | both
rows | --inpainting_mask_meta {f}/bench/gone.csv | gone.csv
rows | --inpainting_mask_meta {f}/bench/nul.csv | nul.csv
rows | --inpainting_mask_meta {f}/bench/path_absolute.csv | x.mp4
rows | --inpainting_sample_id 9 | 9
rows | --inpainting_sample_id all | results
rows | --results {f}/no_images | no_images
rows | --results {f}/loop_folder | loop_folder
"""
COMPARE = r"""
none |  | two
one |  | two
one | {f}/gone | gone
one | {f}/empty | empty
one | {f}/video.mp4 | video.mp4
one | {f}/loop_folder | loop_folder
one | {f}/pipe.csv | pipe.csv
one | {f}/runs/folder | folder
one | {f}/runs/list | list
one | {f}/runs/number | number
one | {f}/runs/text | text
one | {f}/runs/nested | nested
one | {f}/runs/latin | latin
one | {f}/runs/other_version | other_version
one | {f}/runs/no_videos | no_videos
one | {f}/runs/value_text | value_text
one | {f}/runs/value_list | value_list
one | {f}/runs/metrics_list | metrics_list
one | {f}/runs/index_text | index_text
one | {f}/runs/details_list | details_list
one | {f}/runs/protocol_list | protocol_list
one | {f}/runs/no_share | no
one | {f}/{300} | xxx
one | a\0b | NUL
two | --output x.txt | x.txt
two | --output {f}/regular_file/x.md | regular_file
two | --output {f}/folder.csv | folder.csv
two | --output {300}.md | xxx
two | --output | --output
two | --nonsense | --nonsense
"""


@pytest.mark.parametrize("case", cases("evaluate/evaluate.py", BASES, EVALUATE))
def test_evaluate(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("evaluate/score.py", BASES, SCORE))
def test_score(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("evaluate/compare.py", BASES, COMPARE))
def test_compare(case, files, tmp_path):
    check(case, files, tmp_path)
