# The front door: CI calls the same targets.

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
ARGS ?=
IMAGE ?= zapbus:latest
ENGINE ?= docker

.DEFAULT_GOAL := help
.PHONY: help run demo build test postgres rabbitmq peers lint fmt deny bench bench-quick bench-build wheels wheel-for-tests types sim crash crash-can-fail chaos chaos-can-fail streams faults vices outage brokers soak fuzz fuzz-corpus image

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build and start the gateway on 127.0.0.1:8080 (ARGS='--listen …')
	@./target/release/zapbus serve $(ARGS)

demo: build ## See it work: traffic in, failing receivers, a live view (ARGS='--seed 7')
	@./target/release/zapbus demo $(ARGS)

build: ## Build the binary: target/release/zapbus
	@test -x target/release/zapbus || echo "The first build compiles everything: 10 minutes or more on 2 cores."
	$(CARGO) build --release --locked --package zapbus --bin zapbus

test: lint postgres rabbitmq wheel-for-tests ## Lint, then every test (crash rounds in their short form), gateways on both engines
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace && \
		ZAPBUS_TEST_ENGINE=postgres $(CARGO) nextest run --locked --profile postgres --workspace \
			-E 'binary(it) or binary(crash) or binary(streams)'; \
	else \
		$(CARGO) test --locked --workspace --lib --bins --tests && \
		ZAPBUS_TEST_ENGINE=postgres $(CARGO) test --locked --package zapbus --test it --test crash --test streams; \
	fi
	$(CARGO) test --locked --workspace --doc

postgres: # PostgreSQL's programs, for its tests: installed when missing, by root
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
		|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
			&& echo "Installing PostgreSQL for its tests." \
			&& apt-get install -y --no-install-recommends postgresql >/dev/null; } \
		|| echo "PostgreSQL is not here: its tests are skipped."

rabbitmq: # RabbitMQ, for the tests of its destinations: installed when missing, by root; not started
	@test -x /usr/lib/rabbitmq/bin/rabbitmq-server \
		|| { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
			&& echo "Installing RabbitMQ for the tests of its destinations." \
			&& apt-get install -y --no-install-recommends rabbitmq-server >/dev/null; } \
		|| echo "RabbitMQ is not here: its tests are skipped."

# Where the tests look for what they install, too.
TEST_CACHE = $${ZAPBUS_TEST_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/zapbus-tests}
SOCKUDO_VERSION := 5.2.0

peers: postgres rabbitmq ## Build the peers that take long (Sockudo, 15 minutes) for the tests, once, into a cache
	@cache="$(TEST_CACHE)"; place="$$cache/sockudo-$(SOCKUDO_VERSION)"; \
	if test -x "$$place/bin/sockudo"; then echo "Sockudo is here: $$place"; exit 0; fi; \
	if ! test -e /usr/include/google/protobuf/timestamp.proto; then \
		{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
			&& apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev >/dev/null; } \
			|| { echo "Sockudo needs protoc with its headers: protobuf-compiler, libprotobuf-dev"; exit 1; }; \
	fi; \
	mkdir -p "$$cache" && CARGO_TARGET_DIR="$$cache/build" $(CARGO) install --locked \
		--root "$$place.new" --no-default-features --features local sockudo@$(SOCKUDO_VERSION) \
	&& mv "$$place.new" "$$place" && rm -rf "$$cache/build"

PYTHON_CRATE := --manifest-path clients/python/Cargo.toml
MATURIN_VERSION := 1.16.0

MATURIN = test -x target/maturin/bin/maturin \
		|| python3 -m pip install --quiet --target target/maturin maturin==$(MATURIN_VERSION); \
	PYTHONPATH=target/maturin target/maturin/bin/maturin build --locked $(PYTHON_CRATE) --target-dir target

wheels: ## Build the Python package: target/wheels/zapbus-*.whl, for Python 3.10 and later
	@$(MATURIN) --release --out target/wheels

wheel-for-tests: # The same unoptimised, which takes a fraction of the time
	@$(MATURIN) --out target/wheels

types: ## Check the types of the Python package: mypy and pyright, both strict
	@test -d target/types || python3 -m pip install --quiet --target target/types mypy==2.4.1 pyright==1.1.414
	cd clients/python && PYTHONPATH=../../target/types python3 -m mypy
	cd clients/python && PYTHONPATH=../../target/types python3 -m pyright

lint: ## Format, clippy, licenses and sources of dependencies
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt $(PYTHON_CRATE) -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked $(PYTHON_CRATE) --target-dir target --all-targets -- -D warnings
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
	$(CARGO) deny $(PYTHON_CRATE) --config deny.toml --log-level error check bans licenses sources

# The counting build comes first: the plain one is what is measured.
BENCH := ./target/release/zapbus-bench --counting-binary target/release/zapbus-counting

bench: bench-build ## Measure everything; writes docs/design/bench.json (ARGS='--only path', --long)
	$(BENCH) $(if $(findstring --only,$(ARGS)),,--json docs/design/bench.json) $(ARGS)

