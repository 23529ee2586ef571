"""What the rules ask for, and what a change of the configuration makes anew; nothing runs."""

import inspect
import re
from copy import deepcopy
from types import SimpleNamespace

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

from percept.backbones import catalogue, store
from tests.unit.source import REPOSITORY

RIDGE = {"kind": "ridge", "target": "clip"}
NEAREST = {"kind": "nearest"}
SPLITS = {"images": 7, "network": "tiny_clip"}
SETTINGS = {
    "dataset": {"kind": "twin", "subjects": ["subj01"]},
    "targets": {"clip": {"kind": "clip_image", "backbone": "tiny_clip"}},
    "decoders": {"fitted": {**RIDGE, "fitted": True}, "plain": RIDGE},
    "evaluation": {"images": {"networks": ["tiny_clip"]}, "latents": {"decoders": ["plain"]}},
    "reconstructions": {
        "near": {"semantic": "fitted", "splits": SPLITS, "generator": NEAREST},
        "other": {"semantic": "plain", "generator": NEAREST},
        "vote": {
            "generator": {"kind": "vote", "of": ["near", "other"], "rule": "random", "network": "tiny_clip"}
        },
    },
    "interpretation": {
        "leave_one_out": {
            "one": {"decoder": "fitted", "images": {"reconstruction": "near", "network": "tiny_clip"}}
        }
    },
}
ALGONAUTS = {"kind": "algonauts", "root": "challenge", "simulate": {}, "subjects": ["subj01"]}
NEAR = SimpleNamespace(
    subject="subj01", reconstruction="near", target="clip", decoder="fitted", seed="0", encoding="model"
)


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """The names that the rules define under a configuration, and `every` rule by its name.

    Snakemake keeps one set of such names per process: ask what is wanted of one plan before the next is made.
    """
    monkeypatch.chdir(tmp_path)

    def plan(settings):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        with SnakemakeApi() as api:
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=[tmp_path / "config.yaml"]),
                snakefile=REPOSITORY / "Snakefile",
            )._workflow
            return SimpleNamespace(**workflow.globals, every={rule.name: rule for rule in workflow.rules})

    return plan


def changed(path, value):
    """The settings with one of them replaced, `a.b.c`."""
    made = deepcopy(SETTINGS)
    *parents, last = path.split(".")
    here = made
    for key in parents:
        here = here.setdefault(key, {})
    here[last] = value
    return made


def params(plan, rule):
    """What a rule passes to its script about `near`."""
    given = dict(plan.every[rule].params)
    return {key: value(NEAR) if callable(value) else value for key, value in given.items() if key != "code"}


def test_decoders_of_a_sweep_do_not_shift_the_names_of_the_others(planned):
    plan = planned(changed("sweeps.wide", {"decoder": "plain", "roi": ["V1", "nsdgeneral"]}))
    assert [about["name"] for about, _ in plan.latent_runs(NEAR)] == ["plain"]


@pytest.mark.parametrize("value", [None, {**SPLITS, "images": 9}, {**SPLITS, "device": "cpu"}])
def test_how_other_splits_are_shown_makes_no_image_of_a_test_stimulus_anew(planned, value):
    rules = ("reconstruct_images", "vote_images", "leave_voxels_out")
    plans = SETTINGS, changed("reconstructions.near.splits", value)
    before, after = ([params(plan, rule) for rule in rules] for plan in map(planned, plans))
    assert before == after


@pytest.mark.parametrize(("key", "value", "anew"), [("images", 9, True), ("device", "cpu", False)])
def test_images_of_other_splits_depend_on_how_many_they_are_alone(planned, key, value, anew):
    before = params(planned(SETTINGS), "reconstruct_splits")
    after = params(
        planned(changed("reconstructions.near.splits", {**SPLITS, key: value})), "reconstruct_splits"
    )
    assert before["n_images"] == 7 and (before != after) == anew


