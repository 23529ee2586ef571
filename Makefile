# Both targets set everything up by themselves in .venv; nothing is installed anywhere else.
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all

.PHONY: demo test test-slow test-faults lint install clean

demo: .venv/.installed
	$(BIN)/snakemake --cores $(CORES) all
	@echo "Open results/twin/report/index.html"

test: .venv/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What takes minutes: full-size arrays, the whole demo, benchmarks at their real size.
test-slow: .venv/.installed-dev
	$(BIN)/python -m pytest -m slow

# Damaged files, kills, full and closed disks, locks, clocks: about half an hour on two quiet cores.
test-faults: .venv/.installed-dev
	$(BIN)/python -m pytest -s -m "not slow" tests/faults

lint: .venv/.installed-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/lint-imports
	$(BIN)/snakemake --lint

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf results/twin logs/twin resources/twin .snakemake
