# hybrid-batch: `make help` lists what can be asked for.
# VENV=path puts the environment elsewhere, so that several checkouts can share one.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.hybrid-batch-installed
PEER_VENV  := .venv-ray
PEER_STAMP := $(PEER_VENV)/.peer-installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check
TORCH_CPU_WHEELS := https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
KILLS ?= 200
CASES ?= 10000
SEED  ?= 0
.PHONY: help setup demo test test-fast check format chaos chaos-kills check-protocol fuzz s3-start s3-stop golden lock clean tools bench-score bench-score-gpu bench-routing bench-plumbing bench-client bench-generate bench-generate-peer bench-shards

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or later is needed; get it with 'apt install python3 python3-venv' or 'brew install python', or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@java="$${JAVA_HOME:+$$JAVA_HOME/bin/}java"; \
	  version=$$("$$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1 || true); \
	  [ "$${version:-0}" -ge 17 ] || \
	  { echo "Java 17 or later is needed (found: $${version:-none}); get it with 'apt install openjdk-17-jre-headless' or 'brew install openjdk@17'" >&2; exit 1; }

setup: $(STAMP) ## make the environment with the pinned CPU packages (4 GB, about 3 minutes)

# torch's CPU build comes from the default index where that has it, else from PyTorch's own wheel index.
# --no-deps: the lock is complete, and leaves out three packages of which only CUDA builds are published.
$(STAMP): requirements/cpu.lock pyproject.toml | tools
	@echo "==> installing the pinned packages into $(VENV) (4 GB, about 3 minutes the first time)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@torch=$$(sed -n 's/^\(torch==[^ ;]*\).*/\1/p' requirements/cpu.lock); \
	  $(PIP) install -qq --no-deps "$$torch" 2>/dev/null || \
	  $(PIP) install -qq --no-deps --extra-index-url $(TORCH_CPU_WHEELS) "$$torch"
	@$(PIP) install -qq --no-deps -r requirements/cpu.lock
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## set everything up and run the job on two small real models (5 to 10 minutes the first time)
	@rm -rf out/demo
	@$(BIN)/python -m hybrid_batch.demo.prepare --out out/demo/input
	@$(BIN)/hybrid-batch run conf/demo.yaml

test: setup ## run the whole test suite
	@$(BIN)/python -m pytest

test-fast: setup ## run the tests that start neither Spark, nor vLLM, nor an S3 server
	@$(BIN)/python -m pytest tests/unit tests/property

check: setup ## ruff, types, import contracts, golden configurations
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet || { $(BIN)/ruff format --diff; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/unit/test_config_files.py
	@if command -v shellcheck >/dev/null; then shellcheck submit.sh .ci/run; else echo "shellcheck is not installed: the shell scripts were not checked"; fi

format: setup ## put the code into its canonical form
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

golden: setup ## write the resolved form of every file in conf/ anew
	@$(BIN)/python -m tests.golden.update

chaos: setup ## break real runs in all ways that we know, and count rows and tokens (43 minutes on a busy machine; FAULTS="NAME NAME")
	@$(BIN)/python -m tests.chaos $(FAULTS)

chaos-kills: setup ## kill -9 the driver at KILLS=200 random moments of a run of 2,000 shards (hours); goes on where it stopped
	@$(BIN)/python -m tests.chaos.kill_points --kills $(KILLS)

check-protocol: setup ## every order of events of tiny nights, against the invariants of the commit protocol (about 10 minutes)
	@$(BIN)/python -m tests.support.protocol_search

fuzz: setup ## read CASES=10000 damaged query files: rows, or an error that names the file (16 minutes on a busy machine)
	@$(BIN)/python -m tests.fuzz.run --cases $(CASES) --seed $(SEED)

s3-start: setup ## start a Ceph S3 gateway on loopback; prints the settings to export
	@$(BIN)/python tests/s3/ceph_gateway.py start

s3-stop: setup ## stop that gateway and remove its data
	@$(BIN)/python tests/s3/ceph_gateway.py stop

bench-score: setup ## the score stage beside the bare encoder and others (about 20 minutes)
	@$(BIN)/python -m benchmarks.scoring

bench-score-gpu: setup ## the scorer on a GPU beside its bare encoder (needs one)
	@$(BIN)/python -m benchmarks.score_gpu

bench-routing: setup ## routers on real data beside simple ones, and promises beside the paper's (about 30 minutes)
	@$(BIN)/python -m benchmarks.routing

bench-plumbing: setup ## score and route of one and four million queries with a router that costs nothing (about 4 minutes)
	@$(BIN)/python -m benchmarks.plumbing

bench-generate: setup bench-generate-peer ## generation beside the bare engine and Ray Data LLM, on a small real model (about 25 minutes)
	@$(BIN)/python -m benchmarks.generating

bench-shards: setup ## seconds and requests of planning and resuming up to 100,000 shards on a Ceph S3 gateway (about 20 minutes)
	@$(BIN)/python -m benchmarks.many_shards

bench-generate-peer: $(PEER_STAMP) ## the environment of Ray Data LLM, which finds vLLM in the project's own

$(PEER_STAMP): requirements/ray.txt | setup
	@echo "==> installing Ray Data LLM into $(PEER_VENV)"
	@[ -x $(PEER_VENV)/bin/python ] || $(BIN)/python -m venv $(PEER_VENV)
	@paths='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	  $(BIN)/python -c "$$paths" > "$$($(PEER_VENV)/bin/python -c "$$paths")/project.pth"
	@$(PEER_VENV)/bin/python -m pip --disable-pip-version-check install -qq --no-deps -r requirements/ray.txt
	@touch $@

bench-client: setup ## short requests a second of one core, beside bare sockets (about 1 minute)
	@$(BIN)/python -m benchmarks.client_ceiling

lock: setup ## resolve requirements/*.in anew
	@$(PIP) install -qq uv
	@$(BIN)/uv pip compile -q requirements/cpu.in --overrides requirements/overrides.txt --universal --python-version 3.11 \
	  $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --no-header --no-annotate --no-emit-find-links \
	  | sed "/sys_platform == 'never'/d" > requirements/cpu.lock.new
	@mv requirements/cpu.lock.new requirements/cpu.lock
	@$(BIN)/uv pip compile -q requirements/gpu.in --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	  --no-header --no-annotate -o requirements/gpu.lock

clean: ## remove what runs and tests left in this folder (not the environment, not the model cache)
	@rm -rf out logs build dist spark-warehouse .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
