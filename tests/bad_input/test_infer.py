"""Wrong input of `infer/inpaint.py`; a line is a case (`harness.py` says how to read it)."""

import pytest
from bad_input.harness import Case, cases, check
from bad_input.wrong_files import CONFIGS, config_name

OWN = "--video {f}/video.mp4 --mask {f}/mask.mp4 --output_path result.mp4 --overwrite"
ROW = "--inpainting_mask_meta {f}/bench/good.csv --inpainting_sample_id 0 --output_path result.mp4 --overwrite"
BASES = {"none": "", "own": OWN, "row": ROW}

FLAGS = r"""
none |  | --video
own | --conditioning_scale nan | conditioning_scale
own | --conditioning_scale inf | conditioning_scale
own | --conditioning_scale -inf | conditioning_scale
own | --conditioning_scale 1e300 | conditioning_scale
own | --guidance_scale nan | guidance_scale
own | --guidance_scale inf | guidance_scale
own | --guidance_scale -1 | guidance_scale
own | --guidance_scale 1e9 | guidance_scale
own | --prev_clip_weight nan | prev_clip_weight
own | --prev_clip_weight inf | prev_clip_weight
own | --strength nan | strength
own | --strength 0 | strength
own | --strength 1.5 | strength
own | --strength -1 | strength
own | --num_inference_steps 0 | num_inference_steps
own | --num_inference_steps -1 | num_inference_steps
own | --num_inference_steps 1001 | num_inference_steps
own | --num_inference_steps 1000000000 | num_inference_steps
own | --num_inference_steps 1.5 | num_inference_steps
own | --seed -1 | seed
own | --seed 123456789012345678901234567890 | seed
own | --seed 18446744073709551616 | seed
own | --seed x | seed
own | --num_videos_per_prompt 0 | num_videos_per_prompt
own | --num_videos_per_prompt -1 | num_videos_per_prompt
own | --num_videos_per_prompt 1000000000 --output_path out/ | num_videos_per_prompt
own | --num_videos_per_prompt 2 --output_path x.mp4 | x.mp4
own | --height 1000000 --width 1000000 | height
own | --height 1000000 --width 16 | height
own | --height 16 --width 99999984 | width
own | --height 16000 --width 16000 | 16000
own | --height -16 --width 64 | height
own | --height 0 --width 64 | height
own | --height 50 --width 64 | 50
own | --height 48 | width
own | --height 48 --width nan | width
own | --inpainting_frames 48 | 48
own | --inpainting_frames 0 | frames
own | --inpainting_frames -3 | frames
own | --inpainting_frames 1000000001 | frames
own | --overlap_frames 12 | 12
own | --overlap_frames -1 | overlap_frames
own | --inpainting_frames 9 --overlap_frames 9 | 9
own | --feather -1 | feather
own | --feather 1000000000 | feather
own | --dilate_size -3 | dilate_size
own | --dilate_size 1000000 | dilate_size
own | --dilate_size 99999999999999999999 | dilate_size
own | --resize_to 1000000x1000000 | resize_to
own | --resize_to 99999999999x2 | resize_to
own | --resize_to 0x0 | resize_to
own | --resize_to -1x5 | resize_to
own | --resize_to 48 | resize_to
own | --resize_to nanxnan | resize_to
own | --resize_to 30000x30000 | resize_to
own | --down_sample_fps fast | fast
own | --down_sample_fps nan | down_sample_fps
own | --down_sample_fps inf | down_sample_fps
own | --down_sample_fps -8 | down_sample_fps
own | --down_sample_fps 1/0 | down_sample_fps
own | --down_sample_fps 1e-300 | down_sample_fps
own | --video {f}/frames_good --mask {f}/mask.png --video_fps inf | video_fps
own | --video {f}/frames_good --mask {f}/mask.png --video_fps 0 | video_fps
own | --video {f}/frames_good --mask {f}/mask.png --video_fps 1e30 | video_fps
own | --mask_id -1 --mask {f}/ids.npz | mask_id
own | --mask_id 7 --mask {f}/ids.npz | 7
own | --mask_id 99999999999999999999999 --mask {f}/ids.npz | mask_id
own | --mask_id 3 | mask_id
own | --lora_rank 256 | lora_rank
own | --lora_rank -1 | lora_rank
own | --prev_clip_weight 0.5 | prev_clip_weight
own | --match_edges --replace_gt false | match_edges
own | --crop auto --paste_background false | crop
own | --crop small | crop
own | --cache first_block --cache_threshold nan | threshold
own | --cache first_block --cache_threshold inf | threshold
own | --cache first_block --cache_threshold -1 | threshold
own | --cache taylorseer --cache_threshold 2.5 | threshold
own | --cache taylorseer --cache_threshold 1e30 | threshold
own | --cache_threshold 1 | cache
own | --cache mag | ratios
own | --cache mag --cache_ratios {f}/gone.json | gone.json
own | --cache mag --cache_ratios {f}/ratios_nan.json | ratios_nan.json
own | --cache mag --cache_ratios {f}/ratios_text.json | ratios_text.json
own | --cache mag --cache_ratios {f}/folder.csv | folder.csv
own | --dtype float8 | float8
own | --device tpu | tpu
own | --device cuda:99 | cuda:99
own | --device cuda:-5 | cuda:-5
own | --device meta | meta
own | --device "" | device
own | --quantization int3 | int3
own | --scheduler euler | euler
own | --generate_type t2v | t2v
own | --inpaint_frames 49 | --inpaint_frames
own | --num_inference 3 | --num_inference
own | video.mp4 | video.mp4
own | --seed | seed
own | --replace_gt maybe | replace_gt
own | --prompt_at later | prompt_at
own | --prompt_at 10:later | 10
own | --prompt_at -1:later | prompt_at
own | --prompt_at ²:later | prompt_at
own | --prompt_at 99999999999999999999999:later | prompt_at
own | --llm_model gpt-4o --img_inpainting_model {f}/models/filler | OPENAI_API_KEY
own | --llm_model replay: --img_inpainting_model {f}/models/filler | replay:FILE
own | --llm_model replay:{f}/gone.json --img_inpainting_model {f}/models/filler | gone.json
own | --llm_model replay:{f}/video.mp4 --img_inpainting_model {f}/models/filler | video.mp4
own | --llm_model {f}/models/filler --img_inpainting_model {f}/models/filler | vision-language
own | --img_inpainting_model {f}/no_filler | no_filler
own | --img_inpainting_model {f}/video.mp4 | video.mp4
own | --img_inpainting_model {f}/models/other | other
own | --img_inpainting_model "" | img_inpainting_model
own | --img_inpainting_model {f}/models/list_index | list_index
own | --img_inpainting_model none --first_frame_gt | --first_frame_gt
own | --first_frame {f}/gone.png | gone.png
own | --first_frame {f}/wide.png | wide.png
own | --first_frame {f}/million.png | million.png
own | --first_frame {f}/large.png | large.png
own | --first_frame {f}/cut.png | cut.png
own | --first_frame {f}/folder.png | folder.png
own | --first_frame {f}/video.mp4 | video.mp4
own | --first_frame {f}/loop.mp4 | loop.mp4
"""

