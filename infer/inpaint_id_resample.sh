#!/usr/bin/env bash
# As inpaint.sh, for long videos: every frame of the rows, with the ID-resample adapter carrying the object's identity
# from one window to the next.
#
#   bash infer/inpaint_id_resample.sh
#   inpainting_mask_meta=../data/our_video_inpaint_long.csv inpainting_sample_id=all bash infer/inpaint_id_resample.sh
#
# Variables and further flags: see inpaint.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${id_adapter_resample_learnable_path:=../ckpt/VideoPainterID/checkpoints}"
: "${lora_rank:=256}"
export prev_clip_weight="${prev_clip_weight:-0.5}"
export output_path="${output_path:-../outputs/inpaint_id_resample}"

exec bash inpaint.sh \
  --id_adapter_resample_learnable_path "$id_adapter_resample_learnable_path" \
  --lora_rank "$lora_rank" \
  --long_video \
  "$@"
