# `make demo` and `make test` need Python 3.11+ and nothing else; both set up .venv by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test test-generators check bench docs clean
help:
	@echo "make demo    measure a real small language model on this machine (about a minute)"
	@echo "make test    run the test suite"
	@echo "make test-generators   tests with other load generators, installed in the cache (about 3 GB, once)"
	@echo "make check   lint, types, import contract"
	@echo "make bench   performance against the reference client (needs gcc)"
	@echo "make docs    generate the reference pages from the code"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip

# What an installation is made of: the sources of the receiver in C are compiled by it.
PARTS := pyproject.toml hatch_build.py $(wildcard src/llm_d_benchmark/loadgen/native/compiled/*.[ch])
$(VENV)/.local: $(PARTS) | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[local]'
	$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(PARTS) | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[local,tokenizers,notebook,postgresql,explore,gpu]' --group dev
	$(BIN)/python -m compileall -q src
	@touch $@ $(VENV)/.local

demo: $(VENV)/.local
	$(BIN)/llm-d-benchmark run -c examples/demo.yaml

# Tests of pure code and of virtual time share the cores; those that take times of real servers have the machine to
# themselves. What else a machine does for a moment makes some of these fail: an assertion that does not hold has to hold
# the second time, in three tests at most, and the summary shows the first. Any other error, and a fourth, is a failure.
REAL_TIME := --reruns 1 --max-suite-reruns 3 --only-rerun AssertionError --rerun-show-tracebacks
PURE := $(addprefix tests/,domain config workload analyze store report examples perfmodel capacity explore cli)
VIRTUAL := $(patsubst %,tests/e2e/test_%.py,baseline capacity compare explore explore_workers simulator_run trend) \
  $(patsubst %,tests/simulator/test_%.py,blocks calibrate cost engine mistakes profiles request_overhead router \
  routing_experiment tokens)
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PURE) $(VIRTUAL)
	$(BIN)/python -m pytest $(REAL_TIME) $(addprefix --ignore=,$(PURE) $(VIRTUAL))

# fmperf and vllm bench cannot be installed from here: tested where `generators install NAME --path` was run before.
test-generators: $(VENV)/.dev
	@for tool in "guidellm --light" inference-perf aiperf llmeter; do \
	  if $(BIN)/llm-d-benchmark generators list | grep -q "^$${tool%% *} .*not installed"; then \
	    $(BIN)/llm-d-benchmark generators install $$tool || exit; fi; done
	$(BIN)/python -m pytest $(REAL_TIME) -m generators --ignore=tests/loadgen/external/test_conformance.py
	$(BIN)/python -m pytest $(REAL_TIME) -n 2 -m generators tests/loadgen/external/test_conformance.py

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

docs: $(VENV)/.dev
	$(BIN)/python -m docs

clean:
	rm -rf $(VENV) benchmarks/build build dist