def test_what_a_challenge_is_drawn_on_changes_nothing_but_the_drawing(planned):
    settings = changed("encodings", {"model": {"target": "clip"}})
    settings["split"] = {"protocol": "random", "test_units": ["average"]}
    for decoder in settings["decoders"].values():
        decoder["roi"] = "all"
    plans = [settings | {"dataset": {**ALGONAUTS, "fsaverage": folder}} for folder in (None, "freesurfer")]
    before, after = (
        {rule: params(plan, rule) for rule in plan.every if "dataset" in dict(plan.every[rule].params)}
        | {"surface": params(plan, "draw_surface")}
        for plan in map(planned, plans)
    )
    assert {rule for rule in before if before[rule] != after[rule]} == {"surface"}
    assert "simulate_challenge" in before


def test_networks_that_compare_images_for_an_analysis_are_fetched(planned):
    path = "interpretation.leave_one_out.one.images.network"
    assert planned(SETTINGS).fetched_backbones() == []
    assert planned(changed(path, "alexnet")).fetched_backbones() == [str(store.manifest_path("alexnet"))]


@pytest.mark.parametrize("fitted", [True, False])
def test_scores_by_split_are_results_of_their_subject_where_there_are_any(planned, fitted):
    settings = changed("decoders.fitted.fitted", fitted)
    settings["reconstructions"]["near"].pop("splits")
    results = planned(settings).subject_results("subj01")
    assert ("results/twin/evaluation/subj01/splits.parquet" in results) == fitted


def test_scores_by_split_say_how_their_networks_are_read(planned):
    found = params(planned(SETTINGS), "score_splits")["networks"]
    assert found == {"tiny_clip": [dict(catalogue.named("tiny_clip").settings), {}]}


@pytest.fixture
def of_size(tmp_path):
    """What a job reads, where voxels and predictions are so many bytes each (of holes: the disk has few)."""

    class Files(list):
        betas = property(lambda self: self[0])
        predictions = property(list)

    def make(n_bytes):
        path = tmp_path / "read"
        with path.open("wb") as file:
            file.truncate(n_bytes)
        return Files([str(path)])

    return make


def asked(rule, name, files, attempt=1):
    """MB or minutes that a rule asks a cluster for."""
    ask = rule.resources[name]._evaluator
    known = {"input": files, "attempt": attempt}
    return ask(NEAR, **{key: known[key] for key in known.keys() & inspect.signature(ask).parameters})


def test_every_job_that_is_submitted_asks_for_twice_as_much_at_its_second_attempt(planned, of_size):
    plan, files = planned(SETTINGS), of_size(10_000)
    submitted = [rule for name, rule in plan.every.items() if name not in plan.workflow._localrules]
    for rule in submitted:
        for name in ("mem_mb", "runtime"):
            once, twice = (asked(rule, name, files, attempt) for attempt in (1, 2))
            assert twice == 2 * once > 0, f"{name} of {rule.name}"
    assert len(submitted) > 20


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("train_decoder", "mem_mb"),
        ("train_decoder", "runtime"),
        ("extract_voxels", "runtime"),
        ("score_decoders", "mem_mb"),
        ("audit_subject", "mem_mb"),
        ("measure_noise_ceiling", "mem_mb"),
        ("leave_voxels_out", "mem_mb"),
    ],
)
def test_what_depends_on_the_size_of_the_data_is_asked_for_by_that_size(planned, of_size, rule, name):
    rule = planned(SETTINGS).every[rule]
    small, large, larger = (asked(rule, name, of_size(n)) for n in (10_000, 6_000_000_000, 12_000_000_000))
    assert small < large < larger <= 2 * large


def test_no_rule_retries_by_itself():
    """It would do so inside the allocation that was too small; the profile submits such a job again."""
    texts = [path.read_text() for path in (REPOSITORY / "rules").rglob("*.smk")]
    retries = re.findall(r"^\s+retries:(.*)$", "\n".join(texts), re.MULTILINE)
    assert len(texts) > 10 and {said.split("#")[0].strip() for said in retries} <= {"0"}
