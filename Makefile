# Each target does all of its own set-up, from a fresh clone on; a second call adds about a second.
#
#   PYTHON   the interpreter that makes the virtual environment (3.11 or newer)
#   TORCH    what to install as torch; "make test TORCH=torch" takes the newest, with CUDA
#   WORKERS  test processes side by side (up to 5 GB each; three keep two cores busy); 0: all in one

PYTHON ?= python3
# Installed before everything else: with a torch in place, the range in pyproject.toml adds no
# CUDA build (several GB) on a machine that has no use for one.
TORCH ?= torch==2.13.0
WORKERS ?= 3

VENV := .venv
BIN := $(VENV)/bin
# A file's tests stay together: they share models that are dear to load. In the order of their names:
# xdist's own ends with files of one test, which are the dearest, and one process waits for another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 20
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --progress-bar off
# A new stamp whenever pyproject.toml or TORCH changes; cksum is in POSIX, sha256sum is not.
INSTALLED := $(VENV)/.installed-$(shell (cat pyproject.toml; echo '$(TORCH)') | cksum | cut -d ' ' -f 1)

# Not with Intel's matrix tiles: built by many a compiler they end the program (edge_agent/draft_model/llama_build.py).
NO_TILES := $(shell echo | cc -mno-amx-int8 -E - > /dev/null 2>&1 && echo -DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8)

# What only tests want on a machine without a GPU: kernels run in Triton's interpreter (190 MB).
KERNELS := $(INSTALLED)-kernels

# Apart from what it looks at.
AUDIT := $(VENV)/audit

MODELS := smollm2-135m-instruct smollm2-135m-instruct-q4_0 smollm2-135m-instruct-q2_k smollm2-18m

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint bench audit install models clients clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

demo: install models ## a verifier and three boards on this machine, with real models
	$(BIN)/python -m tests.demo

test: lint models $(KERNELS) ## lint, then all tests but those marked slow; CI runs this
	$(PYTEST) -m "not slow"

test-all: lint models clients $(KERNELS) ## lint, then all tests, those marked slow (over a minute) as well
	$(PYTEST)

lint: install ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install models ## the benchmarks behind the README's numbers
	@set -e; for bench in tests/benchmarks/bench_*.py; do \
		echo "$$bench"; $(BIN)/python -m "tests.benchmarks.$$(basename "$$bench" .py)"; \
	done

audit: install ## known faults of what is installed; asks the package index and its database
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet pip-audit; } \
		|| { echo "pip-audit is not to be had here: nothing was looked at" >&2; exit 1; }
	@$(AUDIT)/bin/pip-audit --progress-spinner off --skip-editable --format json --path "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		| $(BIN)/python .ci/audit

clients: install ## clients of other projects, for tests/clients: Python's and, where npm is, Node's
	@sed '/^#/d' tests/clients/requirements.txt | while read -r wanted; do place=$(VENV)/clients/$${wanted%%>*}; \
		test -x $$place/bin/python || $(PYTHON) -m venv $$place; \
		$$place/bin/python -m pip install --quiet --disable-pip-version-check "$$wanted" || exit 1; done
	@command -v npm > /dev/null || { echo "npm is not there: Node's clients are not asked" >&2; exit 0; }; \
		npm install --prefix tests/clients --no-audit --no-fund --no-package-lock --silent

install: $(INSTALLED) ## the virtual environment with all dependencies

models: $(INSTALLED) ## the small real models of demo and tests (100 MB, once)
	@for model in $(MODELS); do $(BIN)/goodspeed-agent model pull $$model || exit 1; done

$(INSTALLED): | $(BIN)/python
	@echo "installing $(TORCH) (about 200 MB, a minute)"
	@$(PIP) '$(TORCH)'
	@echo "installing goodspeed and its dependencies (llama.cpp is compiled the first time: 4 to 8 minutes)"
	@CMAKE_ARGS="$${CMAKE_ARGS:--DLLAVA_BUILD=OFF $(NO_TILES)}" $(PIP) --editable '.[agent,verifier,dev]' \
		|| { echo "the installation failed; compiling llama.cpp needs a C++ compiler (Debian: apt install build-essential)" >&2; exit 1; }
	@rm -f $(VENV)/.installed-*
	@touch $@

$(KERNELS): $(INSTALLED)
	@$(PIP) 'triton>=3.6' 'torchao>=0.17' \
		|| echo "Triton or torchao is not to be had here; their tests are skipped"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "goodspeed needs Python 3.11 or newer, and $(PYTHON) is not; try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

clean: ## remove the virtual environment and all caches; models stay
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
