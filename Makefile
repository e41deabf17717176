# Both targets do all of their own set-up: they need Python 3.10–3.13, git and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
# Test processes at once; each starts the servers that its tests need. One more than two cores: a quarter of the time tests wait
# for a window, a server or a timeout.
WORKERS ?= 3
BIN    := $(VENV)/bin
# Pinned, and installed before anything that depends on it: an unpinned torch brings gigabytes of CUDA packages along.
TORCH  ?= torch==2.13.0

.PHONY: demo test check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(BIN)/python examples/demo.py

# Files in their order: those with the fewest tests, which would come last, are those that take longest.
test: $(VENV)/.dev check
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests examples docs

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.torch: $(VENV)/bin/pip
	@echo "installing $(TORCH) (about a minute)"
	$(BIN)/pip install --quiet "$(TORCH)" numpy
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "installing looptap with its store"
	$(BIN)/pip install --quiet -e ".[all]"
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet -e ".[dev]"
	@touch $@

clean:
	rm -rf $(VENV) demo-output .mypy_cache .pytest_cache .ruff_cache
