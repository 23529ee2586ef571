"""The environment of every rule, made of nothing but its list of packages, and the demo run in them."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pandas as pd
import pytest

from tests.environments import conda
from tests.unit.source import normal
from tests.workflow.conftest import REPOSITORY, Checkout, job_counts

DEMO = "config/config.yaml"
FILES = sorted((REPOSITORY / "envs").glob("*.yaml"))
CONDA = ("--software-deployment-method", "conda")


@pytest.fixture
def with_conda(tmp_path, monkeypatch):
    """A checkout in which `conda` is the stand-in, which downloads."""
    for name, value in conda.install(tmp_path / "conda").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "run").mkdir()
    return Checkout(tmp_path / "run")


def test_planning_with_conda_names_the_environment_of_every_rule(with_conda):
    plan = with_conda.run("--sdm", "conda", "-n", "all")
    printed = plan.stdout + plan.stderr
    assert plan.returncode == 0, printed
    for path in FILES:
        assert f"Conda environment envs/{path.name} will be created" in printed
    assert sum(job_counts(printed).values()) > 50


def test_conda_changes_no_plan(with_conda):
    with_it = with_conda.run("all", "-n", *CONDA)
    without = with_conda.run("all", "-n")
    assert job_counts(with_it.stdout + with_it.stderr) == job_counts(without.stdout + without.stderr)


def test_every_rule_that_computes_has_an_environment(with_conda):
    plan = with_conda.run("--containerize")
    assert plan.returncode == 0, plan.stderr
    for path in FILES:
        assert f"COPY envs/{path.name} " in plan.stdout


def distributions(python):
    """Packages that an environment holds, by their normal names."""
    command = [python, "-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {normal(line.partition("==")[0]) for line in found.splitlines()}


def imports(python, module):
    """What importing a module says in an environment whose search path goes on into that of these tests."""
    foreign = sysconfig.get_path("purelib")
    code = f"import sys; sys.path.append({foreign!r}); import {module}"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stderr


@pytest.mark.environments
@pytest.mark.timeout(2 * 3600)
def test_every_rule_of_the_demo_runs_in_its_own_environment(with_conda):
    """Environments of 7 GB are downloaded; then the demo, each job in the one that its rule names.

    SNAKEMAKE_CONDA_PREFIX, a folder that keeps them, saves the next download.
    """
    run(with_conda, "all", "--cores", "2", *CONDA)
    made = {path.read_text(): path.with_suffix("") for path in folder(with_conda).glob("*.yaml")}
    assert made.keys() == {path.read_text() for path in FILES}

    audit = pd.concat(map(pd.read_parquet, (with_conda.folder / "results/twin").rglob("audit.parquet")))
    assert len(audit) > 100 and audit["passed"].all()
    again = with_conda.run("all", "-n", "--cores", "2", *CONDA)
    assert "Nothing to be done" in again.stdout + again.stderr

    for path in FILES:
        python = made[path.read_text()] / "bin/python"
        holds = distributions(python)
        assert {normal(name) for name in conda.listed(path)} - {"python"} <= holds
        assert holds.isdisjoint({"percept", "snakemake"})
    data = made[(REPOSITORY / "envs/data.yaml").read_text()] / "bin/python"
    assert "No module named 'torch'" in imports(data, "torch")
    assert imports(data, "nibabel") == ""


def folder(copy):
    return Path(os.environ.get("SNAKEMAKE_CONDA_PREFIX", copy.folder / ".snakemake/conda"))


def run(copy, *arguments):
    """Run the workflow for as long as it takes, and show what it says if it fails."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    log = Path(copy.folder / "environments.log")
    with log.open("w") as stream:
        done = subprocess.run(command, cwd=copy.folder, env=copy.environment, stdout=stream, stderr=stream)
    assert done.returncode == 0, log.read_text()[-20_000:]
