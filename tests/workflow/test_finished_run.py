"""A finished run: everything is there, a second run does nothing, a change reruns exactly what it reaches."""

import os
import re
import shutil
import zipfile
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from percept.decoders.predictions import SAMPLED
from percept.generators import store

from .conftest import Checkout, job_counts, tracked_files

pytestmark = pytest.mark.xdist_group("finished")

# What follows what, with how many jobs the tiny run has of each: 2 subjects, and of each 7 trainings
# (5 of ridge, 2 of networks) and 3 reconstructions.
TABLE = {"tabulate_results": 1, "record_manifest": 1, "write_report": 1}
PAGES = {"write_gallery": 1, **TABLE}
SCORED = {"score_decoders": 2, "audit_subject": 2, "compare_decoders": 2, **TABLE}
JUDGED = {"score_reconstructions": 2, "draw_sheets": 2, "compare_decoders": 2, **PAGES}
ONE_GENERATOR = {"reconstruct_images": 2, **JUDGED}
DIFFUSION = {**ONE_GENERATOR, "reconstruct_images": 4}  # of ridge, and of networks
TRAINED = {"train_decoder": 14, **JUDGED, "reconstruct_images": 6, **SCORED}
RIDGE = {**TRAINED, "train_decoder": 10, "reconstruct_images": 4}
NETWORKS = {**TRAINED, "train_decoder": 4, "reconstruct_images": 2}
SPLIT = {"freeze_split": 2, "compute_limits": 2, "measure_noise_ceiling": 2, **TRAINED}
EXTRACTED = {"extract_voxels": 2, "summarise_voxels": 2, **SPLIT}
SIMULATED = {"simulate_experiment": 1, "simulate_subj01": 1, "simulate_subj02": 1}
EVERYTHING = {**SIMULATED, "encode_target": 5, **EXTRACTED}
# A decoder from which the images of one reconstruction come.
ONE_DECODER = {**TRAINED, "train_decoder": 2, "reconstruct_images": 2}
REPORT = "results/tiny/report"


def test_every_kind_of_job_has_run(finished):
    assert finished.planned("all", "--forceall") == EVERYTHING


def test_everything_that_the_rules_declare_is_there(finished):
    summary = finished.snakemake("all", "--detailed-summary").stdout.splitlines()
    rows = [line.split("\t") for line in summary if "\t" in line]
    names = [row[0] for row in rows[1:]]
    assert len(names) > 80
    assert [name for name in names if not (finished.folder / name).exists()] == []


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_networks_are_trained_and_leave_samples_and_the_course_of_their_training(finished, subject):
    folder = finished.folder / f"results/tiny/decoders/{subject}"
    with h5py.File(folder / "mindeye/seed-0/predictions.h5") as file:
        samples, predicted = (file[SAMPLED][name][:] for name in ("samples", "predicted"))
    assert samples.shape == (len(predicted), 2, 64) and np.isfinite(samples).all()
    assert (samples[:, 0] != samples[:, 1]).any(axis=1).all()
    for name in ("mindeye", "mindeye_lowlevel"):
        history = pd.read_parquet(folder / name / "seed-0/history.parquet")
        assert history["epoch"].tolist() == [1, 2, 3] and history["validation_loss"].notna().all()
        assert history.attrs["training"][0]["epochs"] == 3
        log = (finished.folder / f"logs/tiny/decoders/{subject}/{name}/seed-0/train_decoder.log").read_text()
        assert f"{name} of {subject}, seed 0: epoch 1, step" in log


def test_the_report_shows_how_networks_were_trained_and_says_what_taught_them(finished):
    page = (finished.folder / REPORT / "index.html").read_text(encoding="utf-8")
    assert "Loss over the epochs of training, of mindeye and mindeye_lowlevel." in page
    table = pd.read_parquet(finished.folder / REPORT / "results.parquet")
    notes = table[(table["what"] == "decoder") & table["control"].isna()].groupby("name")["note"]
    taught = notes.apply(lambda note: note.str.contains("teacher: tokens", na=False))
    assert taught["mindeye_lowlevel"].all() and not taught.drop("mindeye_lowlevel").any()


