# Sourced by the scripts of infer/ and evaluate/.

# What `make setup` made is used unless another environment is active.
if [[ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" && -x "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/python" ]]; then
  PATH="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin" && pwd):$PATH"
fi

# launch SCRIPT FLAGS...: the script on every GPU this shell may use (CUDA_VISIBLE_DEVICES if set, else all of the
# machine), a process each; or in `num_processes` processes.
launch() {
  local gpus=()
  if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
  elif command -v nvidia-smi >/dev/null; then
    mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader || true)
  fi
  local processes="${num_processes:-${#gpus[@]}}"
  if ((processes <= 1)); then
    exec python "$@"
  fi
  local launcher=(accelerate --multi_gpu --num_machines 1 --num_processes "$processes" --mixed_precision no --dynamo_backend no)
  if ((${#gpus[@]} == 0)); then
    # `accelerate launch --cpu` would start one process however many were asked for.
    launcher=(torchrun --standalone --nproc_per_node "$processes")
  fi
  exec python -P -m videopainter.cli.launch "${launcher[@]}" "$@"
}
