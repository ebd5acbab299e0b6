#!/usr/bin/env bash
# Make editing pairs from VPData with the public release's settings: a language model invents an instruction for every row,
# and writes the captions; the first frame is painted by them, then the video; pairs in which the edit does not show, or the
# background changed, are left out. A data set in ../outputs/pairs, see README.md there.
#
#   OPENAI_API_KEY=... bash infer/edit_bench.sh
#   inpainting_sample_id=0-99 instruction_kinds=remove:1,swap:1 judge_model=gpt-4o bash infer/edit_bench.sh
#
# Every variable below can be set from the environment; paths are seen from this folder. Flags given to the script are
# passed on (see edit_bench.py --help). With more than one GPU visible, the rows are shared out over the GPUs. Killed, the
# same command goes on where it was; rows of other runs with the same folder are added to the set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

: "${instruction_kinds:=add:1,remove:1,swap:1,change:2}"
: "${judge_model:=None}" # who looks at every pair: as llm_model
export data_kind="${data_kind:-train}"
export video_editing_instruction="${video_editing_instruction-auto}" # empty: the row's own
export inpainting_sample_id="${inpainting_sample_id:-0-1000}" # or to the table's end
export output_path="${output_path:-../outputs/pairs}"
export door=edit_bench.py

exec bash edit.sh --instruction_kinds "$instruction_kinds" --judge_model "$judge_model" "$@"
