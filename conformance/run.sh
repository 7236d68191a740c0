#!/usr/bin/env bash
# run.sh [PYTEST FLAGS]: compares bin/tabtune with the stock ExecuTorch runtime, PyTorch and Hugging Face. The Python environment (about 4 GB)
# is made once in the cache, from requirements.txt; a changed requirements.txt makes another.
set -euo pipefail
cd "$(dirname "$0")"

cache=${TABTUNE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tabtune}
../scripts/need.sh go python
python=$(command -v python3)
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
  echo "conformance needs Python 3.11 to 3.13, python3 here is $("$python" -V): put another first in PATH" >&2
  exit 1
fi
if [[ ! -x ${TABTUNE_BIN:-../bin/tabtune} ]]; then
  echo "bin/tabtune is missing: make build" >&2
  exit 1
fi

key=$({ cat requirements.txt; "$python" -c 'import sys; print(sys.version, sys.prefix)'; } | sha256sum | cut -c1-16)
env=$cache/conformance/$key
if [[ ! -e $env/complete ]]; then
  echo "installing torch, executorch and transformers into $env (once, about 4 GB)" >&2
  rm -rf "$cache/conformance"
  mkdir -p "$cache/conformance"
  "$python" -m venv "$env"
  "$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements.txt
  touch "$env/complete"
fi

# Nothing is fetched while the checks run: the model is a file, and Hugging Face is told so.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=true PYTHONDONTWRITEBYTECODE=
exec "$env/bin/python" -m pytest -q -p no:cacheprovider -p no:warnings --show-capture=no --tb=short "$@" .
