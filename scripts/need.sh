#!/usr/bin/env bash
# need.sh TOOL...: makes sure that tools are there. As root on a machine with apt-get it installs what is missing (but Go); otherwise it
# says in one line what is missing and which command installs it.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }

present() {
  case $1 in
    go) has go ;;
    python) has python3 && python3 -c 'import venv, ensurepip' 2>/dev/null ;;
    node) has node ;;
    npm) has npm ;;
    chromium) { [[ -n ${CHROMIUM:-} ]] && has "$CHROMIUM"; } || has chromium || has chromium-browser || has google-chrome || has google-chrome-stable ;;
    firefox) { [[ -n ${FIREFOX:-} ]] && has "$FIREFOX"; } || has firefox-esr || has firefox ;;
    webkit) has Xvfb && { [[ -n ${WEBKIT:-} ]] && has "$WEBKIT" || compgen -G '/usr/lib/*/webkit2gtk-4.*/MiniBrowser' >/dev/null; } ;;
    clang) has clang-19 && has wasm-ld-19 ;;
    clang-format) has clang-format-19 ;;
    *) echo "need.sh: unknown tool $1" >&2; exit 2 ;;
  esac
}

packages() {
  case $1 in
    python) echo python3 python3-venv ;;
    node) echo nodejs ;;
    firefox) echo firefox-esr ;;
    webkit) echo libwebkit2gtk-4.1-0 xvfb ;;
    clang) echo clang-19 lld-19 ;;
    clang-format) echo clang-format-19 ;;
    *) echo "$1" ;;
  esac
}

updated=
for tool in "$@"; do
  present "$tool" && continue
  if [[ $tool == go ]]; then
    echo "Go 1.26 or later is missing: see the download page of go.dev (the packages of Debian 12 are too old)" >&2
    exit 1
  fi
  read -ra names <<<"$(packages "$tool")"
  if [[ $(id -u) == 0 ]] && has apt-get; then
    echo "installing ${names[*]}" >&2
    if [[ -z $updated ]]; then
      apt-get update -qq >&2
      updated=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >/dev/null
    present "$tool" && continue
  fi
  echo "$tool is missing: sudo apt-get install -y ${names[*]}" >&2
  exit 1
done
