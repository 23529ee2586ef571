"""Running the real workflow in a folder of its own."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
TINY = "config/experiments/tiny.yaml"
NOTHING = "Nothing to be done"


def tracked_files():
    """Files of the checkout that git would take along: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (REPOSITORY / name).exists()]


def merged(settings, changes):
    """Settings with some replaced, section by section; None takes an entry out."""
    settings = deepcopy(settings)
    for key, value in changes.items():
        if value is None:
            settings.pop(key, None)
        elif isinstance(value, dict) and isinstance(settings.get(key), dict):
            settings[key] = merged(settings[key], value)
        else:
            settings[key] = value
    return settings


def job_counts(printed):
    """Rule -> number of jobs, from the table "Job stats:" that a dry-run prints; {} if nothing is due."""
    if NOTHING in printed:
        return {}
    table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)\n\n", printed, re.DOTALL | re.MULTILINE)
    assert table, f"neither a table of jobs nor {NOTHING!r} in\n{printed}"
    rows = [line.split() for line in table[1].splitlines()]
    counts = {name: int(n) for name, n in rows}
    total = counts.pop("total")
    assert total == sum(counts.values())
    return counts


class Checkout:
    """A copy of the repository, of all `files` unless some are named, in which the workflow is run."""

    def __init__(self, folder, files=None):
        self.folder = folder
        for name in tracked_files() if files is None else files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name, follow_symlinks=False)

    @classmethod
    def of(cls, other, folder):
        """A copy of another one with all that it has made, and the times of its files."""
        shutil.copytree(other.folder, folder, symlinks=True)
        return cls(folder, files=())

    @property
    def environment(self):
        return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def run(self, *arguments):
        """Run `snakemake` with just these arguments; the finished process, its output as text."""
        return subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )

    def snakemake(self, *arguments, config=TINY, check=True):
        """Run Snakemake on two cores and a configuration, which comes last: it takes names that follow it."""
        done = self.run(*arguments, "--cores", "2", *(["--configfile", config] if config else []))
        assert not check or done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
        return done

    def planned(self, *arguments, config=TINY):
        """Rules that a command would run now, with how many jobs of each; {} if there is nothing to do.

        The target itself (`all`, a subject) only gathers files and is left out.
        """
        plan = self.snakemake(*arguments, "-n", config=config)
        return {rule: n for rule, n in job_counts(plan.stdout + plan.stderr).items() if rule != arguments[0]}

    def configure(self, name, changes, base=TINY):
        """Write a configuration that differs from `base` in some settings; its path."""
        settings = merged(yaml.safe_load((self.folder / base).read_text()), changes)
        path = f"config/experiments/{name}.yaml"
        (self.folder / path).write_text(yaml.safe_dump(settings, sort_keys=False))
        return path

    @contextmanager
    def edited(self, path, old, new):
        """Replace a text in a file for a while."""
        path = self.folder / path
        before = path.read_text()
        assert before.count(old) >= 1, f"no {old!r} in {path}"
        path.write_text(before.replace(old, new, 1))
        try:
            yield path
        finally:
            path.write_text(before)

    def files(self, *folders):
        """Files below folders, with when each was written and how long it is."""
        found = {}
        for folder in folders:
            for path in sorted((self.folder / folder).rglob("*")):
                if path.is_file():
                    found[str(path.relative_to(self.folder))] = (path.stat().st_mtime_ns, path.stat().st_size)
        return found


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A fresh copy, nothing run in it yet; tests may plan in it, not run or edit."""
    return Checkout(tmp_path_factory.mktemp("fresh"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A copy in which everything was made once, from the smallest twin; tests put back what they change.

    Tests that use it carry `pytest.mark.xdist_group("finished")`, so that it is made once.
    """
    done = Checkout(tmp_path_factory.mktemp("finished"))
    done.snakemake("all")
    return done
