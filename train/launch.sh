# Sourced by VideoPainter.sh and VideoPainterID.sh: how a training script is started here.
#
#   CONFIG_FILE        accelerate config          default: the script's (GPUs), none (CPU: DDP)
#   NUM_PROCESSES      processes over all nodes   default: one per visible GPU and node, 1 on a CPU
#   CPU                1: leave GPUs alone        default: 1 where no GPU is visible
#   NUM_MACHINES MACHINE_RANK MAIN_PROCESS_IP MAIN_PROCESS_PORT   several nodes: start the script on each of them

# What `make setup` made is used unless another environment is active.
if [[ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" && -x ../.venv/bin/python ]]; then
  PATH="$PWD/../.venv/bin:$PATH"
fi

export PYTORCH_CUDA_ALLOC_CONF="${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"

: "${NUM_MACHINES:=1}"
: "${MACHINE_RANK:=0}"

# GPUs this shell may use: CUDA_VISIBLE_DEVICES if set, else all of the machine.
count_gpus() {
  local gpus=()
  if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then
    IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
  elif command -v nvidia-smi >/dev/null; then
    mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null || true)
  fi
  echo "${#gpus[@]}"
}

if [[ -z "${CPU:-}" ]]; then
  CPU=$(($(count_gpus) == 0))
fi
if [[ "$CPU" == 1 ]]; then
  export CUDA_VISIBLE_DEVICES=""
  : "${NUM_PROCESSES:=$NUM_MACHINES}"
  : "${MIXED_PRECISION:=no}"
else
  : "${NUM_PROCESSES:=$((NUM_MACHINES * $(count_gpus)))}"
  : "${MIXED_PRECISION:=bf16}"
fi

# launch DEFAULT_CONFIG SCRIPT [FLAGS...]
launch() {
  local config="${CONFIG_FILE:-}" default="$1"
  shift
  if [[ "$CPU" == 1 && -z "$config" ]]; then
    # `accelerate launch --cpu` would start one process however many were asked for.
    local nodes=(--standalone)
    if ((NUM_MACHINES > 1)); then
      : "${MAIN_PROCESS_IP:?several machines need the address of the first}"
      nodes=(--nnodes "$NUM_MACHINES" --node_rank "$MACHINE_RANK" --master_addr "$MAIN_PROCESS_IP")
      nodes+=(--master_port "${MAIN_PROCESS_PORT:-29500}")
    fi
    ACCELERATE_USE_CPU=true exec python -P -m videopainter.cli.launch torchrun "${nodes[@]}" --nproc_per_node "$((NUM_PROCESSES / NUM_MACHINES))" "$@"
  fi
  local where=(--num_processes "$NUM_PROCESSES" --num_machines "$NUM_MACHINES" --machine_rank "$MACHINE_RANK")
  if [[ -n "${MAIN_PROCESS_IP:-}" ]]; then
    where+=(--main_process_ip "$MAIN_PROCESS_IP")
  fi
  if [[ -n "${MAIN_PROCESS_PORT:-}" ]]; then
    where+=(--main_process_port "$MAIN_PROCESS_PORT")
  fi
  exec python -P -m videopainter.cli.launch accelerate --config_file "${config:-$default}" "${where[@]}" "$@"
}
