#!/usr/bin/env bash
# Evaluate video inpainting: make the results of whole benchmark sets, score them, and write CSV, JSON, Markdown and HTML.
#
#   bash evaluate/eval_inpainting.sh
#   sets="standard long davis" dilate_sizes="32 16 0" replace_gts="true false" bash evaluate/eval_inpainting.sh
#
# Every variable below can be set from the environment; paths are seen from this folder. Flags given to the script are
# passed on (see evaluate.py --help). With more than one GPU visible, the videos are shared out over the GPUs. Killed, the
# same command goes on where it was; results made with other settings are noticed, and kept unless --overwrite is given.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

source ../infer/launch.sh

: "${model_path:=../ckpt/CogVideoX-5b-I2V}"
: "${inpainting_branch:=../ckpt/VideoPainter/checkpoints/branch}"
: "${img_inpainting_model:=../ckpt/flux_inp}"
: "${first_frame_gt:=true}"
: "${ckpt:=../ckpt}" # the metrics' weights
: "${data:=../data}"
# Sets: standard, long, davis, edit_standard, edit_long; the paper's numbers of each stand beside yours.
: "${sets:=standard davis}"
: "${sample_ids:=all}" # rows of each set: "0 5 7-12", or all
: "${output_path:=../outputs/eval_inpainting}"
# A run for each pair of these; the release tried "32 16 0" and "true false".
: "${dilate_sizes:=32}"
: "${replace_gts:=true}"
# false: the background is what the VAE makes of the kept latents, as in the paper. true: it is the input's own, to the
# bit, as infer/inpaint.sh leaves it; background metrics are then perfect, and say nothing.
: "${paste_background:=false}"
: "${protocol:=background}"
: "${num_inference_steps:=50}"
: "${guidance_scale:=6.0}"
: "${dtype:=bfloat16}"
: "${inpainting_frames:=49}"
: "${down_sample_fps:=8}"
: "${overlap_frames:=0}"
: "${prev_clip_weight:=0.0}"
: "${seed:=42}"
# Videos are brought to this size first, as in the release; both empty: their own.
: "${height=480}"
: "${width=720}"

declare -A csv=(
  [standard]="$data/our_video_inpaint.csv"
  [long]="$data/our_video_inpaint_long.csv"
  [davis]="${davis_csv:-$data/davis/davis_caption.csv}"
  [edit_standard]="$data/our_video_edit.csv"
  [edit_long]="$data/our_video_edit_long.csv"
)
named=()
for name in $sets; do
  if [[ -z "${csv[$name]:-}" ]]; then
    echo "error: sets: expected standard, long, davis, edit_standard or edit_long, got $name" >&2
    exit 2
  fi
  named+=("$name=${csv[$name]}")
done

read -ra ids <<<"$sample_ids"
read -ra dilations <<<"$dilate_sizes"
read -ra replacements <<<"$replace_gts"
arguments=(
  --sets "${named[@]}"
  --long_sets long edit_long
  --inpainting_sample_id "${ids[@]}"
  --model_path "$model_path"
  --inpainting_branch "$inpainting_branch"
  --img_inpainting_model "$img_inpainting_model"
  --first_frame_gt "$first_frame_gt"
  --ckpt "$ckpt"
  --output_path "$output_path"
  --dilate_sizes "${dilations[@]}"
  --replace_gts "${replacements[@]}"
  --paste_background "$paste_background"
  --protocol "$protocol"
  --num_inference_steps "$num_inference_steps"
  --guidance_scale "$guidance_scale"
  --dtype "$dtype"
  --inpainting_frames "$inpainting_frames"
  --down_sample_fps "$down_sample_fps"
  --overlap_frames "$overlap_frames"
  --prev_clip_weight "$prev_clip_weight"
  --seed "$seed"
  --mask_add
)
if [[ -n "$height" && -n "$width" ]]; then
  arguments+=(--resize_to "${height}x${width}")
fi

launch evaluate.py "${arguments[@]}" "$@"