FILES = r"""
own | --video {f}/gone.mp4 | gone.mp4
own | --video {f}/random.mp4 | random.mp4
own | --video {f}/text.mp4 | text.mp4
own | --video {f}/truncated.mp4 | truncated.mp4
own | --video {f}/first_bytes.mp4 | first_bytes.mp4
own | --video {f}/nothing.mp4 | nothing.mp4
own | --video {f}/sound_only.mp4 | sound_only.mp4
own | --video {f}/loop.mp4 | loop.mp4
own | --video {f}/loop_folder | loop_folder
own | --video {f}/loop_folder/video.mp4 | video.mp4
own | --video {f}/dangling.mp4 | dangling.mp4
own | --video {f}/folder.mp4 | folder.mp4
own | --video {f}/pipe.mp4 | pipe.mp4
own | --video /dev/zero | /dev/zero
own | --video {f}/no_images | no_images
own | --video {f}/mixed_sizes | mixed_sizes
own | --video {f}/frames | 1.png
own | --video {f}/playlist.m3u8 | playlist.m3u8
own | --video {f}/regular_file/video.mp4 | video.mp4
own | --video {f}/{300}.mp4 | xxx
own | --video "" | --video
own | --video {f}/a\0b.mp4 | a
own | --video {f}/million.png | million.png
own | --video {f}/large.png | large.png
own | --video {f}/text.png | text.png
own | --mask {f}/gone.png | gone.png
own | --mask {f}/mask_short.mp4 | mask_short.mp4
own | --mask {f}/mask_long.mp4 | mask_long.mp4
own | --mask {f}/mask_tall.mp4 | mask_tall.mp4
own | --mask {f}/mask_empty.mp4 | empty
own | --mask {f}/mask_empty.png | empty
own | --mask {f}/wide.png | wide.png
own | --mask {f}/transparent.png | transparent.png
own | --mask {f}/cut.png | cut.png
own | --mask {f}/text.png | text.png
own | --mask {f}/million.png | million.png
own | --mask {f}/large.png | large.png
own | --mask {f}/no_images | no_images
own | --mask {f}/folder.npz | folder.npz
own | --mask {f}/loop.mp4 | loop.mp4
own | --mask {f}/{300}.npz | xxx
own | --mask {f}/a\0b.npz | a
own | --mask {f}/two_ids.npz | two_ids.npz
own | --mask {f}/no_ids.npz | no_ids.npz
own | --mask {f}/float_ids.npz | float_ids.npz
own | --mask {f}/flat_ids.npz | flat_ids.npz
own | --mask {f}/other_names.npz | other_names.npz
own | --mask {f}/objects.npz | objects.npz
own | --mask {f}/short_ids.npz | short_ids.npz
own | --mask {f}/small_ids.npz | small_ids.npz
own | --mask {f}/cut_ids.npz | cut_ids.npz
own | --mask {f}/damaged_ids.npz --mask_id 3 | damaged_ids.npz
own | --mask {f}/text.npz | text.npz
own | --mask {f}/text.npy | text.npy
own | --mask {f}/bomb.npz | bomb.npz
own | --mask {f}/bomb.npz --mask_id 3 | bomb.npz
own | --mask {f}/huge_shape.npz --mask_id 3 | huge_shape.npz
own | --mask {f}/bomb_that_fits.npz --mask_id 3 | bomb_that_fits.npz
own | --mask {f}/locked.npz | locked.npz
own | --mask {f}/long_header.npz | long_header.npz
own | --mask {f}/negative_shape.npz --mask_id 3 | negative_shape.npz
own | --mask {f}/video.mp4/mask.png | mask.png
own | --video {f}/one_frame.mp4 | 1
own | --video {f}/odd.mp4 --mask {f}/small_ids.npz | small_ids.npz
own | --video {f}/tall.mp4 | mask.mp4
own | --output_path out.txt | out.txt
own | --output_path {f}/video.mp4 | video.mp4
own | --output_path {f}/regular_file/out.mp4 | regular_file
own | --output_path {f}/folder.mp4/x/../../regular_file/out.mp4 | regular_file
own | --output_path {f}/loop_folder/out.mp4 | loop_folder
own | --output_path {300}.mp4 | xxx
own | --output_path {300}/result.mp4 | xxx
own | --output_path a\0b.mp4 | a
own | --output_path /proc/result.mp4 | /proc
own | --output_path {f}/{nonsense}.mp4 | nonsense
own | --output_path {f}/{.mp4 | output_path
own | --output_path {f}/{seed.real}.mp4 | output_path
own | --output_path {f}/{seed:99999999999}.mp4 | output_path
own | --lossless --output_path x.mp4 | .mkv
"""

