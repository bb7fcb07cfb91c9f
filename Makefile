# `make run`: everything from nothing to a packaged pipeline. `make test`: lint, types, tests. Each sets up by itself.
# `make start-wheel`: the English encoder that projects start from, as a package.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test test-slow lint start-wheel clean

run: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m spacy project run all

test: lint
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q

test-slow: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The shipped English start as a package: `pip install` it, and its name stands for the folder
start-wheel: $(STAMP)
	$(BIN)/python scripts/package_model.py assets/electra-en dist --name spacy-electra-en --version 0.1.0 --license Apache-2.0

# torch first: pinned alone it is the build that fits the machine, asked for by another package it may not be
$(STAMP): setup.cfg setup.py pyproject.toml constraints.txt $(wildcard spacy_electra/model/kernels/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,zstd]"
	touch $(STAMP)

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache spacy_electra/model/_kernels*.so
