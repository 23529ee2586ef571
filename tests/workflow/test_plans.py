"""Dry-runs: every configuration, every target, the cluster profile, and all of NSD."""

import re
import time
from functools import cache

import pytest
import yaml

from percept.backbones import tiny

from .conftest import REPOSITORY, Checkout, job_counts

CONFIGS = sorted(
    str(path.relative_to(REPOSITORY))
    for path in [*REPOSITORY.glob("config/*.yaml"), *REPOSITORY.glob("config/experiments/*.yaml")]
    if path.name != "defaults.yaml"  # documentation: its names are placeholders
)
ALWAYS = {
    "extract_voxels",
    "freeze_split",
    "train_decoder",
    "score_decoders",
    "audit_subject",
    "write_report",
}
# Of one subject, and of all: what makes images, judges them and shows them.
IMAGES = ("score_reconstructions", "draw_sheets")
NSD = "config/nsd.yaml"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A fresh copy with empty files where a lab would have put its own."""
    copy = Checkout(tmp_path_factory.mktemp("plans"))
    for config in CONFIGS:
        settings = yaml.safe_load((copy.folder / config).read_text())
        dataset = settings["dataset"]
        for pool in settings.get("pools", {}).values():
            (copy.folder / pool["images"]).mkdir(parents=True, exist_ok=True)
        if dataset["kind"] == "arrays":
            for part in ("betas", "trials"):
                stand_in = copy.folder / dataset[part]["path"]
                stand_in.parent.mkdir(parents=True, exist_ok=True)
                stand_in.touch()
    return copy


@pytest.fixture(scope="module")
def plan_of(fresh):
    """What `snakemake all` would do with a configuration, as it is printed: each is planned once."""
    return cache(lambda config: fresh.snakemake("all", "-n", config=config).stdout)


def test_the_shipped_configurations_are_found():
    assert {"config/config.yaml", NSD, "config/experiments/tiny.yaml"} <= set(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_configuration_resolves(fresh, plan_of, config):
    plan = job_counts(plan_of(config))
    subjects = yaml.safe_load((fresh.folder / config).read_text())["dataset"]["subjects"]
    assert set(plan) >= ALWAYS
    assert plan["extract_voxels"] == plan["score_decoders"] == plan["audit_subject"] == len(subjects)


@pytest.mark.parametrize("config", CONFIGS)
def test_images_are_made_one_by_one_and_judged_and_drawn_once_per_subject(fresh, plan_of, config):
    settings = yaml.safe_load((fresh.folder / config).read_text())
    plan = job_counts(plan_of(config))
    entries = settings.get("reconstructions", {})
    n, made = len(settings["dataset"]["subjects"]), len(entries)
    chosen = sum(each["generator"]["kind"] == "vote" for each in entries.values())
    assert plan.get("reconstruct_images", 0) == n * (made - chosen)
    assert plan.get("vote_images", 0) == n * bool(chosen)
    assert [plan.get(rule, 0) for rule in IMAGES] == [n * bool(made)] * len(IMAGES)
    assert plan.get("write_gallery", 0) == bool(made)


def test_the_demo_is_what_runs_without_a_configuration(fresh):
    target = "results/twin/report/manifest.json"
    assert fresh.planned(target, config=None) == fresh.planned(target, config="config/config.yaml")


@pytest.mark.parametrize(("decoder", "n"), [("mindeye", 1), ("mindeye_dino", 2)])
def test_a_network_that_begins_with_another_waits_for_it(fresh, decoder, n):
    target = f"results/self-supervision/decoders/subj01/{decoder}/seed-1/predictions.h5"
    assert fresh.planned(target, config="config/experiments/self-supervision.yaml")["train_decoder"] == n


def test_a_gan_of_full_size_is_trained_once_on_a_pool_with_the_errors_of_one_subject(fresh, plan_of):
    config = "config/experiments/mind-reader-nsd.yaml"
    plan, n = job_counts(plan_of(config)), 4
    assert plan["train_gan"] == plan["encode_pool"] == 1 and plan["train_decoder"] == 2 * n
    alone = fresh.planned("results/nsd/gans/lafite/model.safetensors", config=config)
    assert alone["train_gan"] == alone["train_decoder"] == alone["extract_voxels"] == 1
    assert "reconstruct_images" not in alone


def test_no_target_means_all(fresh):
    assert job_counts(fresh.snakemake("-n").stdout) == job_counts(fresh.snakemake("all", "-n").stdout)


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_a_subject_is_a_target_that_asks_nothing_of_the_others_decoders(fresh, subject):
    plan = fresh.planned(subject)
    assert plan["train_decoder"] == 7 and plan["score_decoders"] == plan["audit_subject"] == 1
    assert plan["reconstruct_images"] == 3 and plan["score_reconstructions"] == plan["draw_sheets"] == 1
    assert not {"write_report", "write_gallery"} & set(plan)


def test_a_subject_that_is_not_configured_is_no_target(fresh):
    done = fresh.snakemake("subj03", "-n", check=False)
    assert done.returncode != 0 and "subj03" in done.stdout + done.stderr


@pytest.mark.parametrize("more", [(), ("--configfile", NSD)], ids=["demo", "nsd"])
def test_the_command_for_a_cluster_resolves_as_it_is_typed(fresh, more):
    done = fresh.run("--profile", "slurm", "-n", "all", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = job_counts(done.stdout + done.stderr)
    assert counts["all"] == 1 and counts["extract_voxels"] == (8 if more else 1)


def test_all_of_nsd_is_fewer_than_600_jobs_planned_in_seconds(fresh):
    start = time.perf_counter()
    plan = fresh.planned("all", config=NSD)
    seconds = time.perf_counter() - start
    assert plan["download_session"] == 40 * 4 + 32 * 2 + 30 * 2  # every released session
    assert plan["fetch_annotations"] == plan["download_stimuli"] == 1
    configured = yaml.safe_load((fresh.folder / NSD).read_text())
    n = len(configured["dataset"].get("subjects", range(8)))
    seeds = sum(len(decoder.get("seeds", [0])) for decoder in configured["decoders"].values())
    assert plan["train_decoder"] == n * seeds and plan["encode_target"] == len(configured["targets"])
    assert sum(plan.values()) + 1 < 600  # the budget
    assert seconds < 20  # on a busy machine; the figure of the budget is measured in benchmarks/planning.py


def networks(plan):
    """Published networks among the messages of a plan."""
    return sorted(re.findall(r"^Job \d+: Fetching the weights of (\w+)", plan, re.MULTILINE))


def test_what_fetches_the_networks_of_a_configuration_fetches_no_other_and_nothing_else(fresh, plan_of):
    alone = fresh.snakemake("backbones", "-n", config=NSD).stdout
    counts = job_counts(alone)
    assert set(counts) == {"fetch_backbone", "backbones"} and counts["fetch_backbone"] >= 9
    assert networks(alone) == networks(plan_of(NSD)) and len(networks(alone)) == counts["fetch_backbone"]
    named = (fresh.folder / NSD).read_text()
    assert [name for name in networks(alone) if name not in named] == []


def test_the_demo_fetches_no_network(fresh):
    assert fresh.planned("backbones", config=None) == {}


def test_every_small_network_is_trained_from_scenes_that_are_drawn_once(fresh):
    plan = fresh.planned("tiny_backbones", config=None)
    assert plan == {"draw_tiny_scenes": 2, "train_tiny_backbone": len(tiny.NETWORKS)}


def test_one_subject_of_nsd_needs_the_betas_of_no_other(fresh):
    target = "results/nsd/voxels/subj05/summary.png"
    plan = fresh.planned(target, config=NSD)
    assert plan["download_session"] == 40 and plan["extract_voxels"] == 1
    assert not {"fetch_annotations", "fetch_backbone", "download_stimuli"} & set(plan)
    assert [rule for rule in plan if rule.startswith("download_masks")] == ["download_masks_subj05"]


def test_a_sweep_trains_every_combination_beside_the_decoders_and_tabulates_them_apart(fresh, plan_of):
    config = "config/experiments/voting-1-sweep.yaml"
    plan, written = job_counts(plan_of(config)), yaml.safe_load((fresh.folder / config).read_text())
    assert plan["train_decoder"] == len(written["decoders"]) + 12
    assert plan["tabulate_sweep"] == plan["score_splits"] == plan["score_decoders"] == 1


def test_tables_that_a_configuration_does_not_ask_for_are_not_made(plan_of):
    counts = job_counts(plan_of("config/experiments/tiny.yaml"))
    assert not {"tabulate_splits", "tabulate_sweep", "score_splits", "reconstruct_splits"} & set(counts)
