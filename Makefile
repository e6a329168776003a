# The front door: CI calls the same targets.

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run build test lint fmt deny sim crash crash-can-fail

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build and start the gateway on 127.0.0.1:8080 (ARGS='--listen …')
	@./target/release/zapbus serve $(ARGS)

build: ## Build the binary: target/release/zapbus
	@test -x target/release/zapbus || echo "The first build compiles everything: about 4 minutes on 2 cores."
	$(CARGO) build --release --locked --package zapbus --bin zapbus

test: lint ## Lint, then every test (crash rounds in their short form)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace; \
	else \
		$(CARGO) test --locked --workspace --lib --bins --tests; \
	fi
	$(CARGO) test --locked --workspace --doc

lint: ## Format, clippy, licenses and sources of dependencies
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	@$(MAKE) --no-print-directory deny
	@! $(CARGO) tree --locked --package zapbus --edges normal,features | grep -q simulation || { \
		echo "A release would be built with the simulation in it."; exit 1; }

fmt: ## Format everything
	$(CARGO) fmt --all

deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || { \
		echo "Installing cargo-deny $(CARGO_DENY_VERSION): about 2 minutes, once."; \
		$(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION); }
	$(CARGO) deny --all-features --log-level error check bans licenses sources

sim: ## Simulated lives of a gateway (ZAPBUS_SIM_SEEDS=how many, ZAPBUS_SIM_FIRST; ZAPBUS_SIM_SEED=one)
	$(CARGO) test --locked --package zapbus --test simulation -- --nocapture \
		$(if $(ZAPBUS_SIM_SEED),every_seed_holds)

crash: ## Kill the gateway many times under load (ZAPBUS_CRASH_ROUNDS, ZAPBUS_CRASH_SEED)
	ZAPBUS_CRASH_ROUNDS=$${ZAPBUS_CRASH_ROUNDS:-200} \
		$(CARGO) test --locked --release --package zapbus --test crash -- --nocapture

crash-can-fail: ## Show that the crash test fails when events are answered before they are stored
	$(CARGO) test --locked --package zapbus --features fault-injection --test crash --no-run
	@$(CARGO) test --locked --package zapbus --features fault-injection --test crash \
		> target/crash-can-fail.log 2>&1 || true
	@grep 'never arrived' target/crash-can-fail.log || { \
		cat target/crash-can-fail.log; \
		echo "The crash test did not notice that events were answered too early: it proves nothing."; \
		exit 1; }
	@echo "Good: the crash test noticed."
