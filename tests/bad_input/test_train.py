"""Wrong input of the training doors: both scripts, the latent cache, the curves."""

import importlib.util

import pytest
from bad_input.harness import REPO, Case, cases, check

MODEL = f"--pretrained_model_name_or_path {REPO}/ckpt/tiny/CogVideoX-5b-I2V"
SIZES = "--height 48 --width 64 --max_num_frames 5 --meta_file_path {f}/bench/good.csv"
RUN = f"{MODEL} {SIZES} --output_dir run --max_train_steps 1 --report_to none --cpu"
BRANCH = f"--cogvideox_branch_name_or_path {REPO}/ckpt/tiny/VideoPainter/checkpoints/branch"
BASES = {
    "none": "",
    "run": RUN,
    "cache": f"{MODEL} {SIZES} --latent_cache cache --device cpu",
    "adapter": f"{RUN} {BRANCH} --id_pool_resample_learnable",
    "plot": "--output curves.png --runs {f}/runs/train_good",
}

TRAIN = r"""
none | --meta_file_path {f}/bench/good.csv | pretrained_model_name_or_path
none | --pretrained_model_name_or_path x | meta_file_path
run | --inpainting_loss_weight nan | inpainting_loss_weight
run | --inpainting_loss_weight inf | inpainting_loss_weight
run | --inpainting_loss_weight -1 | inpainting_loss_weight
run | --learning_rate nan | learning_rate
run | --learning_rate 0 | learning_rate
run | --learning_rate -1e-3 | learning_rate
run | --learning_rate inf | learning_rate
run | --learning_rate 1e30 | learning_rate
run | --adam_beta1 1 | adam_beta1
run | --adam_epsilon 0 | adam_epsilon
run | --max_grad_norm nan | max_grad_norm
run | --adam_weight_decay inf | adam_weight_decay
run | --lr_power nan --lr_scheduler polynomial | lr_power
run | --lr_num_cycles 0 | lr_num_cycles
run | --lr_warmup_steps -1 | lr_warmup_steps
run | --lr_scheduler wavy | wavy
run | --optimizer SGD | SGD
run | --train_batch_size 0 | train_batch_size
run | --train_batch_size 1000000 | train_batch_size
run | --train_batch_size 99999999999999999999 | train_batch_size
run | --gradient_accumulation_steps 0 | gradient_accumulation_steps
run | --gradient_accumulation_steps 1000000000 | gradient_accumulation_steps
run | --max_train_steps 0 | max_train_steps
run | --max_train_steps 1e3 | max_train_steps
run | --num_train_epochs -1 | num_train_epochs
run | --dataloader_num_workers 1000000 | dataloader_num_workers
run | --dataloader_num_workers -1 | dataloader_num_workers
run | --max_unreadable_share nan | max_unreadable_share
run | --checkpointing_steps -1 | checkpointing_steps
run | --checkpoints_total_limit 0 | checkpoints_total_limit
run | --branch_layer_num 0 | branch_layer_num
run | --branch_layer_num 100000 | branch_layer_num
run | --branch_layer_num 9 | branch_layer_num
run | --hole_fill nan | hole_fill
run | --hole_fill 2 | hole_fill
run | --max_text_seq_length 0 | max_text_seq_length
run | --max_text_seq_length 1000000000 | max_text_seq_length
run | --noised_image_dropout 1.5 | noised_image_dropout
run | --mixed_precision fp8 | fp8
run | --video_reader opencv | video_reader
run | --frozen_dtype bfloat16 | frozen_dtype
run | --ema_decay 1 --use_ema | ema_decay
run | --ema_decay nan --use_ema | ema_decay
run | --seed -1 | seed
run | --seed 123456789012345678901234567890 | seed
run | --height 1000000 --width 1000000 | height
run | --height 16384 --width 16384 | height
run | --height 50 | 50
run | --height -16 | height
run | --fps nan | fps
run | --fps inf | fps
run | --fps 1e-300 | fps
run | --fps -8 | fps
run | --max_num_frames 48 | 48
run | --max_num_frames 1000000001 | max_num_frames
run | --video_reshape_mode stretch | stretch
run | --skip_frames_start -1 | skip_frames_start
run | --skip_frames_start 100 | good.csv
run | --random_flip nan | random_flip
run | --mix_train_ratio inf | mix_train_ratio
run | --proportion_empty_prompts -0.5 | proportion_empty_prompts
run | --min_caption_length 1000 | good.csv
run | --p_brush nan | p_brush
run | --margin_ratio 0.5 | margin_ratio
run | --shape_scale_max inf | shape_scale_max
run | --shape_scale_min 2 --shape_scale_max 1 | shape_scale_min
run | --logging_steps 0 | logging_steps
run | --report_to mlflow | mlflow
run | --validation_timesteps 1000 | validation_timesteps
run | --validation_timesteps -1 | validation_timesteps
run | --validation_timesteps 1 1 | validation_timesteps
run | --validation_seed 123456789012345678901234567890 | validation_seed
run | --num_inference_steps 1001 | num_inference_steps
run | --guidance_scale nan | guidance_scale
run | --num_validation_videos 1000000000 | num_validation_videos
run | --validation_batch_size 1000000000 | validation_batch_size
run | --validating_steps -1 | validating_steps
run | --val_meta_file_path {f}/bench/gone.csv | gone.csv
run | --val_meta_file_path {f}/bench/empty.csv | empty.csv
run | --resume_from_checkpoint checkpoint-9 | checkpoint-9
run | --resume_from_checkpoint {f}/video.mp4 | video.mp4
run | --output_dir {f}/regular_file | regular_file
run | --output_dir {f}/regular_file/run | regular_file
run | --output_dir {f}/loop_folder | loop_folder
run | --output_dir {300} | xxx
run | --output_dir a\0b | output_dir
run | --output_dir /proc/run | /proc/run
run | --hieght 3 | --hieght
run | --latent_cache {f}/gone | gone
run | --latent_cache {f}/empty | empty
run | --latent_cache {f}/video.mp4 | video.mp4
run | --latent_cache {f}/caches/list | settings.json
run | --latent_cache {f}/caches/text | settings.json
run | --latent_cache {f}/caches/nested | settings.json
run | --latent_cache {f}/caches/half | settings.json
run | --meta_file_path {f}/bench/gone.csv | gone.csv
run | --meta_file_path {f}/bench/empty.csv | empty.csv
run | --meta_file_path {f}/bench/binary.csv | binary.csv
run | --meta_file_path {f}/bench/nul.csv | nul.csv
run | --meta_file_path {f}/bench/one_more_cell.csv | a comma without quotes
run | --meta_file_path {f}/bench/no_mask_id.csv | mask_id
run | --meta_file_path {f}/bench/no_rows.csv | no_rows.csv
run | --meta_file_path {f}/bench/short_captions.csv | short_captions.csv
run | --meta_file_path {f}/bench/fps=inf.csv | fps=inf.csv
run | --meta_file_path {f}/bench/fps=nan.csv | fps=nan.csv
run | --meta_file_path {f}/bench/fps=1e400.csv | fps=1e400.csv
run | --meta_file_path {f}/bench/start_frame=inf.csv | start_frame=inf.csv
run | --meta_file_path {f}/bench/mask_id=99999999999999999999999.csv | mask_id
run | --meta_file_path {f}/bench/path_absolute.csv | path_absolute.csv
run | --meta_file_path {f}/bench/reverse.csv | reverse.csv
run | --meta_file_path {f}/pipe.csv | pipe.csv
run | --meta_file_path {f}/folder.csv | folder.csv
run | --instance_data_root {f}/gone | gone
run | --instance_data_root {f}/video.mp4 | video.mp4
run | --pretrained_model_name_or_path {f}/models/gone | gone
run | --pretrained_model_name_or_path {f}/models/nothing | nothing
run | --cogvideox_branch_name_or_path {f}/models/other | other
"""
ADAPTER = r"""
adapter | --rank 0 | rank
adapter | --rank 1000000000 | rank
adapter | --lora_alpha nan | lora_alpha
adapter | --lora_alpha 0 | lora_alpha
adapter | --prev_clip_prob nan | prev_clip_prob
adapter | --prev_clip_prob 2 | prev_clip_prob
adapter | --prev_clip_weight inf | prev_clip_weight
adapter | --prev_clip_weight -1 | prev_clip_weight
adapter | --id_resample_form wide | wide
adapter | --id_pool_resample_learnable false | id_pool_resample_learnable
adapter | --cogvideox_branch_name_or_path {f}/models/nothing | nothing
run |  | cogvideox_branch_name_or_path
"""
CACHE = r"""
none | --meta_file_path {f}/bench/good.csv | --latent_cache
cache | --variants 0 | variants
cache | --variants 1000000000 | variants
cache | --batch_size 1000000 | batch_size
cache | --hole_fill nan | hole_fill
cache | --shard_megabytes nan | shard_megabytes
cache | --shard_megabytes 0 | shard_megabytes
cache | --shard_megabytes inf | shard_megabytes
cache | --dataloader_num_workers -1 | dataloader_num_workers
cache | --max_unreadable_share nan | max_unreadable_share
cache | --max_text_seq_length -1 | max_text_seq_length
cache | --max_text_seq_length 1000000000 | max_text_seq_length
cache | --dtype float8 | float8
cache | --device tpu | tpu
cache | --height 1000000 --width 1000000 | height
cache | --latent_cache {f}/regular_file | regular_file
cache | --latent_cache {f}/frames_good | frames_good
cache | --latent_cache {f}/caches/list | settings.json
cache | --latent_cache {f}/loop_folder | loop_folder
cache | --latent_cache {300} | xxx
cache | --latent_cache /proc/cache | /proc/cache
cache | --meta_file_path {f}/bench/gone.csv | gone.csv
cache | --meta_file_path {f}/bench/fps=inf.csv | fps=inf.csv
cache | --pretrained_model_name_or_path {f}/models/gone | gone
cache | --pretrained_model_name_or_path "" | model
"""
PLOT = r"""
none |  | runs
plot | --runs {f}/gone | gone
plot | --runs {f}/empty | empty
plot | --runs {f}/video.mp4 | video.mp4
plot | --runs {f}/loop_folder | loop_folder
plot | --runs {f}/pipe.csv | pipe.csv
plot | --runs {f}/runs/train_empty | train_empty
plot | --runs {f}/runs/train_text | train_text
plot | --runs {f}/runs/train_list | train_list
plot | --runs {f}/runs/train_no_step | train_no_step
plot | --runs {f}/runs/train_step_text | train_step_text
plot | --runs {f}/runs/train_step_nan | train_step_nan
plot | --runs {f}/runs/train_step_null | train_step_null
plot | --runs {f}/runs/train_all_nan | train_all_nan
plot | --runs {f}/runs/train_huge | train_huge
plot | --runs {f}/runs/train_latin | train_latin
plot | --output curves.txt | curves.txt
plot | --output {f}/regular_file/curves.png | regular_file
plot | --output {f}/folder.png | folder.png
plot | --output {300}.png | xxx
plot | --output /proc/curves.png | /proc
plot | --metrics nonsense | nonsense
plot | --smoothing nan | smoothing
plot | --smoothing 2 | smoothing
plot | --dpi 0 | dpi
plot | --dpi 1000000 | dpi
plot | --dpi nan | dpi
"""
BRANCH_DOOR = "train/train_cogvideox_inpainting_i2v_video.py"
ADAPTER_DOOR = "train/train_cogvideox_inpainting_i2v_video_resample.py"


@pytest.mark.parametrize("case", cases(BRANCH_DOOR, BASES, TRAIN))
def test_branch(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("base", ["run", "cache"])
def test_a_reader_that_is_not_installed(base, files, tmp_path, monkeypatch):
    door = {"run": BRANCH_DOOR, "cache": "train/cache_latents.py"}[base]
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "decord" else known(name, *rest)
    )
    check(Case(door, f"{BASES[base]} --video_reader decord", "pip install decord2"), files, tmp_path)


@pytest.mark.parametrize("case", cases(ADAPTER_DOOR, BASES, ADAPTER))
def test_adapter(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("train/cache_latents.py", BASES, CACHE))
def test_cache(case, files, tmp_path):
    check(case, files, tmp_path)


@pytest.mark.parametrize("case", cases("train/plot_curves.py", BASES, PLOT))
def test_curves(case, files, tmp_path):
    check(case, files, tmp_path)
