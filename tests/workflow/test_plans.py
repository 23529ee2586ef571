"""Dry-runs: every configuration, every target, the cluster profile, and all of NSD."""

import time

import pytest
import yaml

from .conftest import REPOSITORY, Checkout, job_counts

CONFIGS = sorted(
    str(path.relative_to(REPOSITORY))
    for path in [*REPOSITORY.glob("config/*.yaml"), *REPOSITORY.glob("config/experiments/*.yaml")]
    if path.name != "defaults.yaml"  # documentation: its names are placeholders
)
ALWAYS = {"extract_voxels", "freeze_split", "train_decoder", "score_decoder", "audit_subject", "write_report"}
NSD = "config/nsd.yaml"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A fresh copy with empty files where a lab would have put its own."""
    copy = Checkout(tmp_path_factory.mktemp("plans"))
    for config in CONFIGS:
        dataset = yaml.safe_load((copy.folder / config).read_text())["dataset"]
        if dataset["kind"] == "arrays":
            for part in ("betas", "trials"):
                stand_in = copy.folder / dataset[part]["path"]
                stand_in.parent.mkdir(parents=True, exist_ok=True)
                stand_in.touch()
    return copy


def test_the_shipped_configurations_are_found():
    assert {"config/config.yaml", NSD, "config/experiments/tiny.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_resolves(fresh, config):
    plan = fresh.planned("all", config=config)
    subjects = yaml.safe_load((fresh.folder / config).read_text())["dataset"]["subjects"]
    assert set(plan) >= ALWAYS
    assert plan["extract_voxels"] == plan["audit_subject"] == len(subjects)


def test_the_demo_is_what_runs_without_a_configuration(fresh):
    target = "results/twin/report/manifest.json"
    assert fresh.planned(target, config=None) == fresh.planned(target, config="config/config.yaml")


def test_no_target_means_all(fresh):
    assert job_counts(fresh.snakemake("-n").stdout) == job_counts(fresh.snakemake("all", "-n").stdout)


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_a_subject_is_a_target_that_asks_nothing_of_the_others_decoders(fresh, subject):
    plan = fresh.planned(subject)
    assert plan["train_decoder"] == 3 and plan["score_decoder"] == 3 and plan["audit_subject"] == 1
    assert "write_report" not in plan


def test_a_subject_that_is_not_configured_is_no_target(fresh):
    done = fresh.snakemake("subj03", "-n", check=False)
    assert done.returncode != 0 and "subj03" in done.stdout + done.stderr


@pytest.mark.parametrize("more", [(), ("--configfile", NSD)], ids=["demo", "nsd"])
def test_the_command_for_a_cluster_resolves_as_it_is_typed(fresh, more):
    done = fresh.run("--profile", "slurm", "-n", "all", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = job_counts(done.stdout + done.stderr)
    assert counts["all"] == 1 and counts["extract_voxels"] == (8 if more else 2)


def test_all_of_nsd_is_a_few_hundred_jobs_planned_in_seconds(fresh):
    start = time.perf_counter()
    plan = fresh.planned("all", config=NSD)
    seconds = time.perf_counter() - start
    assert plan["download_session"] == 40 * 4 + 32 * 2 + 30 * 2  # every released session
    assert sum(plan.values()) + 1 < 600
    assert seconds < 20  # on a busy machine; the figure of the budget is measured in benchmarks/planning.py


def test_one_subject_of_nsd_needs_the_betas_of_no_other(fresh):
    target = "results/nsd/voxels/subj05/summary.png"
    plan = fresh.planned(target, config=NSD)
    assert plan["download_session"] == 40 and plan["extract_voxels"] == 1
    assert [rule for rule in plan if rule.startswith("download_masks")] == ["download_masks_subj05"]
