#!/bin/sh
# Builds kernels.wasm (threads, shared memory) and kernels_single.wasm (neither) from c/*.c.
# Both are checked in: whoever builds the Go module needs no C compiler. The same sources and the
# pinned compiler give the same bytes. wasm-ld is called directly because clang would run any
# wasm-opt it finds on PATH.
#   CLANG=clang-19 WASM_LD=wasm-ld-19 ./build.sh          build
#   CLANG=clang-19 WASM_LD=wasm-ld-19 ./build.sh --check  fail when what is checked in differs
set -eu
cd "$(dirname "$0")"
CLANG=${CLANG:-clang-19}
WASM_LD=${WASM_LD:-wasm-ld-19}
mode=${1:-}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

"$CLANG" --version | grep -q 'version 19\.1\.' || { echo "build.sh: want clang 19.1" >&2; exit 1; }

# -ffp-contract=off and no -ffast-math: results are the same bits in every engine.
CFLAGS="--target=wasm32 -std=c17 -O3 -msimd128 -mbulk-memory -msign-ext -mnontrapping-fptoint
  -nostdlib -ffreestanding -fno-builtin -ffp-contract=off -fvisibility=hidden
  -Wall -Wextra -Werror -Wno-unused-function"
LDFLAGS="--no-entry --import-memory --max-memory=4294967296 --export=__stack_pointer
  --gc-sections --strip-all -z stack-size=262144 --stack-first"

build() { # name, extra compile flags, extra link flags
  mkdir "$tmp/$1"
  for f in c/*.c; do
    # shellcheck disable=SC2086
    "$CLANG" $CFLAGS $2 -c "$f" -o "$tmp/$1/$(basename "$f" .c).o"
  done
  # shellcheck disable=SC2086
  "$WASM_LD" $LDFLAGS $3 "$tmp/$1"/*.o -o "$tmp/$1.wasm"
  if [ "$mode" = --check ]; then
    cmp "$tmp/$1.wasm" "$1.wasm"
  else
    cp "$tmp/$1.wasm" "$1.wasm"
  fi
}

build kernels "-matomics" "--shared-memory"
build kernels_single "-DTT_SINGLE" ""
