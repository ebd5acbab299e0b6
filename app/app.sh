#!/usr/bin/env bash
# The app with the published weights of ckpt/, on one GPU; without a GPU or weights: python app/app.py (or make app).
#
#   bash app/app.sh
#   bash app/app.sh --auth users.txt --host 0.0.0.0
#
# Every variable below can be set from the environment; paths are seen from where the script is called. Flags given to it
# are passed on (see app.py --help).
set -euo pipefail
app="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$app")"

# What `make setup` made is used unless another environment is active.
if [[ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" && -x "$root/.venv/bin/python" ]]; then
  PATH="$root/.venv/bin:$PATH"
fi

: "${model_path:=$root/ckpt/CogVideoX-5b-I2V}"
: "${inpainting_branch:=$root/ckpt/VideoPainter/checkpoints/branch}"
: "${id_adapter=$root/ckpt/VideoPainterID/checkpoints}" # empty: none
: "${img_inpainting_model:=$root/ckpt/flux_inp}"
: "${segmenter:=$root/ckpt/sam2_hiera_large.pt}"
: "${llm_model:=none}" # gpt-4o (OPENAI_API_KEY), a folder of a vision-language model, or template

arguments=(
  --model_path "$model_path"
  --inpainting_branch "$inpainting_branch"
  --img_inpainting_model "$img_inpainting_model"
  --segmenter "$segmenter"
  --llm_model "$llm_model"
)
if [[ -n "$id_adapter" ]]; then
  arguments+=(--id_adapter "$id_adapter")
fi

exec python "$app/app.py" "${arguments[@]}" "$@"
