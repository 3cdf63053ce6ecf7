# make quickstart | test | check | bench-NAME. Each makes .venv when it is not there, and is quick the second time.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help quickstart test check bench-train bench-packing bench-memory bench-qlora bench-full bench-generate bench-lengths bench-quantization bench-merge bench-intervals gpu-check bench-dedup bench-curate docs format clean

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
	$(BIN)/python scripts/make_performance.py --check

bench-train: $(VENV)/.installed-bench  ## our training step beside TRL's, in one call
	$(BIN)/python benchmarks/train.py

bench-packing: $(VENV)/.installed-bench  ## tokenizing and packing beside TRL's
	$(BIN)/python benchmarks/packing.py

bench-qlora: $(VENV)/.installed-bench  ## a QLoRA step at Phi-3-mini's geometry beside TRL + bitsandbytes
	$(BIN)/python benchmarks/qlora.py

bench-full: $(VENV)/.installed-bench  ## full fine-tuning of SmolLM2-135M beside TRL's
	$(BIN)/python benchmarks/full.py

bench-generate: $(STAMP)  ## greedy answers to 64 prompts beside transformers' generate
	$(BIN)/python benchmarks/generate.py

bench-lengths: $(VENV)/.installed-bench  ## cost of a step by length and number of rows
	$(BIN)/python benchmarks/lengths.py

bench-quantization: $(STAMP)  ## what each GGUF type costs on SmolLM2: size, memory, speed, perplexity
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,gguf]'
	$(BIN)/python benchmarks/quantization.py

bench-merge: $(STAMP)  ## peak memory of `pacos export merge` at Llama-2-7B's widths
	$(BIN)/python benchmarks/merge.py

bench-intervals: $(STAMP)  ## coverage of the intervals, false alarms of tests and gates, by simulation
	$(BIN)/python benchmarks/intervals.py

gpu-check: $(VENV)/.installed-bench  ## on a CUDA device: checks against the CPU, and speed beside TRL + liger-kernel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt liger-kernel
	$(BIN)/python benchmarks/gpu.py

bench-dedup: $(VENV)/.installed-bench  ## novelty of 52,002 instructions beside rapidfuzz and rouge-score
	$(BIN)/python benchmarks/dedup.py

bench-curate: $(STAMP)  ## time, memory and agreement with people of `pacos curate` on 52,002 rows
	$(BIN)/python benchmarks/curate.py

bench-memory: $(STAMP)  ## planned against measured peak memory
	$(BIN)/python benchmarks/memory.py

docs: $(VENV)/.installed-dev  ## write docs/cli.md, docs/recipes.md and, from the results, docs/performance.md again
	$(BIN)/python scripts/make_docs.py
	$(BIN)/python scripts/make_performance.py

format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the virtual environment and caches; runs stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
