# Each target works alone on a machine that has only Python and make.
PYTHON ?= python3
BIN := .venv/bin

# What is never imported, most of all packages, is not compiled.
PIP := $(BIN)/pip install --quiet --no-compile

# Tests run side by side, one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal --durations 20

.PHONY: demo test slow check lint types wheel nnunet clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	rm -rf demo
	$(BIN)/medcontext demo --output demo

test: .venv/installed
	$(PYTEST) -m "not slow"

slow: .venv/installed
	$(PYTEST) -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

check:
	$(MAKE) --jobs 3 --output-sync lint types nnunet
	$(MAKE) slow
	$(MAKE) test

# Real nnU-Net beside this environment, not in it: its requirements would bring another torch.
nnunet: .nnunet/installed

.nnunet/installed: .venv/installed constraints-nnunet.txt
	$(PIP) --no-deps --upgrade --target .nnunet --requirement constraints-nnunet.txt
	touch $@

wheel: .venv/installed
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv .nnunet build dist demo src/*.egg-info
