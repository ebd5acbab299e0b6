#!/usr/bin/env bash
# Makes ckpt/tiny from nothing: renders clips, trains VAE, text encoder and backbone, then branch and ID adapter with the
# two scripts that train the large ones, puts all together, and measures it.
#   bash train/tiny/train.sh [WORK_FOLDER]
# Finished stages are skipped and a training goes on at its last checkpoint. Hours on one CPU core. With
# START=ckpt/tiny VAE, text encoder and backbone are that checkpoint's, and only branch and adapter are trained.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(realpath -m "${1:-outputs/tiny}")
# Large tensors come and go: without this a fifth of the time goes into page faults.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368:glibc.malloc.top_pad=268435456
: "${TARGET:=$PWD/ckpt/tiny}" "${CLIPS:=1600}" "${LONG_CLIPS:=240}" "${BRANCH_STEPS:=1000}" "${ID_STEPS:=700}"
stage() { echo "== $*"; python "train/tiny/$1.py" --work "$work" "${@:2}"; }

# 1. VAE, text encoder, backbone
mkdir -p "$work"
if [ -n "${START:-}" ]; then stage start --checkpoint "$START"; fi
stage render --name stills_heldout --clips 400 --frames 1 --first_seed 910000
stage render --name stills --clips 3200 --frames 1 --first_seed 1000000
if [ ! -e "$work/videos.pt" ]; then
  stage render --name heldout --clips 24 --frames 17 --first_seed 900000
  stage render --name short --clips 400 --frames 17 --first_seed 0
  stage render --name clips --clips 1200 --frames 17 --first_seed 2000000
  stage basis
  stage trunk
  stage autoencoder
  stage judge --steps 1200
  stage decoder
  stage images --steps 4400
fi
stage videos
stage paintings --count 200
stage export --part backbone --target "$TARGET"

# 2. Clips and latents for the two trainings
python data_utils/make_synthetic.py --bold --output_dir "$work/data" --clips "$CLIPS" --val_clips 32 --test_clips 16 \
  --long_clips "$LONG_CLIPS" --long_test_clips 12 --num_frames 17 --long_frames 57 --height 96 --width 144 --seed 7 \
  --removal_share 0.5

export MODEL_PATH="$TARGET/CogVideoX-5b-I2V" DATASET_PATH="$work/data" REPORT_TO=none
MIXED_PRECISION=$(python -c 'import torch; print("bf16" if torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported() else "no")')
export MIXED_PRECISION VAL_META_FILE_PATH="$work/data/pexels_videovo_val_dataset.csv"
size=(--height 96 --width 144 --fps 8 --max_text_seq_length 36 --first_frame_gt false --proportion_empty_prompts 0.1)
short=("${size[@]}" --max_num_frames 17)
long=("${size[@]}" --max_num_frames 57 --mask_transform_prob 0)

cache() { # FOLDER CSV FLAGS...
  python train/cache_latents.py --pretrained_model_name_or_path "$MODEL_PATH" --latent_cache "$work/$1" \
    --meta_file_path "$2" --batch_size 4 --dtype float32 "${@:3}"
}
train_csv="$work/data/pexels_videovo_train_dataset.csv" long_csv="$work/data/pexels_videovo_train_long_dataset.csv"
cache cache "$train_csv" --variants 1 "${short[@]}"
cache cache_val "$VAL_META_FILE_PATH" --variants 1 "${short[@]}" --mask_transform_prob 0 --proportion_empty_prompts 0
cache cache_long "$long_csv" --variants 1 "${long[@]}"

# 3. Branch and ID adapter
META_FILE_PATH="$train_csv" OUTPUT_PATH="$work/branch_run" bash train/VideoPainter.sh "${short[@]}" \
  --latent_cache "$work/cache" --val_latent_cache "$work/cache_val" --num_validation_videos 0 --validation_samples 32 \
  --validation_batch_size 8 --validating_steps 250 --train_batch_size 12 --max_train_steps "$BRANCH_STEPS" \
  --learning_rate 1.5e-3 --lr_scheduler cosine --lr_warmup_steps 100 --gradient_checkpointing false \
  --noised_image_dropout 0.4 --inpainting_loss_weight 5 --use_ema --ema_decay 0.99 --checkpointing_steps 100 --checkpoints_total_limit 2 \
  --resume_from_checkpoint latest
META_FILE_PATH="$long_csv" BRANCH_MODEL_PATH="$work/branch_run/checkpoint-$BRANCH_STEPS/branch" OUTPUT_PATH="$work/id_run" \
  bash train/VideoPainterID.sh "${long[@]}" --latent_cache "$work/cache_long" --validating_steps 0 \
  --train_batch_size 4 --max_train_steps "$ID_STEPS" --rank 32 --lora_alpha 32 --learning_rate 3e-3 --lr_scheduler cosine \
  --lr_warmup_steps 20 --gradient_checkpointing false --inpainting_loss_weight 8 --prev_clip_prob 0.6 \
  --prev_clip_weight 1 --use_ema --ema_decay 0.99 --checkpointing_steps 50 --checkpoints_total_limit 2 --resume_from_checkpoint latest
stage export --part trained --target "$TARGET" --branch "$work/branch_run/checkpoint-$BRANCH_STEPS" \
  --id_adapter "$work/id_run/checkpoint-$ID_STEPS"

# 4. Curves and measurements
python train/plot_curves.py --runs "$work/branch_run" --output "$TARGET/curves_branch.png"
python train/plot_curves.py --runs "$work/id_run" --output "$TARGET/curves_id_adapter.png"
python train/tiny/evaluate.py --checkpoint "$TARGET" --output "$work/evaluation" --update_readme
