#!/usr/bin/env bash
# sizes.sh: what a visitor downloads and what the command weighs, in bytes: raw and brotli.
set -euo pipefail
cd "$(dirname "$0")/.."

for f in web/dist/*.wasm; do
  [[ -e $f ]] || continue
  br=-
  [[ -e $f.br ]] && br=$(wc -c <"$f.br")
  printf '  %-24s %9d  brotli %9s\n' "$(basename "$f")" "$(wc -c <"$f")" "$br"
done
# A visitor loads one build of the kernels, and no licence.
visit=$(find web/dist -name '*.br' ! -name 'kernels_*' ! -name 'LICENSE*' -printf '%s\n' 2>/dev/null | awk '{ n += $1 } END { print n + 0 }')
printf '  %-24s %9s  brotli %9d\n' 'a first visit' '' "$visit"
printf '  %-24s %9d\n' bin/tabtune "$(wc -c <bin/tabtune)"
