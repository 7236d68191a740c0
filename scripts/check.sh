#!/usr/bin/env bash
# check.sh STATICCHECK: format, vet, lint, regenerate and rebuild the checked-in wasm; nothing may change by it.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/need.sh go npm clang-format
go run ./web/build -sources
before=$(git status --porcelain; git diff)

echo "gofmt"
unformatted=$(git ls-files -z -- '*.go' | xargs -0 gofmt -l)
[[ -z $unformatted ]] || { printf 'not formatted:\n%s\n' "$unformatted" >&2; exit 1; }

echo "clang-format"
git ls-files -z -- '*.c' '*.h' | xargs -0 -r clang-format-19 --dry-run -Werror

echo "go vet, native"
go vet ./...
echo "go vet, wasip1"
GOOS=wasip1 GOARCH=wasm go vet ./wasm/... ./engine/... ./lora/... ./zo/...
echo "go vet, js"
GOOS=js GOARCH=wasm go vet ./web/page/... ./web/ui/...

echo "staticcheck"
go run "$1" ./...

echo "scripts"
npm run --silent check --prefix web/worker
npm run --silent check --prefix web/engine
npm run --silent check --prefix web/sdk

echo "generated files"
go mod tidy -diff
go generate ./...
if command -v clang-19 >/dev/null && command -v wasm-ld-19 >/dev/null; then
  echo "kernels.wasm"
  engine/kernel/build.sh --check || { echo "the kernels checked in are not what their sources give: run engine/kernel/build.sh" >&2; exit 1; }
else
  echo "kernels.wasm: not rebuilt, clang-19 is missing (apt-get install -y clang-19 lld-19)"
fi

after=$(git status --porcelain; git diff)
if [[ $before != "$after" ]]; then
  echo "generated files have changed:" >&2
  diff <(printf '%s\n' "$before") <(printf '%s\n' "$after") >&2 || true
  exit 1
fi
echo "clean"
