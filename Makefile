# `make demo`: the whole pipeline on generated data. `make test`: the tests. Both make .venv first.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# No usage reports.
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help demo test lint bench clean
help:
	@echo "make demo   install, run the pipeline on generated scenes, print the results"
	@echo "make test   install, run the tests (pytest -m slow runs the slow ones)"
	@echo "make lint   ruff and mypy"
	@echo "make bench  install, run the benchmarks (bench.json) on an otherwise idle machine"
	@echo "make clean  remove tool caches; keeps data, models and runs"

$(VENV)/.demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("wssis needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@echo "installing into $(VENV) (about 5 GB, minutes the first time)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.demo
	@start=$$(date +%s); dvc repro && echo && cat report/summary.md && echo && \
	echo "dvc repro took $$(( $$(date +%s) - start )) s. Next:" && \
	echo "  report/index.html    tables and pictures in one file" && \
	echo "  wssis ui             runs, curves and models in MLflow (activate first: . $(VENV)/bin/activate)" && \
	echo "  wssis preset nuclei  another data set; then dvc repro"

# Two tests at a time, one thread each: two threads each would slow both down.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 python -m pytest -n 2

lint: $(VENV)/.dev
	ruff check .
	ruff format --check .
	mypy

bench: $(VENV)/.dev
	python -m benchmarks.suite --out bench.json

clean:
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
