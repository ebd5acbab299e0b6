#!/usr/bin/env bash
# Inpaint rows of a benchmark CSV with the public release's settings.
#
#   bash infer/inpaint.sh
#   inpainting_sample_id="0 5 7-12" bash infer/inpaint.sh --save_comparison
#
# Every variable below can be set from the environment; paths are seen from this folder. Flags given to the script are
# passed on (see inpaint.py --help). With more than one GPU visible, the samples are shared out over the GPUs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

source launch.sh

: "${model_path:=../ckpt/CogVideoX-5b-I2V}"
: "${inpainting_branch:=../ckpt/VideoPainter/checkpoints/branch}"
: "${img_inpainting_model:=../ckpt/flux_inp}"
: "${image_or_video_path:=../data/videovo/raw_video}"
: "${inpainting_mask_meta:=../data/pexels_videovo_test_dataset.csv}"
: "${inpainting_sample_id:=0}" # several: "0 5 7-12", or all
: "${output_path:=../outputs/inpaint}"
: "${num_inference_steps:=50}"
: "${guidance_scale:=6.0}"
: "${dtype:=bfloat16}"
: "${inpainting_frames:=49}"
: "${down_sample_fps:=8}"
: "${overlap_frames:=0}"
: "${prev_clip_weight:=0.0}"
: "${dilate_size:=32}"
# The size the model works at; both empty: the backbone's area in the video's own aspect.
: "${height=480}"
: "${width=720}"
: "${seed:=42}"
: "${first_frame_gt:=true}"
# The release asked gpt-4o for image prompts. Here they come from the CSV (image_inpainting_prompt), else from the caption.
: "${llm_model:=None}"

read -ra sample_ids <<<"$inpainting_sample_id"
arguments=(
  --model_path "$model_path"
  --inpainting_branch "$inpainting_branch"
  --img_inpainting_model "$img_inpainting_model"
  --image_or_video_path "$image_or_video_path"
  --inpainting_mask_meta "$inpainting_mask_meta"
  --inpainting_sample_id "${sample_ids[@]}"
  --output_path "$output_path"
  --num_inference_steps "$num_inference_steps"
  --guidance_scale "$guidance_scale"
  --dtype "$dtype"
  --generate_type i2v_inpainting
  --inpainting_frames "$inpainting_frames"
  --down_sample_fps "$down_sample_fps"
  --overlap_frames "$overlap_frames"
  --prev_clip_weight "$prev_clip_weight"
  --dilate_size "$dilate_size"
  --seed "$seed"
  --llm_model "$llm_model"
  --first_frame_gt "$first_frame_gt"
  --replace_gt
  --mask_add
)

if [[ -n "$height" && -n "$width" ]]; then
  arguments+=(--height "$height" --width "$width")
fi

launch "${door:-inpaint.py}" "${arguments[@]}" "$@"
