#!/usr/bin/env bash
# Evaluate video editing: as eval_inpainting.sh, with the edited captions and regions of VPBench's editing sets.
#
#   bash evaluate/eval_edit.sh
#   dilate_sizes="48 24 0" bash evaluate/eval_edit.sh
#
# Variables and further flags: see eval_inpainting.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

export sets="${sets:-edit_standard}"
export dilate_sizes="${dilate_sizes:-48}"
export output_path="${output_path:-../outputs/eval_edit}"

exec bash eval_inpainting.sh "$@"
