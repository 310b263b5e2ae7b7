# `make lab` opens the course, `make test` checks all of it. Both need Python 3.11 or newer and nothing else.

PYTHON ?= python3
LAB_ARGS ?=

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: lab test notebooks lock

lab: .venv/lab.installed
	$(BIN)/pgv lab $(LAB_ARGS)

test: .venv/test.installed
	$(BIN)/python -m pytest

# Run lessons and solutions again, from clean kernels, and store their outputs: make notebooks NOTEBOOKS=notebooks/02_crud.ipynb
NOTEBOOKS ?= notebooks/*.ipynb solutions/*.ipynb
notebooks: .venv/test.installed
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.skip_cells_with_tag= --ClearMetadataPreprocessor.enabled=True \
		--ClearMetadataPreprocessor.preserve_nb_metadata_mask="{'kernelspec', ('language_info', 'name')}" \
		--ClearMetadataPreprocessor.preserve_cell_metadata_mask="{'tags', 'nbgrader'}" $(NOTEBOOKS)

# The constraints of every installation: plain lines, the version that suits the oldest Python where there are two.
lock: .venv/test.installed
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --upgrade \
		--all-extras --no-header --no-annotate --no-emit-package pgv-helpers pyproject.toml \
		| sed -E 's/ *;.*//' | sort -s -t= -k1,1 -u > requirements.lock.unfinished
	test -s requirements.lock.unfinished
	mv requirements.lock.unfinished requirements.lock

.venv/python.checked:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "This course needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 lab")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/lab.installed: .venv/python.checked pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e .
	@touch $@

.venv/test.installed: .venv/python.checked pyproject.toml requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e ".[test]"
	@touch $@ .venv/lab.installed
