#!/usr/bin/env bash
# The release's other name of eval_editing_id_resample.sh.
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/eval_editing_id_resample.sh" "$@"