TABLES = r"""
row | --inpainting_mask_meta {f}/bench/gone.csv | gone.csv
row | --inpainting_mask_meta {f}/bench/empty.csv | empty.csv
row | --inpainting_mask_meta {f}/bench/binary.csv | binary.csv
row | --inpainting_mask_meta {f}/bench/latin.csv | latin.csv
row | --inpainting_mask_meta {f}/bench/quotes.csv | quotes.csv
row | --inpainting_mask_meta {f}/bench/more_cells.csv | more_cells.csv
row | --inpainting_mask_meta {f}/bench/one_more_cell.csv | a comma without quotes
row | --inpainting_mask_meta {f}/bench/semicolons.csv | semicolons.csv
row | --inpainting_mask_meta {f}/bench/no_rows.csv | no_rows.csv
row | --inpainting_mask_meta {f}/bench/no_mask_id.csv | mask_id
row | --inpainting_mask_meta {f}/bench/no_caption.csv | caption
row | --inpainting_mask_meta {f}/bench/missing_video.csv | 000000009000.0.mp4
row | --inpainting_mask_meta {f}/bench/start_frame=nan.csv | start_frame
row | --inpainting_mask_meta {f}/bench/start_frame=inf.csv | start_frame
row | --inpainting_mask_meta {f}/bench/start_frame=-1.csv | -1
row | --inpainting_mask_meta {f}/bench/start_frame=1e400.csv | start_frame
row | --inpainting_mask_meta {f}/bench/start_frame=99999999999999999999999.csv | start_frame
row | --inpainting_mask_meta {f}/bench/start_frame=.csv | start_frame
row | --inpainting_mask_meta {f}/bench/end_frame=nan.csv | end_frame
row | --inpainting_mask_meta {f}/bench/end_frame=-1.csv | -1
row | --inpainting_mask_meta {f}/bench/end_frame=many.csv | end_frame
row | --inpainting_mask_meta {f}/bench/fps=inf.csv | fps
row | --inpainting_mask_meta {f}/bench/fps=nan.csv | fps
row | --inpainting_mask_meta {f}/bench/fps=-1.csv | fps
row | --inpainting_mask_meta {f}/bench/fps=many.csv | fps
row | --inpainting_mask_meta {f}/bench/fps=1e400.csv | fps
row | --inpainting_mask_meta {f}/bench/mask_id=1.5.csv | mask_id
row | --inpainting_mask_meta {f}/bench/mask_id=nan.csv | mask_id
row | --inpainting_mask_meta {f}/bench/mask_id=-1.csv | mask_id
row | --inpainting_mask_meta {f}/bench/mask_id=99999999999999999999999.csv | mask_id
row | --inpainting_mask_meta {f}/bench/path_up.csv | x.mp4
row | --inpainting_mask_meta {f}/bench/path_absolute.csv | x.mp4
row | --inpainting_mask_meta {f}/bench/path_no_mp4.csv | video.avi
row | --inpainting_mask_meta {f}/bench/path_empty.csv | path
row | --inpainting_mask_meta {f}/bench/path_long.csv | xxx
row | --inpainting_mask_meta {f}/bench/path_nul.csv | path
row | --inpainting_mask_meta {f}/bench/path_short.csv | path
row | --inpainting_mask_meta {f}/bench/nul.csv | nul.csv
row | --inpainting_mask_meta {f}/bench/reverse.csv | reverse.csv
row | --inpainting_mask_meta {f}/bench/behind.csv | behind.csv
row | --inpainting_mask_meta {f}/bench/davis_up.csv | davis_up.csv
row | --inpainting_mask_meta {f}/bench/davis_gone.csv | gone
row | --inpainting_mask_meta {f}/bench/davis_nul.csv | davis_nul.csv
row | --inpainting_mask_meta {f}/folder.csv | folder.csv
row | --inpainting_mask_meta {f}/loop.mp4 | loop.mp4
row | --inpainting_mask_meta {f}/pipe.csv | pipe.csv
row | --inpainting_mask_meta {f}/{300}.csv | xxx
row | --inpainting_mask_meta {f}/video.mp4 | video.mp4
row | --inpainting_mask_meta /dev/zero | /dev/zero
row | --inpainting_sample_id 5 | 5
row | --inpainting_sample_id first | first
row | --inpainting_sample_id -1 | sample
row | --inpainting_sample_id ² | ²
row | --inpainting_sample_id 3-1 | 3-1
row | --inpainting_sample_id 0-99999999999999999999 | 99999999999999999999
row | --inpainting_sample_id "" | sample
row | --image_or_video_path {f}/gone | gone
row | --image_or_video_path {f}/loop_folder | loop_folder
row | --image_or_video_path {f}/video.mp4 | video.mp4
row | --mask {f}/mask.mp4 | --mask
own | --inpainting_mask_meta {f}/bench/good.csv --inpainting_sample_id 0 | both
"""

