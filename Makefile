# `make demo` and `make test` need git, make and Python 3.11 or later with venv; the rest they install in .venv.
# Choose a build of torch with TORCH_INDEX_URL, see README.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS ?= enclave,broker,openai,azure,nvidia,dev
PIP_FLAGS := $(if $(TORCH_INDEX_URL),--extra-index-url $(TORCH_INDEX_URL),)

.PHONY: demo parties test test-slow test-gpu test-vllm check lint bench clean

demo: $(STAMP)
	$(BIN)/cloister demo

parties: $(STAMP)
	$(BIN)/cloister demo parties

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not vllm"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# On a machine with a CUDA device: what needs one, then the engine's tests with the engine on it.
test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu
	CLOISTER_TEST_DEVICE=cuda $(BIN)/python -m pytest -m "not slow and not vllm" tests/engine

# VLLM_PYTHON is the python of an environment that has vLLM, see docs/vllm.md.
test-vllm: $(STAMP)
	CLOISTER_VLLM_PYTHON=$(VLLM_PYTHON) $(BIN)/python -m pytest -m vllm

check: lint test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/out

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_FLAGS) -e '.[$(EXTRAS)]'
	touch $@