def test_nothing_is_left_beside_the_outputs(finished):
    temporary = {".*", "*.partial", "*.part", "work"}  # a file being written, a job that was not finished
    left = [
        str(path.relative_to(finished.folder))
        for folder in ("results", "resources")
        for pattern in temporary
        for path in (finished.folder / folder).rglob(pattern)
    ]
    assert sorted(set(left) - set(tracked_files())) == []


@pytest.mark.parametrize("target", ["all", "report", "audit", "subj01", "subj02"])
def test_a_second_run_has_nothing_to_do(finished, target):
    assert finished.planned(target) == {}


def test_a_checkout_that_is_moved_has_nothing_to_do(finished, tmp_path):
    assert Checkout.of(finished, tmp_path / "moved").planned("all") == {}


def test_touching_every_source_file_reruns_nothing(finished):
    for folder in ("src", "workflow", "rules", "config", "envs"):
        for path in (finished.folder / folder).rglob("*"):
            if path.is_file():
                os.utime(path)
    assert finished.planned("all") == {}


LIBRARY = "src/percept/"
ADDED = ("\nfrom ", "\nADDED = 1\nfrom ")
EDITS = {
    "ridge": ("decoders/ridge.py", "np.argmin(np.sum(", "np.argmin(np.mean(", RIDGE),
    "the training of networks": ("decoders/training/optimiser.py", *ADDED, NETWORKS),
    "one kind of network that is trained": ("decoders/lowlevel.py", *ADDED, ONE_DECODER),
    "figures": ("report/figures.py", "alpha=0.13", "alpha=0.14", PAGES),
    "extraction": ("voxels/extract.py", "unravel_index(index,", "unravel_index(1 * index,", EXTRACTED),
    "limits": ("datasets/twin/limits.py", *ADDED, {"compute_limits": 2, **SCORED}),
    "audit": ("evaluation/audit_data.py", *ADDED, {"audit_subject": 2, **TABLE}),
    "one target": (
        "targets/pixels.py", '"filter": "area"', '"filter": "box"',
        {**ONE_DECODER, "encode_target": 1},
    ),
    "one kind of frozen network": (
        "backbones/autoencoder.py", *ADDED,
        {**NETWORKS, "reconstruct_images": 4, "encode_target": 1},
    ),
    "one generator": ("generators/image_diffusion.py", *ADDED, DIFFUSION),
    "what diffusion samples": ("backbones/diffusion/unclip.py", *ADDED, DIFFUSION),
    "image metrics": ("evaluation/perceptual.py", *ADDED, JUDGED),
    "metric networks": ("backbones/metric.py", *ADDED, JUDGED),
    "contact sheet": ("generators/sheet.py", *ADDED, {"draw_sheets": 2, **TABLE}),
    "gallery": ("report/gallery_page.py", *ADDED, {"write_gallery": 1, "write_report": 1}),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_reruns_the_rules_that_reach_it_and_no_other(finished, edit):
    name, old, new, expected = EDITS[edit]
    with finished.edited(LIBRARY + name, old, new):
        assert finished.planned("all") == expected


HARMLESS = {
    "the catalogue, whose entries a manifest and a fingerprint repeat": ("backbones/catalogue.py", *ADDED),
    "what an entry of it holds": ("backbones/entry.py", *ADDED),
    "the fetching of weights": ("backbones/fetch.py", *ADDED),
    "the training of small networks": ("backbones/tiny/trainer.py", *ADDED),
    "a library that is not used": ("targets/open_clip.py", *ADDED),
    "a docstring": ("files.py", "Files that are whole", "Files that are wholly whole"),
    "a comment": ("voxels/normalise.py", "\n\n\n", "\n\n\n# A remark.\n"),
}


def test_edits_that_change_no_result_rerun_nothing(finished):
    with ExitStack() as edits:
        for name, old, new in HARMLESS.values():
            edits.enter_context(finished.edited(LIBRARY + name, old, new))
        assert finished.planned("all") == {}


def test_an_edit_that_is_taken_back_reruns_nothing(finished):
    with finished.edited(LIBRARY + EDITS["ridge"][0], *EDITS["ridge"][1:3]):
        pass
    assert finished.planned("all") == {}


def test_an_edited_script_reruns_its_rule_and_what_follows(finished):
    with finished.edited("workflow/scripts/summarise_voxels.py", "log.to_file", "folder = None\nlog.to_file"):
        assert finished.planned("all") == {"summarise_voxels": 2, **TABLE}


UNCLIP = {"kind": "image_diffusion", "backbone": "tiny_unclip", "lowlevel_backbone": "tiny_vae"}
SETTINGS = {
    "resamples": ({"evaluation": {"bootstrap": 101}}, {**JUDGED, **SCORED}),
    "networks that compare images": ({"evaluation": {"images": {"networks": ["tiny_clip"]}}}, JUDGED),
    "title": ({"report": {"title": "Another"}}, PAGES),
    "penalties of one decoder": ({"decoders": {"ridge_pixels": {"alphas": [1, 10]}}}, ONE_DECODER),
    "learning rate of a network": (
        {"decoders": {"mindeye": {"training": {"learning_rate": 1e-4}}}}, ONE_DECODER,
    ),
    "steps of one generator": ({"reconstructions": {"unclip": {"generator": {"steps": 5}}}}, ONE_GENERATOR),
    "one more reconstruction": (
        {"reconstructions": {"further": {"semantic": "ridge_clip", "generator": UNCLIP}}}, ONE_GENERATOR,
    ),
    "one seed less": (
        {"decoders": {"ridge_truth": {"seeds": [0]}}},
        SCORED,
    ),
    "normalisation": ({"voxels": {"normalisation": "train"}}, TRAINED),
    "split": ({"split": {"seed": 1}}, SPLIT),
    "more voxels": ({"voxels": {"extract": ["nsdgeneral", "early"]}}, EXTRACTED),
    "information": ({"dataset": {"bits": 5.0}}, EVERYTHING),
}  # fmt: skip


@pytest.mark.parametrize("changed", SETTINGS, ids=str)
def test_a_changed_setting_reruns_what_depends_on_it(finished, changed):
    changes, expected = SETTINGS[changed]
    assert finished.planned("all", config=finished.configure("changed", changes)) == expected


def test_how_often_a_training_is_saved_and_shown_reruns_nothing(finished):
    training = {"training": {"checkpoint_minutes": 2.5, "tensorboard": True}}
    changes = {"decoders": {"mindeye": training, "mindeye_lowlevel": training}}
    plan = finished.planned("all", config=finished.configure("changed", changes))
    assert not {"train_decoder", "reconstruct_images", "score_decoders"} & set(plan)


# The jobs of one subject.
OWN = {
    "extract_voxels": 1, "freeze_split": 1, "summarise_voxels": 1, "compute_limits": 1, "train_decoder": 7,
    "measure_noise_ceiling": 1, "reconstruct_images": 3, "draw_sheets": 1, "score_decoders": 1,
    "score_reconstructions": 1, "compare_decoders": 1, "audit_subject": 1,
}  # fmt: skip


def test_a_new_training_of_a_subject_touches_no_other(finished):
    printed = finished.snakemake("subj01", "-n", "-R", "train_decoder").stdout
    own = {rule: OWN[rule] for rule in TRAINED if rule in OWN}
    assert job_counts(printed) == {"subj01": 1, **own}
    messages = re.findall(r"^Job \d+: (.*)$", printed, re.MULTILINE)
    assert len(messages) == sum(own.values()) and not any("subj02" in message for message in messages)


@pytest.mark.parametrize(
    ("deleted", "expected"),
    [
        ("evaluation/subj01/noise_ceiling.parquet", {"measure_noise_ceiling": 1, **TABLE}),
        ("voxels/subj02/summary.png", {"summarise_voxels": 1, **TABLE}),
        (
            "evaluation/subj02/ridge_truth/seed-1/scores.parquet",
            {"score_decoders": 1, "audit_subject": 1, "compare_decoders": 1, **TABLE},
        ),
        ("generators/subj02/linear/sheet.png", {"draw_sheets": 1, **TABLE}),
        ("report/gallery.html", {"write_gallery": 1, "write_report": 1}),
        ("report/results.tex", TABLE),
        ("report/index.html", {"write_report": 1}),
    ],
)
def test_a_deleted_file_is_made_again_with_what_follows_and_nothing_else(finished, deleted, expected):
    path = finished.folder / "results/tiny" / deleted
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        assert finished.planned("all") == expected
    finally:
        aside.rename(path)


def deterministic(table):
    """A table of scores as text, sorted, to compare two runs."""
    columns = sorted(table.columns)
    return table[columns].astype(str).sort_values(columns).reset_index(drop=True)


MADE = [f"generators/subj01/{name}/images.h5" for name in ("linear", "unclip", "mindeye")]


def test_a_subject_whose_results_were_deleted_comes_back_alone_and_equal(finished):
    results = finished.folder / "results/tiny"
    mine = ["decoders/subj01", "evaluation/subj01", "generators/subj01", "voxels/subj01/trials.parquet"]
    scores = [
        results / "evaluation/subj01" / name / "scores.parquet"
        for name in ("ridge_pixels/seed-0", "mindeye/seed-0", "reconstructions/unclip")
    ]
    before = [pd.read_parquet(path) for path in scores]
    images = {name: store.read_images(results / name)[0] for name in MADE}
    raw = finished.files("resources")
    others = {name: when for name, when in finished.files("results").items() if "subj02" in name}
    for name in mine:
        path = results / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = {name: n for name, n in OWN.items() if name not in ("extract_voxels", "summarise_voxels")}
    assert finished.planned("subj01") == kept

    finished.snakemake("subj01")

    for path, expected in zip(scores, before, strict=True):
        pd.testing.assert_frame_equal(deterministic(pd.read_parquet(path)), deterministic(expected))
    for name, expected in images.items():
        np.testing.assert_array_equal(store.read_images(results / name)[0], expected)
    now = {name: when for name, when in finished.files("results").items() if "subj02" in name}
    assert now == others and len(others) > 20
    assert raw.items() <= finished.files("resources").items()
    assert finished.planned("subj01") == {}


def test_snakemakes_own_report_holds_the_results(finished, tmp_path):
    archive = tmp_path / "report.zip"
    finished.snakemake("all", "--report", str(archive))
    with zipfile.ZipFile(archive) as report:
        names = report.namelist()
        pages = [name for name in names if re.search(r"/(results|index)\.html$", name)]
        assert len([name for name in names if name.endswith(".png")]) >= 8  # summaries and contact sheets
        assert any(name.endswith("/gallery.html") for name in names)
        table = next(name for name in names if name.endswith("/results.html"))
        assert len(pages) >= 2 and "ridge_pixels" in report.read(table).decode()


def test_the_manifest_and_the_table_name_the_run(finished):
    table = pd.read_parquet(finished.folder / REPORT / "results.parquet")
    assert set(table["subject"]) >= {"subj01", "subj02"} and set(table["dataset"]) == {"tiny"}
    assert Path(finished.folder / REPORT / "manifest.json").stat().st_size > 1000


def test_nothing_of_the_clean_run_fails_its_audit(finished):
    audit = pd.read_csv(finished.folder / REPORT / "audit.csv")
    assert len(audit) > 10
    assert audit.loc[~audit["passed"], ["subject", "check", "detail"]].to_numpy().tolist() == []
