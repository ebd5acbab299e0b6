#!/usr/bin/env bash
# Train the ID-resample adapter (a LoRA of the backbone) beside a trained branch, with the public release's settings.
#
#   bash train/VideoPainterID.sh
#   REPORT_TO=none bash train/VideoPainterID.sh --max_train_steps 1000 --resume_from_checkpoint latest
#   CONFIG_FILE=accelerate_config_fsdp2.yaml bash train/VideoPainterID.sh
#   CPU=1 NUM_PROCESSES=2 bash train/VideoPainterID.sh --height 64 --width 96
#
# Every variable below can be set from the environment; paths are seen from this folder. Flags given to the script are
# passed on and win over those below (`--help` documents them). Which launcher starts how many processes: launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./launch.sh

: "${MODEL_PATH:=../ckpt/CogVideoX-5b-I2V}"
: "${BRANCH_MODEL_PATH:=../ckpt/VideoPainter/checkpoints/branch}"
: "${CACHE_PATH:=$HOME/.cache}"
: "${DATASET_PATH:=../data/videovo/raw_video}"
: "${META_FILE_PATH:=../data/pexels_videovo_train_dataset.csv}"
: "${VAL_META_FILE_PATH:=../data/pexels_videovo_val_dataset.csv}"
: "${PROJECT_NAME:=pexels_videovo-inpainting}"
: "${RUNS_NAME:=VideoPainterID}"
: "${OUTPUT_PATH:=./${PROJECT_NAME}/${RUNS_NAME}}"
: "${REPORT_TO:=wandb}"

launch accelerate_config_machine_single_ds_wo_cpu.yaml \
  train_cogvideox_inpainting_i2v_video_resample.py \
  --pretrained_model_name_or_path "$MODEL_PATH" \
  --cogvideox_branch_name_or_path "$BRANCH_MODEL_PATH" \
  --cache_dir "$CACHE_PATH" \
  --meta_file_path "$META_FILE_PATH" \
  --val_meta_file_path "$VAL_META_FILE_PATH" \
  --instance_data_root "$DATASET_PATH" \
  --dataloader_num_workers 1 \
  --num_validation_videos 1 \
  --validation_epochs 1 \
  --seed 42 \
  --rank 256 \
  --lora_alpha 128 \
  --mixed_precision "$MIXED_PRECISION" \
  --output_dir "$OUTPUT_PATH" \
  --height 480 \
  --width 720 \
  --fps 8 \
  --max_num_frames 49 \
  --video_reshape_mode "resize" \
  --skip_frames_start 0 \
  --skip_frames_end 0 \
  --max_text_seq_length 226 \
  --branch_layer_num 2 \
  --train_batch_size 1 \
  --num_train_epochs 10 \
  --checkpointing_steps 256 \
  --validating_steps 128 \
  --gradient_accumulation_steps 1 \
  --learning_rate 5e-5 \
  --lr_scheduler cosine_with_restarts \
  --lr_warmup_steps 200 \
  --lr_num_cycles 1 \
  --enable_slicing \
  --enable_tiling \
  --noised_image_dropout 0.05 \
  --gradient_checkpointing \
  --optimizer AdamW \
  --adam_beta1 0.9 \
  --adam_beta2 0.95 \
  --max_grad_norm 1.0 \
  --allow_tf32 \
  --report_to "$REPORT_TO" \
  --tracker_name "$PROJECT_NAME" \
  --runs_name "$RUNS_NAME" \
  --inpainting_loss_weight 1.0 \
  --mix_train_ratio 0 \
  --first_frame_gt \
  --mask_add \
  --mask_transform_prob 0.3 \
  --p_brush 0.4 \
  --p_rect 0.1 \
  --p_ellipse 0.1 \
  --p_circle 0.1 \
  --p_random_brush 0.3 \
  --id_pool_resample_learnable \
  "$@"
