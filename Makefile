# Every target makes .venv first if it is missing. PYTHON may name any interpreter from 3.11 on.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin

.PHONY: setup demo demo-real week test lint types

setup: $(VENV)/.train
demo: $(VENV)/.train
	$(RUN)/drift demo
demo-real: $(VENV)/.train
	$(RUN)/drift demo --real
week: $(VENV)/.train
	$(RUN)/python benchmarks/week.py --json
# Some tests start processes: with byte code kept, only the first of them compiles what it imports.
test: $(VENV)/.dev lint types
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
lint: $(VENV)/.dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
types: $(VENV)/.dev
	$(RUN)/pyright

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "DRIFT needs Python 3.11 or newer; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@
$(VENV)/.train: $(VENV)/.python pyproject.toml constraints.txt
	$(RUN)/pip install --quiet -c constraints.txt -e '.[train]'
	touch $@
$(VENV)/.dev: $(VENV)/.train
	$(RUN)/pip install --quiet -c constraints.txt -e '.[train,dev]'
	touch $@
