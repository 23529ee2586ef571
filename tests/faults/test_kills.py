"""Jobs of the demo, killed at random moments, as many as `PERCEPT_KILLS` says (50); then tables are the same.

The same seed (`PERCEPT_KILLS_SEED`) gives the same draws, although not the same moments in the life of a job.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.workflow.conftest import Checkout

pytestmark = [pytest.mark.faults, pytest.mark.timeout(4 * 3600), pytest.mark.xdist_group("kills")]

DEMO = None  # the configuration that is used where none is named
RESULTS = Path("results/twin")
KILLS = int(os.environ.get("PERCEPT_KILLS", "50"))
SEED = int(os.environ.get("PERCEPT_KILLS_SEED", "20261129"))
LATEST_S = 15.0  # after a job was first seen; most last longer, and the others are met in their first seconds
FORGOTTEN = 6  # kinds of files
PASSING = 8  # jobs of a run, at most, that begin before the one that is killed


def tables(copy):
    """Every table of scores and of the report, as bytes."""
    parts = (copy.folder / RESULTS / part for part in ("evaluation", "interpretation", "report"))
    found = [
        path for part in parts for path in sorted(part.rglob("*")) if path.suffix in (".parquet", ".csv")
    ]
    return {str(path.relative_to(copy.folder)): path.read_bytes() for path in found}


def jobs(run):
    """Processes of a run that run a script of the workflow, with the name of the script."""
    found = []
    try:
        for process in psutil.Process(run.pid).children(recursive=True):
            try:
                program, *given = process.cmdline() or [""]
            except psutil.Error:
                continue
            scripts = [part for part in given if "/scripts/tmp" in part]
            if scripts and Path(program).name.startswith("python"):  # not the shell around it
                found.append((process, scripts[0].rsplit(".", 2)[-2]))
    except psutil.NoSuchProcess:
        pass
    return found


def start(copy):
    command = [sys.executable, "-m", "snakemake", "all", "--cores", "2", "--rerun-incomplete"]
    with (copy.folder / "kills.log").open("a") as log:
        return subprocess.Popen(command, cwd=copy.folder, env=copy.environment, stdout=log, stderr=log)


def kill_one(run, rng, killed):
    """Kill a job some time after it was seen, when some have passed; one whose rule was killed least.

    False: the run ended first.
    """
    passing, due = rng.integers(PASSING + 1), {}
    while run.poll() is None:
        now, there = time.monotonic(), jobs(run)
        for process, _ in there:
            due.setdefault(process.pid, now + rng.uniform(0, LATEST_S))
        late = list(due)[passing:]
        found = [(one, rule) for one, rule in there if one.pid in late and now >= due[one.pid]]
        if found:
            process, rule = min(found, key=lambda one: killed[one[1]])
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
            killed[rule] += 1
            return True
        time.sleep(0.02)
    return False


def outputs(copy):
    """What the workflow declares and has made: Snakemake would notice that it is gone."""
    listed = copy.snakemake("all", "--summary", config=DEMO).stdout.splitlines()[1:]
    return [path for line in listed if (path := copy.folder / line.split("\t")[0]).is_file()]


def forget_some(made, rng):
    """Take results away when all are there, so that there are jobs to kill: one each of some kinds."""
    kinds = {}
    for path in made:
        kinds.setdefault((path.name, path.parts[-3]), []).append(path)
    for at in rng.choice(len(kinds), FORGOTTEN, replace=False):
        list(kinds.values())[at][0].unlink(missing_ok=True)


def test_after_many_kills_the_tables_are_those_of_an_undisturbed_run(tmp_path):
    whole, copy = (Checkout(tmp_path / name) for name in ("whole", "killed") if not (tmp_path / name).mkdir())
    whole.snakemake("all", config=DEMO)
    expected, made = tables(whole), [path.relative_to(whole.folder) for path in outputs(whole)]
    rng, killed, n_runs, started = np.random.default_rng(SEED), Counter(), 0, time.monotonic()
    while killed.total() < KILLS:
        run, before = start(copy), killed.total()
        n_runs += 1
        while killed.total() < KILLS and kill_one(run, rng, killed):
            pass
        returned = run.wait()
        assert returned == 0 or killed.total() > before, (copy.folder / "kills.log").read_text()[-5000:]
        if returned == 0:
            forget_some([copy.folder / path for path in made], rng)
    copy.snakemake("all", "--rerun-incomplete", config=DEMO)

    minutes = (time.monotonic() - started) / 60
    print(
        f"\n{killed.total()} jobs of {len(killed)} rules killed in {n_runs} runs and {minutes:.0f} minutes:"
    )
    print(", ".join(f"{rule} {n}" for rule, n in sorted(killed.items())))
    found = tables(copy)
    assert found.keys() == expected.keys() and len(expected) > 5
    assert [name for name in expected if found[name] != expected[name]] == []
    assert copy.planned("all", config=DEMO) == {}
