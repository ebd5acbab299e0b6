#!/usr/bin/env bash
# Edit rows of a benchmark CSV by instruction with the public release's settings: a language model writes the captions of
# the edited video, the first frame is painted by them, then the video.
#
#   OPENAI_API_KEY=... bash infer/edit.sh
#   inpainting_sample_id=3 video_editing_instruction="make the dress blue" bash infer/edit.sh
#   llm_model=none inpainting_mask_meta=../data/our_video_edit.csv inpainting_sample_id=all bash infer/edit.sh  # the CSV's
#
# Every variable below can be set from the environment; paths are seen from this folder. Flags given to the script are
# passed on (see edit.py --help). With more than one GPU visible, the samples are shared out over the GPUs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${data_kind:=test}" # the split of VPData: train, val or test
: "${video_editing_instruction=}" # empty: the row's own
: "${id_adapter_resample_learnable_path=}" # the ID adapter, for long videos
export inpainting_mask_meta="${inpainting_mask_meta:-../data/pexels_videovo_${data_kind}_dataset.csv}"
export inpainting_sample_id="${inpainting_sample_id:-79}"
export output_path="${output_path:-../outputs/edit}"
export dilate_size="${dilate_size:-48}"
export llm_model="${llm_model:-gpt-4o}"
export door="${door:-edit.py}"

arguments=()
if [[ -n "$video_editing_instruction" ]]; then
  arguments+=(--video_editing_instruction "$video_editing_instruction")
fi
if [[ -n "$id_adapter_resample_learnable_path" ]]; then
  arguments+=(--id_adapter_resample_learnable_path "$id_adapter_resample_learnable_path" --long_video)
fi

exec bash inpaint.sh "${arguments[@]}" "$@"
