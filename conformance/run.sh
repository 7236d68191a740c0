#!/usr/bin/env bash
# run.sh [PYTEST FLAGS]: compares bin/tabtune with the stock ExecuTorch runtime, PyTorch and Hugging Face. env.sh makes
# the Python environment once (about 4 GB).
set -euo pipefail
cd "$(dirname "$0")"

../scripts/need.sh go
if [[ ! -x ${TABTUNE_BIN:-../bin/tabtune} ]]; then
  echo "bin/tabtune is missing: make build" >&2
  exit 1
fi

env=$(./env.sh)

# Nothing is fetched while the checks run: the model is a file, and Hugging Face is told so.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=true PYTHONDONTWRITEBYTECODE=
exec "$env/bin/python" -m pytest -q -p no:cacheprovider -p no:warnings --show-capture=no --tb=short "$@" .
