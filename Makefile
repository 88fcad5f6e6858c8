# stillroom: what a newcomer and CI run. `make install` runs again only if the dependencies have changed.
#
# PYTHON    the interpreter that .venv is made with (3.11 or newer)
# DATA      folder with corpus/ and tasks/ for bench-quality; else as benchmarks/quality has it
# PIP_ARGS  passed to pip; on Linux without a GPU: --extra-index-url https://download.pytorch.org/whl/cpu

PYTHON   ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
TORCH    := torch==2.13.0
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
BENCHES  := $(shell grep -l '__name__ == "__main__"' benchmarks/*.py)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all soak lint bench bench-quality clean

help:  ## Show the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

install: $(STAMP)  ## Make .venv and install everything pinned.

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt $(TORCH)
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev,demo]'
	@touch $@

demo: $(STAMP)  ## Compress a real teacher over HTTP, in at most 10 minutes; the next run continues after Ctrl-C.
	@$(BIN)/python demo/run.py

# Four processes, since many tests wait for servers; one thread each, since torch's threads would wait for one another.
PLAIN := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 4 --dist worksteal

test: $(STAMP)  ## The fast lane, at most 10 minutes on 2 cores: in four processes, then the tests that need the machine alone.
	$(PLAIN) -m "not slow and not soak and not alone"
	$(BIN)/python -m pytest -m "alone and not slow and not soak"

test-all: $(STAMP)  ## The slow lane too, at most 60 minutes.
	$(PLAIN) -m "not soak and not alone"
	$(BIN)/python -m pytest -m "alone and not soak"

soak: $(STAMP)  ## Tests that need many repetitions: kills, loads, every moment of a run.
	$(BIN)/python -m pytest -m soak

lint: $(STAMP)  ## ruff, mypy and the import directions.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## Run all benchmarks; a JSON file for each in benchmarks/results/.
	@set -e; for each in $(BENCHES:benchmarks/%.py=%); do echo "== $$each"; $(BIN)/python -m "benchmarks.$$each"; done

bench-quality: $(STAMP)  ## Quality of students on real tasks, at most 2 hours; Ctrl-C and again goes on. DATA: folder of text and tasks.
	@$(BIN)/python -m benchmarks.quality --profile two-cores $(if $(DATA),--data $(DATA))
	@$(BIN)/python -m benchmarks.quality report

clean:  ## Remove caches and the demo's storage; .venv stays.
	rm -rf .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist *.egg-info/__pycache__
	find services workloads cluster tests benchmarks demo -name __pycache__ -type d -prune -exec rm -rf {} +
