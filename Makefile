PYTHON ?= python3

native:
	@cmake -S native -B build/native -G Ninja -DPython_EXECUTABLE="$$($(PYTHON) -c 'import sys; print(sys.executable)')" \
	    -Dnanobind_DIR="$$($(PYTHON) -m nanobind --cmake_dir)" -DPUNA_OUTPUT_DIR="$(CURDIR)/src/puna/backends/cpu" \
	    -DPUNA_SANITIZE="$(SANITIZE)" --log-level=WARNING
	@cmake --build build/native

.PHONY: native
