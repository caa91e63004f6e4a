# `make demo` relaxes a crystal with the shipped model, `make test` checks everything; each sets up its own environment.
#
# Variables, all optional:  make test PYTHON=python3.12 VENV=/tmp/environment CONSTRAINTS= PYTEST_ARGUMENTS="-k graph"
#   PYTHON            interpreter (3.10 or newer) the environment is made with
#   VENV              folder of the environment
#   CONSTRAINTS       pip constraints file; empty for the newest version of everything
#   PROCESSES         test processes, one thread each
#   PYTEST_ARGUMENTS  further arguments for pytest
# pip listens to its own variables as always, so PIP_EXTRA_INDEX_URL can point it to a build of PyTorch without CUDA.

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
PROCESSES ?= 2
PYTEST_ARGUMENTS ?=

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CONSTRAINED := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadgroup

.PHONY: demo test test-slow lint format clean

demo: $(VENV)/.installed
	$(BIN)/forcefield relax examples/structures/LiFePO4.cif --cell --output-dir demo
	@echo "structure, trajectory and result are in demo/"; ls demo

test: lint
	$(PYTEST) -m "not slow" $(PYTEST_ARGUMENTS)

test-slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $(PYTEST_ARGUMENTS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .venv build demo dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find forcefield tests examples benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, $(PYTHON) is " \
	    + sys.version.split()[0] + "; choose another with `make PYTHON=...`")'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) "pip>=23"

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing the package into $(VENV): PyTorch is large, this can take minutes"
	$(PIP_INSTALL) $(CONSTRAINED) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing the package and its development tools into $(VENV): PyTorch is large, this can take minutes"
	$(PIP_INSTALL) $(CONSTRAINED) --editable ".[dev]"
	@touch $(VENV)/.installed $@
