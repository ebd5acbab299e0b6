#!/usr/bin/env bash
# Train the context encoder ("branch") with the public release's settings.
#
#   bash train/VideoPainter.sh
#   REPORT_TO=none bash train/VideoPainter.sh --max_train_steps 1000 --resume_from_checkpoint latest
#   CONFIG_FILE=accelerate_config_fsdp2.yaml bash train/VideoPainter.sh
#   CPU=1 NUM_PROCESSES=2 bash train/VideoPainter.sh --height 96 --width 144
#
# Every variable here and in release_flags.sh can be set from the environment; paths are seen from this folder. Flags
# given to the script are passed on and win over all others (`--help-all` documents them). Which launcher starts how many
# processes: launch.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./launch.sh

: "${RUNS_NAME:=VideoPainter}"
source ./release_flags.sh

launch accelerate_config_machine_single_ds.yaml train_cogvideox_inpainting_i2v_video.py \
  "${RELEASE_FLAGS[@]}" \
  --learning_rate 1e-5 \
  --lr_warmup_steps 1000 \
  --checkpointing_steps 1024 \
  --validating_steps 256 \
  "$@"
