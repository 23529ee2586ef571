"""Each fault that a twin can be planted with is caught by name, through the workflow up to the audit."""

import pandas as pd
import pytest

from .conftest import Checkout

pytestmark = pytest.mark.xdist_group("faults")

SMALL = {
    "dataset": {"subjects": ["subj01"], "sessions": 1, "shared_images": 40},
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
    "evaluation": {"retrieval": {"pools": [10]}, "bootstrap": 50, "permutations": 100},
}
CAUGHT_BY = {
    "statistics-from-test": "statistics-from-training",
    "swapped-direction": "direction-labels",
    "leaked-test-image": "no-test-image-in-training",
    "shuffled-trials": "trial-order",
}
WRITTEN = ("leaked-test-image", "shuffled-trials")  # in the files; the others happen in the analysis


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("faults"))


def audited(copy, name, faults):
    """The audit table of one subject of a twin with these faults; the files serve all that change none."""
    root = f"resources/{name if {*faults} & {*WRITTEN} else 'clean'}"
    dataset = {**SMALL["dataset"], "name": name, "root": root, "faults": faults}
    target = f"results/{name}/evaluation/subj01/audit.parquet"
    path = copy.configure(name, {**SMALL, "dataset": dataset})
    copy.snakemake(target, "--rerun-triggers", "mtime", config=path)
    return pd.read_parquet(copy.folder / target)


@pytest.fixture(scope="module")
def clean(copy):
    return audited(copy, "clean", [])


def test_without_a_fault_no_check_fails(clean):
    assert clean.loc[~clean["passed"], ["check", "detail"]].to_numpy().tolist() == []
    assert set(clean["check"]) >= set(CAUGHT_BY.values())


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.slow if fault in WRITTEN else ()) for fault in CAUGHT_BY]
)
def test_a_planted_fault_fails_its_check(copy, clean, fault):
    audit = audited(copy, fault, [fault])
    failed = set(audit.loc[~audit["passed"], "check"])
    assert CAUGHT_BY[fault] in failed
    if fault not in WRITTEN:  # what is wrong with the data shows in more than one place
        assert failed <= {CAUGHT_BY[fault], "below-limit"}
