# `make run`: everything from nothing to a packaged pipeline. `make test`: lint, types, tests. Each sets up by itself.
# `make start-wheel`: the English encoder that projects start from, as a package.
# `make check-wheel`: what a release consists of. CONTRIBUTING.md says when to use which.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RELEASE_STAMP := $(VENV)/.installed-release
PACKAGES := dist/spacy_electra-[0-9]*
KERNELS := dist/spacy_electra_kernels-[0-9]*
KERNEL_FILES := $(wildcard kernels/*.* kernels/spacy_electra_kernels/*.py kernels/src/*.[ch] kernels/src/*/*.h)

.PHONY: run test test-slow test-installed test-oldest test-newest lint format start-wheel wheel check-wheel check-release clean

run: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m spacy project run all

test: lint
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q

test-slow: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m slow

# The suite on an installed wheel, from a folder without the package's source; with other dependencies below
test-installed:
	$(PYTHON) scripts/wheel_tests.py

test-oldest:
	$(PYTHON) scripts/wheel_tests.py --dependencies oldest

test-newest:
	$(PYTHON) scripts/wheel_tests.py --dependencies newest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The shipped English start as a package: `pip install` it, and its name stands for the folder
start-wheel: $(STAMP)
	$(BIN)/python scripts/package_model.py assets/electra-en dist --name spacy-electra-en --version 0.1.0 --license Apache-2.0

# An sdist and a wheel each of the package and of its kernels, which need Linux on x86-64 and gcc 10 or newer
wheel: $(STAMP)
	rm -rf build/lib build/bdist.* kernels/build $(PACKAGES) $(KERNELS)
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m build --no-isolation --outdir dist kernels

# auditwheel names the oldest glibc that the kernels run with, without which registries take no wheel for Linux
check-wheel: wheel $(RELEASE_STAMP)
	for wheel in dist/spacy_electra_kernels-*-linux_*.whl; do test ! -f $$wheel || \
	  { PATH=$(BIN):$$PATH $(BIN)/auditwheel repair --wheel-dir dist $$wheel && rm $$wheel; } || exit 1; done
	$(BIN)/python scripts/check_packages.py dist
	$(BIN)/twine check --strict $(PACKAGES) $(KERNELS)
	$(BIN)/check-wheel-contents $(PACKAGES).whl
	$(BIN)/check-wheel-contents --config kernels/pyproject.toml $(KERNELS).whl

# Whether this commit may be released as TAG, for example `make check-release TAG=v0.1.0`
check-release: $(STAMP)
	$(BIN)/python scripts/check_release.py $(TAG)

# torch first: pinned alone it is the build that fits the machine, asked for by another package it may not be
$(STAMP): setup.cfg pyproject.toml constraints.txt $(KERNEL_FILES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,zstd]"
	@PYTHON=$(BIN)/python sh scripts/install_kernels.sh
	touch $(STAMP)

$(RELEASE_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[release]"
	touch $(RELEASE_STAMP)

clean:
	rm -rf build dist *.egg-info kernels/build kernels/*.egg-info .pytest_cache .mypy_cache .ruff_cache
