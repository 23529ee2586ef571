"""The script that scores a subject's decoders scores each run once, whatever other runs come beside it."""

import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from percept import log
from percept.decoders.predictions import Predictions, write_predictions
from percept.evaluation import run
from percept.targets import store

from .conftest import REPOSITORY

DIM, STIMULI = 5, np.arange(70)
EVALUATION = {"retrieval": {"pools": (10,)}, "bootstrap": 20, "permutations": 20}


class Given(SimpleNamespace):
    """Named files, as Snakemake hands them to a script."""

    def keys(self):
        return vars(self).keys()


def written(folder, seed):
    """Predictions of one training."""
    rng = np.random.default_rng(seed)
    groups = {}
    parts = np.split(STIMULI.astype(np.int32), [30, 50])
    for name, stimulus in zip(("train", "validation", "test/average"), parts, strict=True):
        other = np.full(len(stimulus), -1, np.int16)
        predicted = rng.standard_normal((len(stimulus), DIM)).astype(np.float32)
        groups[name] = Predictions(predicted, stimulus, other + 4, other, other)
    path = folder / f"decoders/ridge/seed-{seed}/predictions.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_predictions(path, groups, {"decoder": "ridge"})
    return path


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Run the script on some seeds; which of them it scored."""
    rng = np.random.default_rng(9)
    features = rng.standard_normal((len(STIMULI), DIM)).astype(np.float32)
    store.write(tmp_path / "index.json", features, STIMULI, {"kind": "x"})
    split = np.repeat(["train", "validation", "test"], [30, 20, 20])
    pd.DataFrame({"stimulus": STIMULI, "split": split}).to_parquet(tmp_path / "trials.parquet")
    asked = []
    score = run.score_files

    def counting(predictions, features, about, label, limits):
        asked.append(label.seed)
        return score(predictions, features, about, label, limits)

    monkeypatch.setattr(run, "score_files", counting)
    monkeypatch.setattr(log, "to_file", lambda path: None)  # the log of this process is pytest's

    def scored(seeds, code="0", note=None):
        asked.clear()
        outputs = [tmp_path / f"evaluation/ridge/seed-{seed}" for seed in seeds]
        for path in outputs:
            for output in path.glob("*.parquet"):
                output.unlink()  # as Snakemake does before it runs a job again
        named = {"name": "ridge", "target": "x", "roi": "all"}
        runpy.run_path(str(REPOSITORY / "workflow/scripts/score_decoders.py"), {"snakemake": SimpleNamespace(
            input=Given(
                predictions=[tmp_path / f"decoders/ridge/seed-{seed}/predictions.h5" for seed in seeds],
                features=[tmp_path / "index.json"] * len(seeds),
                trials=tmp_path / "trials.parquet",
            ),
            output=Given(
                scores=[path / "scores.parquet" for path in outputs],
                per_item=[path / "items.parquet" for path in outputs],
                answers=[path / "answers.parquet" for path in outputs],
            ),
            params=Given(
                dataset={"name": "twin"}, runs=[({**named, "seed": seed}, note) for seed in seeds],
                protocol="shared1000", units=["average"], evaluation=EVALUATION, get=lambda *_: code,
            ),
            wildcards=Given(subject="subj01"), log=[tmp_path / "log"],
        )})  # fmt: skip
        return list(asked)

    for seed in (0, 1):
        written(tmp_path, seed)
    return scored


def tables(folder, seed):
    return {
        path.name: pd.read_parquet(path) for path in folder.glob(f"evaluation/ridge/seed-{seed}/*.parquet")
    }


def test_one_more_seed_scores_no_other(scored, tmp_path):
    assert scored([0]) == [0]
    before = tables(tmp_path, 0)
    assert set(before) == {"scores.parquet", "items.parquet", "answers.parquet"}
    assert scored([0, 1]) == [1]
    for name, table in tables(tmp_path, 0).items():
        pd.testing.assert_frame_equal(table, before[name])
    assert scored([0]) == scored([0, 1]) == []


def test_a_run_that_was_trained_again_is_scored_again_and_no_other(scored, tmp_path):
    scored([0, 1])
    written(tmp_path, 1)
    assert scored([0, 1]) == [1]


def test_other_code_scores_everything_again(scored):
    scored([0, 1])
    assert scored([0, 1], code="1") == [0, 1]


def test_what_the_table_says_of_a_decoder_scores_nothing_again(scored, tmp_path):
    scored([0])
    assert scored([0], note="compat: mindeye1") == []
    rows = tables(tmp_path, 0)["scores.parquet"]
    assert rows.loc[rows["control"].isna(), "note"].str.contains("compat: mindeye1").all()
    assert scored([0]) == []
    assert not tables(tmp_path, 0)["scores.parquet"]["note"].fillna("").str.contains("compat").any()
