"""A run that is killed goes on where it was, and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.xdist_group("killed")

SMALL = {
    "dataset": {"name": "killed", "root": "resources/killed", "subjects": ["subj01"], "sessions": 1},
    "targets": {"pixels": None},
    "decoders": {"ridge_pixels": None, "ridge_truth": {"seeds": [0]}},
    "reconstructions": None,
    "evaluation": {"bootstrap": 50, "permutations": 50},
}
RESULTS = Path("results/killed")
# When the whole group of processes is killed: as soon as a file of this stage is being made, plus some time.
MOMENTS = [
    ("resources/killed/nsddata_stimuli", 0.0),
    ("results/killed/voxels", 0.3),
    ("results/killed/decoders", 2.0),
]


def results(folder):
    """The long table in an order of its own, and the text of the wide one."""
    long = pd.read_parquet(folder / RESULTS / "report/results.parquet").astype(str)
    columns = sorted(long.columns)
    return long[columns].sort_values(columns).reset_index(drop=True), (
        folder / RESULTS / "report/results.csv"
    ).read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    copy = Checkout(tmp_path_factory.mktemp("whole"))
    copy.snakemake("all", config=copy.configure("killed", SMALL))
    return results(copy.folder)


def kill_when(copy, path, folder, wait_s):
    """Start the workflow, and kill it with all of its jobs some time after `folder` has appeared."""
    command = [sys.executable, "-m", "snakemake", "all", "--cores", "2", "--rerun-incomplete"]
    with (copy.folder / "killed.log").open("w") as log:
        run = subprocess.Popen(
            [*command, "--configfile", path], cwd=copy.folder, env=copy.environment, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 200
        while not (copy.folder / folder).exists():
            assert run.poll() is None and time.monotonic() < deadline, (
                copy.folder / "killed.log"
            ).read_text()
            time.sleep(0.02)
        time.sleep(wait_s)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert run.returncode == -signal.SIGKILL


def test_a_run_killed_again_and_again_ends_as_the_uninterrupted_one(uninterrupted, tmp_path):
    copy = Checkout(tmp_path)
    path = copy.configure("killed", SMALL)
    for folder, wait_s in MOMENTS:
        kill_when(copy, path, folder, wait_s + np.random.default_rng().uniform(0, 1))
        copy.snakemake("--unlock", config=path)  # as Snakemake asks for: a killed run leaves its lock

    copy.snakemake("all", "--rerun-incomplete", config=path)

    long, wide = results(copy.folder)
    pd.testing.assert_frame_equal(long, uninterrupted[0])
    assert wide == uninterrupted[1]
    assert copy.planned("all", config=path) == {}
    temporary = [str(p) for p in (copy.folder / RESULTS).rglob(".*")]
    temporary += [str(p) for p in (copy.folder / "resources/killed").rglob(".*")]
    assert [name for name in temporary if ".snakemake" not in name] == []
