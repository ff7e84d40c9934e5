# `make run` starts Heddle on a machine that has nothing but Rust; `make test` shows that it works. `make help` lists the rest.
# What these need is checked, and installed where it can be, by deploy/setup.sh, which says what it does.

SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/heddle
export CARGO_TARGET_DIR ?= $(CACHE)/target
export HEDDLE_CACHE := $(CACHE)
DATA ?= ./heddle-data
ARGS ?=
FAULTS_S ?= 300
FAULTS_CLIENTS ?= 200
FAULTS_CONVERSATIONS ?= 60
OUTAGE_S ?= 60
REBALANCES ?= 50
SWAPS ?= 1000
# Each Rust brings lints that nobody saw before: of a newer one than these were last looked at with they are shown, and fail nothing.
LINTED := 99
LINTS = $(shell rustc --version | awk -F. '{ print ($$2 > $(LINTED)) ? "-W warnings" : "-D warnings" }')

.DEFAULT_GOAL := help
.PHONY: help run build test lint faults figures clean-data

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the host and the plugins, and link ./heddle
	@deploy/setup.sh build
	@# For a test that runs the binary, and so with the features that all tests have: else neither `make run` nor `make test` could use what the
	@# other built. The first one takes minutes: it shows how far it is.
	@cargo test $(if $(wildcard $(CARGO_TARGET_DIR)/debug/heddle),--quiet) --workspace --test compile_child --no-run
	@ln -sfn "$(CARGO_TARGET_DIR)/debug/heddle" heddle

run: build ## Start `heddle dev` with data in ./heddle-data (DATA=DIR, ARGS='--no-bot')
	@exec ./heddle dev --data "$(DATA)" $(ARGS)

lint: ## Check formatting and lints
	@deploy/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- $(LINTS)

test: lint ## Run everything: lints, unit tests, those of the SDK and the plugins, end-to-end tests against the real binary
	@deploy/setup.sh test
	cargo test --workspace --quiet
	@for manifest in sdk/*/Cargo.toml plugins/*/Cargo.toml; do \
	  echo "tests of $$(dirname $$manifest)"; \
	  CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)/authors" cargo test --quiet --locked --manifest-path $$manifest || exit 1; \
	done
	@# The binary that the tests above were built with: built for itself alone it would be built again with all that it stands on.
	HEDDLE_BIN="$(CARGO_TARGET_DIR)/debug/heddle" HEDDLE_VENV="$(CACHE)/venv" tests/e2e/run

faults: build ## Three nodes under faults for FAULTS_S=300 s with FAULTS_CLIENTS=200 in FAULTS_CONVERSATIONS=60, REBALANCES=50, SWAPS=1000 under load, then builds with planted defects
	@deploy/setup.sh test
	cargo test --quiet --workspace --test planted --no-run
	HEDDLE_BIN="$(CARGO_TARGET_DIR)/debug/heddle" HEDDLE_VENV="$(CACHE)/venv" HEDDLE_E2E_FAULTS_S="$(FAULTS_S)" \
	  HEDDLE_E2E_FAULTS_CLIENTS="$(FAULTS_CLIENTS)" HEDDLE_E2E_FAULTS_CONVERSATIONS="$(FAULTS_CONVERSATIONS)" HEDDLE_E2E_OUTAGE_S="$(OUTAGE_S)" \
	  HEDDLE_E2E_AGREE_SWAPS=100 HEDDLE_E2E_ROLLING_CLIENTS=200 \
	  HEDDLE_E2E_REBALANCES="$(REBALANCES)" HEDDLE_E2E_REBALANCES_S=1200 HEDDLE_E2E_INTERRUPTIONS=15 HEDDLE_E2E_LOSSY_S=60 HEDDLE_E2E_NO_REDIS_S=60 \
	  HEDDLE_E2E_MODES_ROUNDS=4 HEDDLE_E2E_MODES_CLIENTS=40 \
	  tests/e2e/run test_cluster.py test_no_redis.py test_redis_modes.py test_agree.py test_rolling.py test_rebalance.py test_expansion.py test_lossy_bus.py faults_one_way.py faults_drain.py
	HEDDLE_BIN="$(CARGO_TARGET_DIR)/debug/heddle" HEDDLE_VENV="$(CACHE)/venv" HEDDLE_E2E_SWAPS="$(SWAPS)" HEDDLE_E2E_DEPLOY_KILLS=100 \
	  HEDDLE_E2E_SHADOWED=2000 HEDDLE_E2E_WILD_OUTPUTS=100000 HEDDLE_E2E_RANDOM_COMPONENTS=200 \
	  tests/e2e/run -s test_swap.py test_trials.py test_hostile_set.py test_clamp.py
	tests/planted/run

figures: ## Measure, with a release build, and print the tables of the README
	@deploy/setup.sh test
	cargo build --release --quiet --package heddle
	HEDDLE_BIN="$(CARGO_TARGET_DIR)/release/heddle" HEDDLE_VENV="$(CACHE)/venv" tests/figures/run

clean-data: ## Remove ./heddle-data: every message, user and group in it
	rm -rf ./heddle-data
