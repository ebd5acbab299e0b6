#!/usr/bin/env bash
# Train the ID-resample adapter (a LoRA of the backbone) beside a trained branch, with the public release's settings.
#
#   bash train/VideoPainterID.sh
#   REPORT_TO=none bash train/VideoPainterID.sh --max_train_steps 1000 --resume_from_checkpoint latest
#   CONFIG_FILE=accelerate_config_fsdp2.yaml bash train/VideoPainterID.sh
#   CPU=1 NUM_PROCESSES=2 bash train/VideoPainterID.sh --height 96 --width 144
#
# Every variable here and in release_flags.sh can be set from the environment; paths are seen from this folder. Flags
# given to the script are passed on and win over all others (`--help-all` documents them). Which launcher starts how many
# processes: launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./launch.sh

: "${BRANCH_MODEL_PATH:=../ckpt/VideoPainter/checkpoints/branch}"
: "${RUNS_NAME:=VideoPainterID}"
source ./release_flags.sh

launch accelerate_config_machine_single_ds_wo_cpu.yaml train_cogvideox_inpainting_i2v_video_resample.py \
  "${RELEASE_FLAGS[@]}" \
  --cogvideox_branch_name_or_path "$BRANCH_MODEL_PATH" \
  --id_pool_resample_learnable \
  --rank 256 \
  --lora_alpha 128 \
  --learning_rate 5e-5 \
  --lr_warmup_steps 200 \
  --checkpointing_steps 256 \
  --validating_steps 128 \
  "$@"
