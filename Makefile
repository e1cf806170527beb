# secretlink: build, install, try, test.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The Postgres to build for. Without it: the pg_config in PATH, else the newest of Debian's.
ifdef PG_CONFIG
export PG_CONFIG
endif

# What every recipe that needs Postgres or pgrx begins with.
SETUP := . scripts/env.sh; use_postgres; use_cargo_pgrx

.PHONY: help deps build install install-dev demo sandbox test test-library test-one test-18 test-majors check-19 storm sync-storm bench package schema fmt lint clean

help: ## Show this list
	@echo "Usage: make <target> [PG_CONFIG=/path/to/pg_config]"; echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

deps: ## Install what is missing: Debian packages; cargo-pgrx and moto below target/
	@scripts/deps.sh

build: deps ## Build the extension as it is shipped (optimised; takes minutes)
	@$(SETUP); cargo build --release --lib $$FEATURES

install: deps ## Install the extension, as it is shipped, into the Postgres of PG_CONFIG
	@$(SETUP); install_extension release

install-dev: deps ## Install a development build: quicker to build, slower to run
	@$(SETUP); install_extension dev

demo: install-dev ## Show the main job on throw-away servers
	@. scripts/env.sh; use_postgres; exec "$$CARGO_TARGET_DIR/debug/demo" demo

sandbox: install-dev ## Leave the demo's servers running, to try it yourself, until Ctrl-C
	@. scripts/env.sh; use_postgres; exec "$$CARGO_TARGET_DIR/debug/demo" sandbox

test: deps ## Run everything: format, lints, unit, in-backend and end-to-end tests
	@scripts/test.sh

test-library: deps ## Run unit and in-backend tests: all, or those with NAME=word in their path
	@scripts/test.sh library $(NAME)

test-one: install-dev ## Run a file of end-to-end tests, TEST=dblink: all, or those with NAME=word in their path
	@$(SETUP); cargo test --workspace $$FEATURES,pg_test --test $(TEST) -- --test-threads=4 $(NAME)

test-18: deps ## Run everything on PostgreSQL 18, in a root of Debian forky made for it (as root)
	@scripts/test-release.sh forky

test-majors: test test-18 ## Run everything on PostgreSQL 15, 17 and 18
	@scripts/test-release.sh trixie

check-19: deps ## Compile the code for PostgreSQL 19, with the pgrx that knows it (as root)
	@scripts/test-release.sh forky-19 scripts/check-19.sh

storm: install-dev ## Rotate a thousand secrets, with something going wrong in each; takes a quarter of an hour
	@$(SETUP); ROTATIONS=$${ROTATIONS:-1000} cargo test --workspace $$FEATURES,pg_test --test rotation -- --nocapture whatever_goes_wrong

sync-storm: install-dev ## Change synced passwords 20 times 2,000 times, with faults, crashes and failovers; takes an hour
	@$(SETUP); for run in $$(seq $${RUNS:-20}); do \
	  cargo test --workspace $$FEATURES,pg_test --test password_sync -- --nocapture whatever_happens; done

bench: ## Measure against contrib dblink and boto3, side by side
	@scripts/deps.sh bench
	@$(SETUP); install_extension release; cargo run --release --package secretlink-benches

package: deps ## Build the files to install, as a directory and a tar archive below target/
	@scripts/package.sh

schema: deps ## Write the SQL that CREATE EXTENSION runs to sql/, for reading
	@scripts/schema.sh

fmt: ## Format the code
	@cargo fmt --all
	@target/lint-venv/bin/taplo fmt

lint: deps ## Check imports, spelling, TOML, dependencies and code, warnings denied
	@$(SETUP); lint_texts; lint

clean: ## Remove everything built, and what deps installed below target/
	@cargo clean
	@rm -rf target
