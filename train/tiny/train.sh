#!/usr/bin/env bash
# Makes ckpt/tiny from nothing: renders clips, trains VAE, text encoder and backbone, then branch and ID adapter with the
# two scripts that train the large ones, puts all together, and measures it.
#   bash train/tiny/train.sh [WORK_FOLDER]
# Finished stages are skipped and a training goes on at its last checkpoint. Hours on one CPU core.
# All that is shipped is this recipe's; bold.sh makes, stage by stage, the stack that is to replace it.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(realpath -m "${1:-outputs/tiny}")
: "${TARGET:=$PWD/ckpt/tiny}"
stage() { echo "== $*"; python "train/tiny/$1.py" --work "$work" "${@:2}"; }

# 1. VAE, text encoder, backbone
stage render --name heldout --clips 48 --frames 49 --first_seed 900000
stage render --name short --clips 2400 --frames 17 --first_seed 0
stage render --name long --clips 240 --frames 49 --first_seed 500000
stage basis
for name in short long heldout; do stage cache --name $name; done
stage vae --part trunk --steps 1500 --lr 4e-3
stage vae --part encoder --steps 700 --lr 1e-3
stage vae --part decoder --steps 1100
stage backbone
stage export --part backbone --target "$TARGET"

# 2. Clips and latents for the two trainings
python data_utils/make_synthetic.py --output_dir "$work/data" --clips 2400 --val_clips 32 --test_clips 16 \
  --long_clips 400 --long_test_clips 12 --num_frames 17 --long_frames 57 --height 64 --width 96 --seed 7 \
  --removal_share 0.9

export MODEL_PATH="$TARGET/CogVideoX-5b-I2V" DATASET_PATH="$work/data" REPORT_TO=none MIXED_PRECISION=bf16
export VAL_META_FILE_PATH="$work/data/pexels_videovo_val_dataset.csv"
size=(--height 64 --width 96 --fps 8 --max_text_seq_length 56 --first_frame_gt false --proportion_empty_prompts 0.1)
short=("${size[@]}" --max_num_frames 17)
long=("${size[@]}" --max_num_frames 57 --mask_transform_prob 0)

cache() { # FOLDER CSV FLAGS...
  python train/cache_latents.py --pretrained_model_name_or_path "$MODEL_PATH" --latent_cache "$work/$1" \
    --meta_file_path "$2" --batch_size 8 --dtype float32 "${@:3}"
}
train_csv="$work/data/pexels_videovo_train_dataset.csv" long_csv="$work/data/pexels_videovo_train_long_dataset.csv"
cache cache "$train_csv" --variants 1 "${short[@]}"
cache cache_val "$VAL_META_FILE_PATH" --variants 1 "${short[@]}" --mask_transform_prob 0 --proportion_empty_prompts 0
cache cache_long "$long_csv" --variants 1 "${long[@]}"

# 3. Branch and ID adapter
META_FILE_PATH="$train_csv" OUTPUT_PATH="$work/branch_run" bash train/VideoPainter.sh "${short[@]}" \
  --latent_cache "$work/cache" --val_latent_cache "$work/cache_val" --num_validation_videos 0 --validation_samples 32 \
  --validation_batch_size 16 --validating_steps 250 --train_batch_size 24 --max_train_steps 1500 \
  --learning_rate 1.5e-3 --lr_scheduler cosine --lr_warmup_steps 100 --gradient_checkpointing false \
  --noised_image_dropout 0.4 --use_ema --ema_decay 0.99 --checkpointing_steps 100 --checkpoints_total_limit 2 \
  --resume_from_checkpoint latest
META_FILE_PATH="$long_csv" BRANCH_MODEL_PATH="$work/branch_run/checkpoint-1500/branch" OUTPUT_PATH="$work/id_run" \
  bash train/VideoPainterID.sh "${long[@]}" --latent_cache "$work/cache_long" --validating_steps 0 \
  --train_batch_size 6 --max_train_steps 3000 --rank 32 --lora_alpha 32 --learning_rate 3e-3 --lr_scheduler cosine \
  --lr_warmup_steps 20 --gradient_checkpointing false --inpainting_loss_weight 8 --prev_clip_prob 0.6 \
  --prev_clip_weight 1 --use_ema --ema_decay 0.99 --checkpointing_steps 50 --checkpoints_total_limit 2 --resume_from_checkpoint latest
stage export --part trained --target "$TARGET" --branch "$work/branch_run/checkpoint-1500" \
  --id_adapter "$work/id_run/checkpoint-3000"

# 4. Curves and measurements
python train/plot_curves.py --runs "$work/branch_run" --output "$TARGET/curves_branch.png"
python train/plot_curves.py --runs "$work/id_run" --output "$TARGET/curves_id_adapter.png"
python train/tiny/evaluate.py --checkpoint "$TARGET" --output "$work/evaluation" --update_readme
