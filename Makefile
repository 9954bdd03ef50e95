# Waxwing. `make check` is everything that a merge needs; CI runs it through .ci/run.

GO      ?= go
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOLS   := honnef.co/go/tools/cmd/staticcheck golang.org/x/vuln/cmd/govulncheck golang.org/x/perf/cmd/benchstat

FUZZTIME ?= 2s

.PHONY: build check test race nightly mutants fmt fix vet staticcheck vuln house fuzz static compose bench peers tools clean

build: ## the binary, for this machine
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/waxwing ./cmd/waxwing

check: fmt vet fix staticcheck vuln house race fuzz static compose ## everything a merge needs

test: ## what the README says
	$(GO) test ./...

race: ## lanes 1 and 2, with the race detector
	WAXWING_LANE=2 $(GO) test -race -timeout 80m ./...

nightly: ## lanes 1 to 3
	WAXWING_LANE=3 $(GO) test -race -timeout 6h ./...
	$(MAKE) fuzz FUZZTIME=10m

mutants: ## plants each known fault into a copy, and shows which test turns red
	WAXWING_LANE=3 $(GO) test -count=1 -v -run '^TestS03Mutants$$' -timeout 2h ./internal/mutant

fmt:
	@out=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$out" || { echo "gofmt would change:"; echo "$$out"; exit 1; }

vet:
	$(GO) vet ./...
	$(GO) vet -C bench/peers ./...

fix:
	@out=$$($(GO) fix -diff ./... 2>&1); test -z "$$out" || { echo "go fix would change:"; echo "$$out"; exit 1; }

tools:
	@mkdir -p $(BIN)
	@$(GO) build -C tools -o $(CURDIR)/$(BIN)/ $(TOOLS)

staticcheck: tools
	$(BIN)/staticcheck ./...

vuln: tools ## skipped, with a word, where the vulnerability database cannot be reached
	@.ci/vuln $(BIN)/govulncheck

house: ## the structure of the project
	$(GO) test -count=1 ./internal/house

fuzz: ## every fuzz target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

static: ## one static binary for each platform we serve
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/waxwing-linux-amd64 ./cmd/waxwing
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/waxwing-linux-arm64 ./cmd/waxwing
	CGO_ENABLED=0 GOOS=darwin GOARCH=arm64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/waxwing-darwin-arm64 ./cmd/waxwing
	CGO_ENABLED=0 GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./client
	@if command -v file >/dev/null; then file $(BIN)/waxwing-linux-amd64 | grep -q 'statically linked'; fi

compose: ## the compose file, with the real binary, where there is a Docker engine
	@.ci/compose

peers: ## the same jobs with other brokers in turn
	cd bench/peers && $(GO) run .

bench: ## the benchmarks of the hot paths
	$(GO) test -run '^$$' -bench . -benchmem ./...

clean:
	rm -rf $(BIN)
