# Each command does its own set-up: it makes .venv and installs what it needs there, once, and again when pyproject.toml changes.
#
#   make demo        segment, measure and draw a real 3D image, into bigbia-demo/
#   make test        the tests, without the slow ones
#   make test-all    all of them
#   make faults      the fault tests
#   make bench       the benchmarks, four hours (make bench BENCH=main_job ARGS="--size 256" for one)
#   make lint        ruff and mypy
#   make clean       remove .venv
#
# Needs Python 3.11.1 or newer. Another one, or another place: make test PYTHON=python3.12 VENV=/tmp/venv
# More for the command: make test ARGS="-k gaussian"

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BENCH ?= main_job graphs scaling labels label_scale watershed operators stream contract memory blocks faults convert batch

BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: help demo test test-all faults bench lint clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(INSTALLED)-demo
	$(BIN)/bigbia demo bigbia-demo --overwrite $(ARGS)

test: $(INSTALLED)-test
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 4 --dist loadscope $(ARGS)

test-all: $(INSTALLED)-test
	$(BIN)/python -m pytest $(ARGS)

# pytest ends with 5 where no test has the mark.
faults: $(INSTALLED)-test
	@status=0; $(BIN)/python -m pytest -m faults $(ARGS) || status=$$?; \
	if [ $$status -eq 5 ]; then echo "there are no fault tests yet"; else exit $$status; fi

bench: $(INSTALLED)-bench
	@set -e; for name in $(BENCH); do echo "== benchmarks/$$name.py"; $(BIN)/python benchmarks/$$name.py $(ARGS); done

lint: $(INSTALLED)-dev
	@status=0; $(BIN)/ruff check . || status=1; $(BIN)/mypy || status=1; exit $$status

clean:
	@if [ -f "$(VENV)/pyvenv.cfg" ]; then rm -rf -- "$(VENV)"; fi

# .venv/.installed-test: the package and its extra [test] are installed, as pyproject.toml says now.
$(INSTALLED)-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 1) and "bigbia needs Python 3.11.1 or newer, this is %d.%d.%d: make PYTHON=python3.12 ..." % sys.version_info[:3])'
	$(PYTHON) -m venv "$(VENV)"
