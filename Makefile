# make quickstart | test | check | bench-NAME. Each makes .venv when it is not there, and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help quickstart test check bench-train docs format clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit("pacos needs Python 3.11 or newer, and $(PYTHON) is %d.%d; run: make PYTHON=python3.11 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train]'
	@touch $@

$(VENV)/.installed-dev: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,hub,dev]'
	@touch $@

$(VENV)/.installed-bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,bench]'
	@touch $@

quickstart: $(STAMP)  ## fine-tune, evaluate and try a real 135M model, in minutes on two CPU cores
	$(BIN)/pacos quickstart

test: $(VENV)/.installed-dev  ## all checks and tests
	$(MAKE) --no-print-directory check
	PYTHONHASHSEED=0 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev  ## lint, types, who imports whom, documents fresh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py
	$(BIN)/python scripts/make_docs.py --check

bench-train: $(VENV)/.installed-bench  ## our training step beside TRL's, in one call
	$(BIN)/python benchmarks/train.py

docs: $(VENV)/.installed-dev  ## write docs/cli.md and docs/recipes.md again
	$(BIN)/python scripts/make_docs.py

format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the virtual environment and caches; runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