bench-quick: bench-build ## See in two minutes that the benchmark works; measures nothing
	$(BENCH) --quick $(ARGS)

bench-build:
	$(CARGO) build --release --locked --package zapbus --features count-allocations --bin zapbus-counting
	$(CARGO) build --release --locked --package zapbus --bin zapbus
	$(CARGO) build --release --locked --package zapbus-bench

sim: ## Simulated lives of a gateway (ZAPBUS_SIM_SEEDS=how many, ZAPBUS_SIM_FIRST; ZAPBUS_SIM_SEED=one)
	$(CARGO) test --locked --package zapbus --test simulation -- --nocapture \
		$(if $(ZAPBUS_SIM_SEED),every_seed_holds)

crash: ## Kill the gateway many times under load (ZAPBUS_CRASH_ROUNDS or _MINUTES, ZAPBUS_CRASH_SEED)
	@if [ -z "$$ZAPBUS_CRASH_MINUTES" ]; then \
		export ZAPBUS_CRASH_ROUNDS=$${ZAPBUS_CRASH_ROUNDS:-200}; \
	fi; \
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

streams: ## 200 subscribers that come and go while the gateway is killed 20 times (ZAPBUS_STREAMS_SUBSCRIBERS, _KILLS, _SEED)
	ZAPBUS_STREAMS_SUBSCRIBERS=$${ZAPBUS_STREAMS_SUBSCRIBERS:-200} \
	ZAPBUS_STREAMS_KILLS=$${ZAPBUS_STREAMS_KILLS:-20} \
		$(CARGO) test --locked --package zapbus --test streams -- --nocapture

# Unoptimised builds only say in their requests by which right they were sent.
CHAOS = $(CARGO) test --locked --package zapbus --test chaos -- --nocapture three_nodes

chaos: postgres ## Three nodes on PostgreSQL, ten minutes of faults (ZAPBUS_CHAOS_MINUTES, ZAPBUS_CHAOS_SEED)
	ZAPBUS_CHAOS_MINUTES=$${ZAPBUS_CHAOS_MINUTES:-10} $(CHAOS)

chaos-can-fail: postgres ## Show that it fails when nodes go on without their lease
	@$(CARGO) test --locked --package zapbus --test chaos --no-run
	@ZAPBUS_CHAOS_BLIND=1 $(CHAOS) > target/chaos-can-fail.log 2>&1 || true
	@grep 'was run by two' target/chaos-can-fail.log || { \
		cat target/chaos-can-fail.log; \
		echo "The chaos test did not notice that lanes were run by two nodes: it proves nothing."; \
		exit 1; }
	@echo "Good: the chaos test noticed."

FAULTS = $(CARGO) test --locked --release --package zapbus --test faults -- --nocapture

faults: ## Failing disk, sync and clock; receivers with vices; an outage; growth: the short forms
	$(FAULTS)

vices: ## Receivers with every vice at once for ten minutes (ZAPBUS_VICES_MINUTES)
	ZAPBUS_VICES_MINUTES=$${ZAPBUS_VICES_MINUTES:-10} $(FAULTS) vices::

outage: ## One destination away with 50,000 events behind it (ZAPBUS_OUTAGE_EVENTS)
	ZAPBUS_OUTAGE_EVENTS=$${ZAPBUS_OUTAGE_EVENTS:-50000} $(FAULTS) outage::

brokers: rabbitmq ## A RabbitMQ that is killed under load and away for a minute (ZAPBUS_BROKERS_SECONDS)
	ZAPBUS_BROKERS_SECONDS=$${ZAPBUS_BROKERS_SECONDS:-60} $(FAULTS) brokers::

soak: ## Half an hour of mixed load; fails if memory, files, threads or store grow (ZAPBUS_SOAK_MINUTES)
	ZAPBUS_SOAK_MINUTES=$${ZAPBUS_SOAK_MINUTES:-30} $(FAULTS) soak::

FUZZ_SECONDS ?= 20
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))

fuzz: ## Every reader of what comes from outside, FUZZ_SECONDS (20) each (FUZZ_TARGETS='filter …')
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz"; exit 1; }
	@$(CARGO) +nightly --version >/dev/null 2>&1 || { \
		echo "A nightly compiler is missing: rustup toolchain install nightly"; exit 1; }
	@$(MAKE) --no-print-directory fuzz-corpus
	@for target in $(FUZZ_TARGETS); do \
		echo "== $$target"; \
		$(CARGO) +nightly fuzz run --dev --sanitizer none $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=10 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

fuzz-corpus: ## Write what the fuzz targets start from into fuzz/corpus
	$(CARGO) run --locked --manifest-path fuzz/Cargo.toml --bin corpus

image: ## Build the container image: zapbus:latest (IMAGE=, ENGINE=docker or podman)
	$(ENGINE) build --tag $(IMAGE) .
