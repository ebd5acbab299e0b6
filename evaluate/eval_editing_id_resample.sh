#!/usr/bin/env bash
# Evaluate editing of long videos: as eval_inpainting_id_resample.sh, on VPBench's long editing set.
#
#   bash evaluate/eval_editing_id_resample.sh
#
# Variables and further flags: see eval_inpainting.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export sets="${sets:-edit_long}"
export dilate_sizes="${dilate_sizes:-48}"
export output_path="${output_path:-../outputs/eval_editing_id_resample}"

exec bash eval_inpainting_id_resample.sh "$@"
