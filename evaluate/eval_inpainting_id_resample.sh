#!/usr/bin/env bash
# As eval_inpainting.sh, for long videos: every frame of the rows, with the ID-resample adapter carrying the object's
# identity from one window to the next.
#
#   bash evaluate/eval_inpainting_id_resample.sh
#
# Variables and further flags: see eval_inpainting.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${id_adapter_resample_learnable_path:=../ckpt/VideoPainterID/checkpoints}"
: "${lora_rank:=256}"
export sets="${sets:-long}"
export prev_clip_weight="${prev_clip_weight:-0.5}"
export output_path="${output_path:-../outputs/eval_inpainting_id_resample}"

exec bash eval_inpainting.sh \
  --id_adapter_resample_learnable_path "$id_adapter_resample_learnable_path" \
  --lora_rank "$lora_rank" \
  "$@"
