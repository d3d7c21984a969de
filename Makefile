# `make up` starts a cluster with the example microservice, `make test` runs every test, `make help` lists the rest.
DATA_DIR ?= $(CURDIR)/.wherry
API_BIND ?= 127.0.0.1:6443
TARGET   := $(or $(CARGO_TARGET_DIR),target)
WHERRY   := $(TARGET)/release/wherry

.DEFAULT_GOAL := help
.PHONY: help tools ui build up down test lint bench soak hello clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

tools: ## Install what `make up` needs, where it is missing
	@scripts/tools.sh >/dev/null

ui: ## Build the dashboard into web-ui/dist, where Node.js is there
	scripts/web-ui.sh

build: ui ## Build target/release/wherry
	cargo build --release --bin wherry

up: tools build ## Start a one-machine cluster in the background and deploy examples/hello
	scripts/up.sh $(WHERRY) $(DATA_DIR) $(API_BIND)

down: ## End the cluster that `make up` started, and its workloads
	$(WHERRY) down --data-dir $(DATA_DIR)

test: ## Install what the tests need and run all of them
	scripts/test.sh

hello: ## Build the example's component, where Rust has the target wasm32-wasip2, and check that it behaves as the committed one
	examples/hello/check.sh

lint: ## Format, lint and check dependencies
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/deny.sh

bench: build ## Measure what SPECIFICATION.md states (root; WASMTIME=path compares with `wasmtime serve`)
	cargo build --release --package bench
	for what in start creates pods containers scale memory idle "requests $(if $(WASMTIME),--wasmtime $(WASMTIME))"; do \
	  WHERRY_BIN=$(abspath $(WHERRY)) $(TARGET)/release/bench $$what || exit 1; done

soak: ## Run the long jobs: a thousand seeds of faults and of operations, a hundred kills (root), ten minutes of each fuzz target
	WHERRY_SEEDS=1000 cargo test --package simulation
	cargo build --bin wherry && WHERRY_KILLS=100 cargo test --package history
	WHERRY_FUZZ_SECONDS=600 cargo test --package fuzz

clean: ## Remove what was built
	cargo clean
