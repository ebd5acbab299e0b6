#!/usr/bin/env bash
# The next tiny stack, as far as it goes: 144x96 pixels, bold scenes, a learned code. What is shipped (ckpt/tiny) is still
# train.sh's. Stages that are in git (stages/, see its README) are taken from there; FROM_NOTHING=1 trains them again.
#   bash train/tiny/bold.sh [WORK_FOLDER]
# Finished stages are skipped and a training goes on at its last checkpoint. Hours on one CPU core.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(realpath -m "${1:-outputs/bold}")
# Large tensors come and go: without this a fifth of the time goes into page faults.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368:glibc.malloc.top_pad=268435456
stage() { echo "== $*"; python "train/tiny/$1.py" --work "$work" "${@:2}"; }

mkdir -p "$work"
[ -n "${FROM_NOTHING:-}" ] || python train/tiny/stages.py unpack --work "$work"
stage render --bold --name heldout --clips 24 --frames 17 --first_seed 900000
stage render --bold --name short --clips 400 --frames 17 --first_seed 0
stage render --bold --name stills_heldout --clips 400 --frames 1 --first_seed 910000
stage render --bold --name stills --clips 3200 --frames 1 --first_seed 1000000
if [ ! -e "$work/autoencoder.pt" ]; then
  stage basis
  stage vae --part trunk --steps 800 --lr 4e-3
fi
stage autoencoder --steps 500
stage judge --steps 1200
stage images --steps 4400
stage paintings --count 200
stage render --bold --name clips --clips 1200 --frames 17 --first_seed 2000000
stage decoder --steps 900
stage videos --steps 3000
stage paintings --count 200 --name videos
