#!/usr/bin/env bash
# run.sh ADDR: serves the page and opens it, or without a display (or with HEADLESS=1) drives it in headless Chromium, prints
# progress and the table of before and after, and ends. DRIVEFLAGS are passed on, for example --steps 20.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ ${HEADLESS:-} != 1 ]] && [[ $(uname) != Linux || -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]]; then
  exec bin/tabtune serve --addr "$1" --open
fi

scripts/need.sh chromium
work=$(mktemp -d)
server=
finish() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
go build -o "$work/drive" ./web/cmd/drive
# A free port: the page in a headless browser is in nobody's way.
bin/tabtune serve --addr 127.0.0.1:0 --json >"$work/url" &
server=$!
for _ in $(seq 100); do
  [[ ! -s $work/url ]] || break
  kill -0 "$server" || exit 1
  sleep 0.1
done
url=$(sed -n 's/.*"url":"\([^"]*\)".*/\1/p' "$work/url")
read -ra flags <<<"${DRIVEFLAGS:-}"
"$work/drive" --url "$url" "${flags[@]}"
