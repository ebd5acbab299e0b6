#!/usr/bin/env bash
# Remove what a mask covers from a video: what other frames show behind it is copied, the rest is closed or painted.
#
#   video=clip.mp4 mask=mask.mp4 bash infer/remove.sh                     # no weights needed, on a laptop
#   video=clip.mp4 mask=mask.mp4 model_path=../ckpt/CogVideoX-5b-I2V bash infer/remove.sh
#
# Every variable below can be set from the environment; paths are seen from the folder you are in. Flags given to the
# script are passed on (see inpaint.py --help): --affected shadow.mp4, --propagation_quality high, ...
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

source "$here/launch.sh"

: "${video:?the video to remove something from}"
: "${mask:?its mask, white = what is to go}"
: "${output_path:=removed.mp4}"
: "${model_path:=}" # empty: no model
: "${inpainting_branch:=$here/../ckpt/VideoPainter/checkpoints/branch}"

arguments=(--remove --video "$video" --mask "$mask" --output_path "$output_path")
if [[ -n "$model_path" ]]; then
  arguments+=(--model_path "$model_path" --inpainting_branch "$inpainting_branch" --overlap_frames 13)
fi

launch "$here/inpaint.py" "${arguments[@]}" "$@"
