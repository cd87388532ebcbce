# Each target makes its own virtual environment from nothing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test test-gpu test-cubins lint bench bench-gpu readme clean

train: $(VENV)/installed
	$(BIN)/pycnn train digits

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses logical --dist worksteal

# With an NVIDIA GPU: its own tests, on it the CPU's grids of problems, as far as they name no backend, and its own tests
# again under NVIDIA's Compute Sanitizer, which stops at an access out of bounds and at a race in shared memory.
test-gpu: $(VENV)/installed-cuda
	PYCNN_TEST_GPU=1 $(BIN)/python -m pytest --numprocesses 4 tests/cuda
	PYCNN_TEST_BACKEND=cuda $(BIN)/python -m pytest --numprocesses 4 tests/kernels/test_conv.py \
		tests/kernels/test_pool.py tests/kernels/test_named_shapes.py -k "not thread"
	for tool in memcheck racecheck; do \
		PYCNN_TEST_GPU=1 PYCNN_TEST_SANITIZER=1 \
			$(VENV)/lib/python3*/site-packages/nvidia/cu13/bin/compute-sanitizer --tool $$tool --error-exitcode 1 \
			$(BIN)/python -m pytest tests/cuda -k "not compiled" || exit 1; \
	done

# Without a GPU: every variant of every kernel that the tests launch on the simulated one, some 1,300, as machine code for
# three architectures, without spilled registers and calls on its way. It takes half an hour or more; `make test`
# compiles at least one of each kernel.
test-cubins: $(VENV)/installed-cuda
	PYCNN_TEST_BOTH_ORDERS=1 PYCNN_TEST_COMPILE=sm_80,sm_89,sm_90a $(BIN)/python -m pytest --numprocesses logical --dist worksteal tests/cuda

lint: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	$(BIN)/python -m bench.report
	if $(BIN)/python -c 'import torch' 2>/dev/null; then $(BIN)/python -m bench.accelerate --threads 2; fi
	$(BIN)/python -m pytest bench

bench-gpu: $(VENV)/installed-cuda
	$(BIN)/python -m bench.gpu

readme: $(VENV)/installed
	$(BIN)/python -m tests.readme

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[train,test]"
	touch $@

$(VENV)/installed-cuda: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[cuda]" "nvidia-cuda-nvdisasm==13.2.*" \
		"nvidia-cuda-sanitizer-api==13.0.*"
	touch $@
