"""A run that is killed goes on where it was, and ends as if nothing had happened."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.xdist_group("killed")

SMALL = {
    "dataset": {"name": "killed", "root": "resources/killed", "subjects": ["subj01"], "sessions": 1},
    "targets": {"pixels": None, "clip": None, "tokens": None, "latents": None},
    "decoders": {
        "ridge_pixels": None,
        "ridge_clip": None,
        "ridge_latents": None,
        "mindeye": None,
        "mindeye_lowlevel": None,
        "ridge_truth": {"seeds": [0]},
    },
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


def kill_when(copy, path, pattern, wait_s=0.0, target="all"):
    """Start the workflow, and kill it with all of its jobs some time after a file or folder has appeared."""
    command = [sys.executable, "-m", "snakemake", target, "--cores", "2", "--rerun-incomplete"]
    with (copy.folder / "killed.log").open("w") as log:
        run = subprocess.Popen(
            [*command, "--configfile", path], cwd=copy.folder, env=copy.environment, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 200
        while not any(copy.folder.glob(pattern)):
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


# Features and images are made in batches, so small here that a job is sure to be killed between two of them.
IMAGES = {
    "dataset": {"name": "images", "root": "resources/images", "subjects": ["subj01"], "sessions": 1},
    "targets": {"pixels": None, "truth": None, "tokens": None, "latents": None, "clip": {"batch_size": 8}},
    "decoders": {
        "ridge_pixels": None,
        "ridge_truth": None,
        "ridge_latents": None,
        "mindeye": None,
        "mindeye_lowlevel": None,
    },
    "reconstructions": {
        "linear": None,
        "mindeye": None,
        "unclip": {"lowlevel": None, "generator": {"lowlevel_backbone": None, "steps": 2, "batch_size": 5}},
    },
}
FEATURES, MADE = "results/images/targets/clip", "results/images/generators/subj01/unclip"
TARGET = f"{MADE}/images.h5"
WORK = "work"
STAGES = {  # what is seen of a stage that is under way: the output that it has not made then
    f"{FEATURES}/shards/*.partial": f"{FEATURES}/index.json",
    f"{MADE}/{WORK}/images/batch-00002.h5": TARGET,
}


def contents(folder):
    """Bytes of every file of the features and of the images."""
    paths = [path for part in (FEATURES, MADE) for path in sorted((folder / part).rglob("*"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def furthest(found, expected):
    """Largest difference between two files of images, in levels of grey, over all that they hold."""
    with h5py.File(io.BytesIO(found)) as one, h5py.File(io.BytesIO(expected)) as other:
        assert one.keys() == other.keys() and dict(one.attrs) == dict(other.attrs)
        assert [(one[name].shape, one[name].dtype) for name in one] == [
            (other[name].shape, other[name].dtype) for name in one
        ]
        return max(np.abs(one[name][:].astype(int) - other[name][:]).max() for name in one)


def test_features_and_images_of_a_killed_job_are_those_of_one_that_was_not(tmp_path):
    copy = Checkout(tmp_path)
    path = copy.configure("images", IMAGES)
    copy.snakemake(TARGET, config=path)
    expected = contents(copy.folder)
    assert {FEATURES + "/index.json", TARGET} <= set(expected)
    for part in (FEATURES, MADE):
        shutil.rmtree(copy.folder / part)

    for seen, output in STAGES.items():
        kill_when(copy, path, seen, target=TARGET)
        assert not (copy.folder / output).exists()
        copy.snakemake("--unlock", config=path)
    kept = {name: (copy.folder / name).stat().st_mtime_ns for name in contents(copy.folder) if "work" in name}
    assert len(kept) >= 3

    copy.snakemake(TARGET, "--rerun-incomplete", config=path)

    found = contents(copy.folder)
    assert found.keys() == expected.keys()
    differing = [name for name in expected if found[name] != expected[name]]
    others = [name for name in differing if not name.endswith(".h5")]
    # HDF5 leaves bytes between its parts as they are: what such a file holds has to be the same, to the bit
    assert others == [] and all(furthest(found[name], expected[name]) == 0 for name in differing)
    log = (copy.folder / "logs/images/generators/subj01/unclip/reconstruct_images.log").read_text()
    assert "batches were there already" in log