MODELS = r"""
own | --inpainting_branch {f}/models/gone | gone
own | --model_path {f}/models/gone | gone
own | --model_path {f}/video.mp4 | video.mp4
own | --model_path {f}/loop_folder | loop_folder
own | --model_path {f}/models/nothing | nothing
own | --model_path "" | model
own | --inpainting_branch {f}/models/other | other
own | --inpainting_branch {f}/models/nothing | nothing
own | --id_adapter_resample_learnable_path {f}/models/other | other
own | --id_adapter_resample_learnable_path {f}/narrow.safetensors | narrow.safetensors
own | --id_adapter_resample_learnable_path {f}/no_lora.safetensors | no_lora.safetensors
own | --id_adapter_resample_learnable_path {f}/text.safetensors | text.safetensors
own | --id_adapter_resample_learnable_path {f}/folder.safetensors | folder.safetensors
own | --id_adapter_resample_learnable_path {f}/adapter_form.safetensors | adapter_form
own | --id_adapter_resample_learnable_path {f}/adapter_fill.safetensors | adapter_fill
own | --id_adapter_resample_learnable_path {f}/adapter_alpha.safetensors | adapter_alpha
own | --id_adapter_resample_learnable_path {f}/adapter_alpha_list.safetensors | adapter_alpha_list
own | --id_adapter_resample_learnable_path {f}/adapter_alpha_nan.safetensors | adapter_alpha_nan
own | --lora_path {f}/gone.safetensors | gone.safetensors
own | --lora_path {f}/text.mp4 | text.mp4
own | --lora_path {f}/narrow.safetensors | 3
own | --lora_path {f}/no_lora.safetensors | no_lora
own | --lora_path {f}/nothing.mp4 | nothing.mp4
"""


