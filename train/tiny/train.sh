#!/usr/bin/env bash
# Makes ckpt/tiny from nothing: renders clips, trains every part, puts them together, measures them.
#   bash train/tiny/train.sh [WORK_FOLDER]
# Finished stages are skipped and training goes on at its last saved step. About an hour and a quarter on one CPU core.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-outputs/tiny}
stage() { echo "== $*"; python "train/tiny/$1.py" --work "$work" "${@:2}"; }

stage render --name heldout --clips 48 --frames 49 --first_seed 900000
stage render --name short --clips 2400 --frames 17 --first_seed 0
stage render --name long --clips 240 --frames 49 --first_seed 500000
stage basis
for name in short long heldout; do stage cache --name $name; done
stage vae --part trunk --steps 1500 --lr 4e-3
stage vae --part encoder --steps 700 --lr 1e-3
stage vae --part decoder --steps 1100
stage backbone
stage branch
stage id_adapter
stage export --target ckpt/tiny
stage evaluate --checkpoint ckpt/tiny --steps 8 --sheet "$work/sheet.png"
