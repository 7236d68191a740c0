# Tabtune. "make help" lists the targets; "make run" and "make test" are the two that matter.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Downloads and compiled code are kept here, outside the build tree.
export TABTUNE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tabtune
export TABTUNE_ASSETS ?= $(TABTUNE_CACHE)/assets

ADDR ?= 127.0.0.1:8080
FUZZTIME ?= 7m
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.1

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build fetch ## fetch, build, serve the page and open it; HEADLESS=1 (or no display) drives it in headless Chromium
	@scripts/run.sh $(ADDR)

.PHONY: test
test: ## everything that is tested, on a fresh machine too
	@scripts/need.sh go python node npm chromium
	@$(MAKE) --no-print-directory fetch build
	TABTUNE_REQUIRE_ASSETS=1 go test -timeout 60m ./...
	npm test --silent --prefix web/worker
	npm test --silent --prefix web/engine

.PHONY: build
build: module page ## bin/tabtune, with the module and the page in it
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o bin/tabtune ./host/cmd/tabtune
	@scripts/sizes.sh

# Inlining is off (-l), which makes Go's WebAssembly a seventh smaller to download, but where loops over weights live.
HOT := tabtune/lora tabtune/lora/gguf tabtune/lora/internal/half tabtune/internal/... crypto/internal/fips140/sha256 encoding/binary github.com/cespare/xxhash/v2 \
  internal/byteorder crypto/internal/fips140deps/byteorder math math/bits
SMALL := -gcflags=all=-l $(foreach p,$(HOT),-gcflags=$(p)=)

# The one module: the page and the host embed the same bytes. No VCS stamp, so that equal sources give equal bytes.
.PHONY: module
module:
	@scripts/need.sh go
	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w" $(SMALL) -o host/dist/tabtune.wasm ./wasm
	go run ./wasm/cmd/pack host/dist/tabtune.wasm

.PHONY: page
page: module
	@scripts/need.sh node npm
	go run ./web/build -module host/dist/tabtune.wasm
	@find host/serve/dist -mindepth 1 -maxdepth 1 ! -name .gitkeep -exec rm -rf {} +
	@cp -R web/dist/. host/serve/dist/

.PHONY: site
site: module ## build/site: the page as a folder for any static host, also in a sub-folder and without headers
	@scripts/need.sh node npm
	go run ./web/build -module host/dist/tabtune.wasm -out build/site -brotli -1
	@touch build/site/.nojekyll

.PHONY: shots
shots: module fetch ## pictures of every step, light, dark and on a phone: docs/img for README.md (the real model), build/shots (all folds open)
	@scripts/need.sh go node npm chromium
	TABTUNE_PICTURES=$(CURDIR)/docs/img TABTUNE_SHOTS=$(CURDIR)/build/shots go test -count=1 -timeout 30m ./web/e2e -run 'TestShots|TestPictures'

.PHONY: browsers
browsers: module ## train in Firefox and in WebKit, which are installed if they can be; make test does so where they are
	@scripts/need.sh go node npm chromium firefox webkit
	TABTUNE_REQUIRE_BROWSERS="firefox webkit" go test -count=1 -v ./web/e2e -run 'TestFirefox|TestWebKit'

.PHONY: kills
kills: ## end the tab 50 times in training, downloads, imports and exports; a few of these are in make test
	@scripts/need.sh go node npm chromium
	TABTUNE_KILLS=50 go test -count=1 -v -timeout 30m ./web/e2e -run TestKilled

.PHONY: fetch
fetch: ## download the example model and data, once
	@scripts/need.sh go python
	@go run ./host/cmd/tabtune fetch

.PHONY: fetch-gemma
fetch-gemma: fetch ## Gemma-3-270M too (253 MB, under the Gemma terms of use), which conformance-all compares
	@go run ./host/cmd/tabtune fetch --gemma

.PHONY: check
check: ## format, vet, lint, regenerate; fails when something would change
	@scripts/check.sh $(STATICCHECK)

.PHONY: conformance
conformance: build fetch ## compare with the stock ExecuTorch runtime and Hugging Face (installs about 3 GB once)
	@conformance/run.sh

.PHONY: conformance-all
conformance-all: build fetch-gemma ## the same with every case of ExecuTorch's backend test suite, of which conformance takes a tenth, large networks, and a language model with a cache
	@TABTUNE_CONFORMANCE=all conformance/run.sh

.PHONY: bench
bench: build fetch ## measure beside onnxruntime-web, wllama, ExecuTorch and PyTorch (installed once), write docs/BENCHMARKS.md
	@scripts/need.sh go node npm python chromium
	go run ./web/cmd/bench $(BENCHFLAGS)

.PHONY: study
study: build fetch ## compare estimators at equal rows on five tasks, five seeds; hours, and goes on where it was stopped
	go run ./host/cmd/study

.PHONY: study-short
study-short: build fetch ## the same with one seed and a quarter of the rows
	go run ./host/cmd/study -rows 6400 -seeds 1 -out build/study

.PHONY: bench-short
bench-short: build fetch ## a minute of the above without peers; fails where a ratio is 20% worse than docs/bench-baseline.json
	@scripts/need.sh go chromium
	go run ./web/cmd/bench -short docs/bench-baseline.json -seconds 1.5 -rounds 3

.PHONY: fuzz
fuzz: ## fuzz every parser, the loader and every operator for FUZZTIME each (7m: about an hour in all)
	@scripts/fuzz.sh $(FUZZTIME)

.PHONY: fuzz-short
fuzz-short: ## the same for 30 s each, as CI does
	@scripts/fuzz.sh 30s

.PHONY: clean
clean: ## remove what was built; downloads stay
	rm -rf bin build web/dist
	find host/dist host/serve/dist -mindepth 1 ! -name .gitkeep -delete