@pytest.mark.parametrize("case", cases("infer/inpaint.py", BASES, FLAGS))
def test_flags(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("infer/inpaint.py", BASES, FILES))
def test_files(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("infer/inpaint.py", BASES, TABLES))
def test_tables(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("infer/inpaint.py", BASES, MODELS))
def test_models(case, files, tmp_path):
    check(case, files, tmp_path)


BRANCH = "--inpainting_branch {f}/models/good_branch"
FOLDERS = [
    "no_index",
    "text_index",
    "list_index",
    "no_transformer_config",
    "no_vae_weights",
    "empty_weights",
    "lfs",
    "huge_header",
    "list_header",
    "odd_header",
    "no_tokenizer",
    "text_config",
    "list_config",
    "latin_config",
    "nested_config",
    "no_scheduler",
    "list_scheduler",
    "text_scheduler",
    "list_tokenizer",
    "text_tokenizer",
    "cut_weights",
    "no_tokenizer_model",
    "index_up",
    "index_list",
    "index_text",
    "index_no_map",
]
CONFIG_NAMES = [(part, config_name(part, name, value)) for part, name, values in CONFIGS for value in values]


@pytest.mark.parametrize("name", FOLDERS)
def test_backbones(name, files, tmp_path):
    check(Case("infer/inpaint.py", f"{OWN} {BRANCH} --model_path {{f}}/models/{name}", name), files, tmp_path)


@pytest.mark.parametrize(("part", "name"), CONFIG_NAMES)
def test_configs(part, name, files, tmp_path):
    """The line names the file that is wrong."""
    words = f'{OWN} {BRANCH} --model_path "{{f}}/models/{name}"'
    check(Case("infer/inpaint.py", words, f"{name}/{part}"), files, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "branch_layers_text",
        "branch_layers_many",
        "branch_layers_none",
        "branch_width",
        "branch_fill_text",
        "branch_fill_nan",
        "branch_fill_far",
        "branch_channels",
        "branch_list",
        "branch_text",
    ],
)
def test_branches(name, files, tmp_path):
    check(Case("infer/inpaint.py", f"{OWN} --inpainting_branch {{f}}/models/{name}", name), files, tmp_path)
