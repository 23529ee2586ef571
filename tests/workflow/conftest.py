"""Running the real workflow in a folder of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TINY = "config/experiments/tiny.yaml"


def tracked_files():
    """Files of the checkout that git would take along: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()]


class Checkout:
    """A copy of the repository in which the workflow is run."""

    def __init__(self, folder):
        self.folder = folder
        for name in tracked_files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name, follow_symlinks=False)

    def snakemake(self, *arguments, config=TINY, check=True):
        """Run Snakemake on a configuration; the finished process, its output as text."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2"]
        if config:
            command += ["--configfile", config]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def planned(self, *arguments, config=TINY):
        """Names of the rules that a command would run, with how often."""
        plan = self.snakemake(*arguments, "-n", "--quiet", "progress", config=config)
        lines = (plan.stdout + plan.stderr).splitlines()
        counted = [line.split() for line in lines]
        return {
            row[0]: int(row[1]) for row in counted if len(row) == 2 and row[1].isdigit() and row[0] != "total"
        }


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A fresh copy, nothing run in it yet; tests may plan in it, not run or edit."""
    return Checkout(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy in which everything was made once, from the smallest twin; tests put back what they change."""
    done = Checkout(tmp_path_factory.mktemp("finished"))
    done.snakemake("all")
    return done
