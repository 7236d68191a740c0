#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME, two at a time. A crasher is left in the package's testdata/fuzz, to be
# kept there. Minimising an input is cut short: by default it takes a minute of a target's time.
set -euo pipefail
cd "$(dirname "$0")/.."

export FUZZ_FOR=$1
targets=$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./... | while read -r dir; do
  [[ -n $dir ]] || continue
  grep -hoE '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed "s|^func |./${dir#"$PWD"/} |" || true
done)
count=$(wc -l <<<"$targets")
[[ -n $targets ]]

one() {
  local log
  log=$(mktemp)
  if go test -run '^$' -fuzz "^$2\$" -fuzztime "$FUZZ_FOR" -fuzzminimizetime 10x -parallel 1 "$1" >"$log" 2>&1; then
    echo "$1 $2: $(grep -oE 'execs: [0-9]+' "$log" | tail -n 1)"
    rm "$log"
  else
    echo "$1 $2: failed"
    cat "$log"
    rm "$log"
    return 1
  fi
}
export -f one
failed=0
xargs -P 2 -L 1 bash -c 'one "$0" "$1"' <<<"$targets" || failed=1
echo "$count fuzz targets, $([[ $failed == 0 ]] && echo none || echo some) failed"
[[ $failed == 0 ]]
