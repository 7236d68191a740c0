#!/usr/bin/env bash
# env.sh: prints the folder of the Python environment of requirements.txt (about 4 GB), made once in the cache; a changed requirements.txt
# makes another.
set -euo pipefail
cd "$(dirname "$0")"

cache=${TABTUNE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tabtune}
../scripts/need.sh python >&2
python=$(command -v python3)
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
  echo "Python 3.11 to 3.13 is needed, python3 here is $("$python" -V): put another first in PATH" >&2
  exit 1
fi
key=$({ cat requirements.txt; "$python" -c 'import sys; print(sys.version, sys.prefix)'; } | sha256sum | cut -c1-16)
env=$cache/conformance/$key
if [[ ! -e $env/complete ]]; then
  echo "installing torch, executorch and transformers into $env (once, about 4 GB)" >&2
  rm -rf "$cache/conformance"
  mkdir -p "$cache/conformance"
  "$python" -m venv "$env"
  "$env/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-compile -r requirements.txt >&2
  touch "$env/complete"
fi
echo "$env"
