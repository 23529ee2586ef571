"""A finished run: everything is there, a second run does nothing, a change reruns exactly what it reaches."""

import os
import re
import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from .conftest import job_counts

pytestmark = pytest.mark.xdist_group("finished")

# What follows what, with how many jobs the tiny run has of each: 2 subjects, 3 trainings of each.
TABLE = {"tabulate_results": 1, "record_manifest": 1, "write_report": 1}
SCORED = {"score_decoder": 6, "audit_subject": 2, "compare_decoders": 2, **TABLE}
IMAGES = {"reconstruct_images": 2, "draw_sheet": 2, "score_reconstruction": 2}
TRAINED = {"train_decoder": 6, **IMAGES, **SCORED}
SPLIT = {"freeze_split": 2, "compute_limits": 2, "measure_noise_ceiling": 2, **TRAINED}
EXTRACTED = {"extract_voxels": 2, "summarise_voxels": 2, **SPLIT}
SIMULATED = {"simulate_experiment": 1, "simulate_subj01": 1, "simulate_subj02": 1}
EVERYTHING = {**SIMULATED, "encode_target": 2, **EXTRACTED}
ONE_DECODER = {**TRAINED, "train_decoder": 2, "score_decoder": 2}  # ridge_pixels, which the images come from
REPORT = "results/tiny/report"


def test_every_kind_of_job_has_run(finished):
    assert finished.planned("all", "--forceall") == EVERYTHING


def test_everything_that_the_rules_declare_is_there(finished):
    summary = finished.snakemake("all", "--detailed-summary").stdout.splitlines()
    rows = [line.split("\t") for line in summary if "\t" in line]
    names = [row[0] for row in rows[1:]]
    assert len(names) > 80
    assert [name for name in names if not (finished.folder / name).exists()] == []


def test_nothing_is_left_beside_the_outputs(finished):
    hidden = [path for path in (finished.folder / "results").rglob(".*") if path.name != ".gitkeep"]
    hidden += list((finished.folder / "resources").rglob(".*"))
    assert [str(path) for path in hidden if ".snakemake" not in path.name] == []


@pytest.mark.parametrize("target", ["all", "report", "audit", "subj01", "subj02"])
def test_a_second_run_has_nothing_to_do(finished, target):
    assert finished.planned(target) == {}


def test_touching_every_source_file_reruns_nothing(finished):
    for folder in ("src", "workflow", "rules", "config", "envs"):
        for path in (finished.folder / folder).rglob("*"):
            if path.is_file():
                os.utime(path)
    assert finished.planned("all") == {}


LIBRARY = "src/percept/"
EDITS = {
    "ridge": ("decoders/ridge.py", "np.argmin(np.sum(", "np.argmin(np.mean(", TRAINED),
    "figures": ("report/figures.py", "alpha=0.13", "alpha=0.14", TABLE),
    "extraction": ("voxels/extract.py", "unravel_index(index,", "unravel_index(1 * index,", EXTRACTED),
    "limits": ("datasets/twin/limits.py", "\nimport", "\nADDED = 1\nimport", {"compute_limits": 2, **SCORED}),
    "audit": ("evaluation/audit_data.py", "\nimport", "\nADDED = 1\nimport", {"audit_subject": 2, **TABLE}),
    "one target": (
        "targets/pixels.py", '"filter": "area"', '"filter": "box"',
        {**ONE_DECODER, "encode_target": 1},
    ),
    "contact sheet": ("generators/sheet.py", "\nimport", "\nADDED = 1\nimport", {"draw_sheet": 2, **TABLE}),
    "unused library": ("targets/open_clip.py", "\nfrom typing", "\nADDED = 1\nfrom typing", {}),
    "docstring": ("files.py", "Files that are whole", "Files that are wholly whole", {}),
    "comment": ("files.py", "# bytes read at a time", "# bytes read at one time", {}),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edit_reruns_the_rules_that_reach_it_and_no_other(finished, edit):
    name, old, new, expected = EDITS[edit]
    with finished.edited(LIBRARY + name, old, new):
        assert finished.planned("all") == expected
    assert finished.planned("all") == {}


def test_an_edited_script_reruns_its_rule_and_what_follows(finished):
    with finished.edited("workflow/scripts/summarise_voxels.py", "log.to_file", "folder = None\nlog.to_file"):
        assert finished.planned("all") == {"summarise_voxels": 2, **TABLE}


EVALUATION = {"score_reconstruction": 2, **SCORED}
SETTINGS = {
    "resamples": ({"evaluation": {"bootstrap": 101}}, EVALUATION),
    "title": ({"report": {"title": "Another"}}, {**TABLE}),
    "penalties of one decoder": (
        {"decoders": {"ridge_pixels": {"alphas": [1, 10]}}}, {**ONE_DECODER},
    ),
    "one seed less": (
        {"decoders": {"ridge_truth": {"seeds": [0]}}},
        {"audit_subject": 2, "compare_decoders": 2, **TABLE},
    ),
    "normalisation": ({"voxels": {"normalisation": "train"}}, {**TRAINED}),
    "split": ({"split": {"seed": 1}}, SPLIT),
    "more voxels": ({"voxels": {"extract": ["nsdgeneral", "early"]}}, {**EXTRACTED}),
    "information": ({"dataset": {"bits": 5.0}}, EVERYTHING),
}  # fmt: skip


@pytest.mark.parametrize("changed", SETTINGS, ids=str)
def test_a_changed_setting_reruns_what_depends_on_it(finished, changed):
    changes, expected = SETTINGS[changed]
    assert finished.planned("all", config=finished.configure("changed", changes)) == expected


# The jobs of one subject.
OWN = {
    "extract_voxels": 1, "freeze_split": 1, "summarise_voxels": 1, "compute_limits": 1, "train_decoder": 3,
    "measure_noise_ceiling": 1, "reconstruct_images": 1, "draw_sheet": 1, "score_decoder": 3,
    "score_reconstruction": 1, "compare_decoders": 1, "audit_subject": 1,
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
            {"score_decoder": 1, "audit_subject": 1, "compare_decoders": 1, **TABLE},
        ),
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


def test_a_subject_whose_results_were_deleted_comes_back_alone_and_equal(finished):
    results = finished.folder / "results/tiny"
    mine = ["decoders/subj01", "evaluation/subj01", "generators/subj01", "voxels/subj01/trials.parquet"]
    before = pd.read_parquet(results / "evaluation/subj01/ridge_pixels/seed-0/scores.parquet")
    raw = finished.files("resources")
    others = {name: when for name, when in finished.files("results").items() if "subj02" in name}
    for name in mine:
        path = results / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = {name: n for name, n in OWN.items() if name not in ("extract_voxels", "summarise_voxels")}
    assert finished.planned("subj01") == kept

    finished.snakemake("subj01")

    after = pd.read_parquet(results / "evaluation/subj01/ridge_pixels/seed-0/scores.parquet")
    pd.testing.assert_frame_equal(deterministic(after), deterministic(before))
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
        assert len([name for name in names if name.endswith(".png")]) >= 4  # summaries and contact sheets
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
