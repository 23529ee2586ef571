# Both targets set everything up by themselves in .venv; nothing is installed anywhere else.
PYTHON ?= python3
BIN := .venv/bin
CORES ?= all

.PHONY: demo test test-slow test-slurm test-faults test-environments lint install clean

# While jobs wait, Snakemake weighs all of them anew once per such timespan: at its default of one second, a twentieth
# of two cores.
demo: .venv/.installed
	$(BIN)/snakemake --cores $(CORES) all --max-jobs-per-timespan 100/10s
	@echo "Open results/twin/report/index.html"

test: .venv/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# What takes minutes: full-size arrays, the whole demo, benchmarks at their real size.
test-slow: .venv/.installed-dev
	$(BIN)/python -m pytest -m slow

# On a Slurm cluster of one node, started for it and stopped after; as root, for the devices that stand in for GPUs.
SLURM := slurmctld slurmd slurm-client slurmdbd munge mariadb-server
test-slurm: .venv/.installed-dev
	dpkg --status $(SLURM) >/dev/null 2>&1 || { apt-get update && apt-get install --yes --no-install-recommends $(SLURM); }
	$(BIN)/python -m pytest -m slurm

# Damaged files, kills, full and closed disks, locks, clocks.
test-faults: .venv/.installed-dev
	$(BIN)/python -m pytest -s -m "not slow" tests/faults

# An environment per file of envs/, downloaded anew (7 GB), and the demo in them.
test-environments: .venv/.installed-dev
	$(BIN)/python -m pytest -m environments tests/environments

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
