# make run   the main job: S-ketamine in the human GluN1-GluN2B channel, from nothing to a report
# make test  all tests          make test-fast  those that take seconds
# make check style and types    make docs       the documentation as a site
# EXTRAS=test,parameters,docking make test   also tests what the extras add

PYTHON ?= python3
EXTRAS ?= test
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test test-fast check docs clean

run: $(VENV)/installed
	$(BIN)/nmdasim run S-ketamine -o runs/S-ketamine

test: $(VENV)/installed-$(EXTRAS)
	$(BIN)/python -m pytest

test-fast: $(VENV)/installed-$(EXTRAS)
	$(BIN)/python -m pytest -m "not slow"

check: $(VENV)/installed-$(EXTRAS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-docs
	$(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nmdasim needs Python 3.11 or newer: set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache .mypy_cache
