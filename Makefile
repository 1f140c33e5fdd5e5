# From a fresh clone: python3 (3.11 to 3.14) with venv, git and make are enough. No root, no GPU, no data.

SHELL  := /bin/bash
PYTHON ?= python3
BIN    := .venv/bin

.PHONY: help demo install test lint check-format types imports pytest slow results constraints torture bench bench-gpu bench-data picture clean

help:
	@echo "make demo        two tables of the paper in miniature, from nothing to a report"
	@echo "                 FAST=1 for one seed; TORCH_INDEX=ADDRESS for the CPU build of PyTorch (README)"
	@echo "make install     create the environment in .venv"
	@echo "make test        format, lint, types, import contracts, tests"
	@echo "make slow        the tests that take minutes"
	@echo "make torture     200 kills and full disks, and what came of the runs; KILLS=500 for more"
	@echo "make results     regenerate tables, checklist, pages and notebooks from the records in results/"
	@echo "make bench       speed-up over the published algorithm on this CPU"
	@echo "make bench-gpu   the same on a GPU, with any Python that has torch and einops"
	@echo "make bench-data  clips per second and core, beside decoding alone"
	@echo "make picture     redraw the pictures of the README, after make demo"
	@echo "make clean       remove the demo and the caches; the environment stays"

# ------------------------------------------------------------------------------------------------- environment
# Under a lock, since two makes may start at once: the one that waited finds the work done.
define install
	@flock .venv.lock bash -ec ' \
	  if [ $@ -nt pyproject.toml ] && [ $@ -nt constraints.txt ]; then exit 0; fi; \
	  echo "installing the environment into .venv (once, a few minutes)"; \
	  $(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))" || \
	    { echo "Python 3.11 to 3.14 is needed, $(PYTHON) is $$($(PYTHON) --version); try: make PYTHON=python3.13 ..."; exit 1; }; \
	  [ -x $(BIN)/pip ] || $(PYTHON) -m venv .venv; \
	  [ -z "$(TORCH_INDEX)" ] || $(BIN)/pip install --quiet --disable-pip-version-check --index-url "$(TORCH_INDEX)" \
	    $$(grep ^torch== constraints.txt); \
	  $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable "$(1)"; \
	  touch $@'
endef

.venv/.core: pyproject.toml constraints.txt
	$(call install,.)

install: .venv/.core

.venv/.test: pyproject.toml constraints.txt | .venv/.core
	$(call install,.[test])

# ------------------------------------------------------------------------------------------------------- demo
# Folders of its own, so that it trains even where records are committed.
demo: export VSWIN_RUNS := $(CURDIR)/demo/runs
demo: export VSWIN_RESULTS := $(CURDIR)/demo/results
demo: export VSWIN_DATA := $(CURDIR)/demo/data
demo: export MLFLOW_TRACKING_URI :=
demo: .venv/.core
	@$(BIN)/vswin data generate
	@$(BIN)/vswin launch table4 table6 baselines/space-only --scale mini --seeds $(if $(FAST),1,2)
	@$(BIN)/vswin collect --scale mini
	@$(BIN)/vswin tables table4 table6 --scale mini
	@echo
	@$(BIN)/vswin report --scale mini
	@echo
	@echo "What to open next"
	@echo "  the address above                                everything measured, on one page"
	@echo "  demo/results/mini/tables/table4.md               a table, as Markdown (also .csv, .tex and .html)"
	@echo "  VSWIN_RUNS=demo/runs $(BIN)/vswin ui table4   every curve and parameter, in the MLflow UI"
	@echo "  $(BIN)/vswin show table4/split                what a variant is, and how to run it"

# ------------------------------------------------------------------------------------------------------ checks
test: check-format lint types imports pytest

check-format: .venv/.test
	@$(BIN)/ruff format --check --quiet .

lint: .venv/.test
	@$(BIN)/ruff check --quiet .

types: .venv/.test
	@$(BIN)/mypy

imports: .venv/.test
	@$(BIN)/lint-imports

pytest: .venv/.test
	@$(BIN)/pytest -m "not slow" -n auto

slow: .venv/.test
	@$(BIN)/pytest -m slow --timeout 1200

# Not a test: the figures of a night are kept under results/torture.
KILLS ?= 200
torture: .venv/.core
	@$(BIN)/python -m experiments.tools.torture --kills $(KILLS)

# The environment of record, from the newest versions that pyproject.toml admits. torch is pinned by hand: the
# newest one would bring several GB of CUDA to machines that have no GPU.
constraints: .venv/.test
	@{ head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/'; } > constraints.new
	@mv constraints.new constraints.txt

# ----------------------------------------------------------------------------------------------------- results
results: .venv/.core
	@$(BIN)/python -m experiments.tools.regenerate

# -------------------------------------------------------------------------------------------------- benchmarks
bench: .venv/.core
	@$(BIN)/python -m vswin.bench.model
	@$(BIN)/python -m experiments.tools.bench
	@$(BIN)/python -m experiments.tools.bench_tables

# No environment is made: a GPU machine brings its own torch.
bench-gpu:
	@PYTHONPATH=. $(PYTHON) -m vswin.bench.model --device cuda

bench-data: .venv/.core
	@$(BIN)/python -m vswin.bench.data

# The README's pictures, from the committed records and notebooks and from what `make demo` has trained; needs
# Chromium.
picture: .venv/.test
	@$(BIN)/python -m tests.support.mlflow_pages table6 results/pictures/mlflow-table6.png
	@VSWIN_RUNS=$(CURDIR)/demo/runs $(BIN)/python -m tests.support.status_picture \
	  results/pictures/status.svg status table4 table6 --seeds 2
	@$(BIN)/python -m tests.support.notebook_picture notebooks/2_ablations.ipynb results/pictures/notebook.png

clean:
	rm -rf demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
