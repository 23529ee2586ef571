"""One run as evaluation sees it: the rule comes from training and validation rows, never from test rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from percept import config
from percept.config import EvaluationConfig
from percept.datasets import splits
from percept.decoders import predict
from percept.decoders.predictions import Predictions, write_predictions
from percept.evaluation import run
from percept.evaluation.audit import Evidence, audit
from percept.evaluation.evidence import of_run
from percept.evaluation.scoring import RULES
from percept.evaluation.table import Label
from percept.targets import pool, store

N_TRAIN, N_VALIDATION, N_TEST, DIM = 120, 40, 30, 7
LABEL = Label("twin", "shared1000", "subj01", "decoder", "ridge", "pixels", "nsdgeneral", 0)
SETTINGS = EvaluationConfig(retrieval={"pools": (10,)}, bootstrap=50, permutations=50)


def rows(features, stimulus, noise, rng, fold=-1):
    """Predictions of some images: a shared component, shrinkage, noise."""
    predicted = 0.5 * features[stimulus] + 2 + noise * rng.standard_normal((len(stimulus), DIM))
    whole = np.full(len(stimulus), 3, np.int16)
    other = np.full(len(stimulus), -1, np.int16)
    return Predictions(
        predicted.astype(np.float32), stimulus.astype(np.int32), whole, other, other * 0 + fold
    )


@pytest.fixture
def files(tmp_path):
    """Predictions and features of one run; the shared component makes plain cosine a poor rule."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N_TRAIN + N_VALIDATION + N_TEST, DIM))
    ids = np.split(np.arange(len(features)), [N_TRAIN, N_TRAIN + N_VALIDATION])
    names = ("train", "validation", "test/average")
    groups = {name: rows(features, stimulus, 0.6, rng) for name, stimulus in zip(names, ids, strict=True)}
    store.write(
        tmp_path / "features.h5", features.astype(np.float32), np.arange(len(features)), {"kind": "x"}
    )
    write_predictions(tmp_path / "predictions.h5", groups, {"decoder": "ridge"})
    return tmp_path, groups


def read(folder):
    return run.read(folder / "predictions.h5", folder / "features.h5", ["average"])


def test_the_rule_does_not_depend_on_test_predictions(files):
    folder, groups = files
    before = read(folder).choice.table
    other = np.random.default_rng(1).standard_normal((N_TEST, DIM)).astype(np.float32)
    changed = replace(groups["test/average"], predicted=other)
    write_predictions(folder / "predictions.h5", groups | {"test/average": changed}, {"decoder": "ridge"})
    pd.testing.assert_frame_equal(read(folder).choice.table, before)


def test_the_rule_depends_on_validation_predictions(files):
    folder, groups = files
    assert "cosine" not in read(folder).choice.rules.values()  # the shared component is seen
    plain = {name: group for name, group in groups.items() if name != "validation"}
    write_predictions(folder / "predictions.h5", plain, {"decoder": "ridge"})
    assert read(folder).choice.table.empty


def test_runs_left_out_in_turn_are_scored_by_plain_cosine(files):
    folder, groups = files
    folds = {name: replace(group, fold=group.fold + 1) for name, group in groups.items()}
    write_predictions(folder / "predictions.h5", folds, {"decoder": "ridge"})
    assert set(read(folder).choice.rules.values()) == {"cosine"}


def test_every_rule_is_scored_and_one_is_chosen_in_each_direction(files):
    scored = run.score(read(files[0]), LABEL, SETTINGS)
    own = scored.rows[scored.rows["control"].isna() & (scored.rows["metric"] == "two_way")]
    assert set(own["scoring"]) == set(RULES)
    assert own.groupby("direction")["chosen"].sum().to_dict() == {
        "brain_from_image": 1,
        "image_from_brain": 1,
    }
    assert not scored.rows.duplicated().any()
    assert (scored.rows["control"] == "validation").sum() == 6  # three rules, two directions


def test_items_are_those_of_the_chosen_rules_and_of_cosine(files):
    found = read(files[0])
    items = run.score(found, LABEL, SETTINGS).items
    ranked = items[items["direction"].notna()]
    picked = ranked["scoring"] == ranked["direction"].map(found.choice.rules)
    assert (ranked["chosen"] == picked).all()
    assert (picked | (ranked["scoring"] == "cosine")).all()
    assert ranked.groupby("direction")["scoring"].nunique().to_dict() == {
        direction: len({rule, "cosine"}) for direction, rule in found.choice.rules.items()
    }
    assert items.loc[items["direction"].isna(), "chosen"].isna().all()
    assert not items.drop(columns="value").duplicated().any()


TRIALS = pd.DataFrame(
    {
        "stimulus": np.repeat(np.arange(N_TRAIN + N_VALIDATION + N_TEST), 2),
        "split": np.repeat(["train", "validation", "test"], [2 * N_TRAIN, 2 * N_VALIDATION, 2 * N_TEST]),
    }
)


def without(folder, groups, *left_out, trials=TRIALS):
    """The run again, of a decoder that makes no predictions of some images."""
    kept = {name: group for name, group in groups.items() if name not in left_out}
    write_predictions(folder / "predictions.h5", kept, {"decoder": "network"})
    return run.read(folder / "predictions.h5", folder / "features.h5", ["average"], trials)


def test_a_decoder_that_does_not_cross_validate_is_scored_by_cosines(files):
    folder, groups = files
    whole = read(folder)
    found = without(folder, groups, "train")
    assert set(found.choice.by_rule) == {"cosine", "centred_cosine"}
    assert set(found.choice.rules.values()) == {"centred_cosine"}  # the shared component is seen
    centred = found.choice.by_direction["image_from_brain"]
    np.testing.assert_allclose(centred.predicted_mean, groups["validation"].predicted.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(centred.target_mean, whole.candidates["average"].train_mean)
    scored = run.score(found, LABEL, SETTINGS)
    peer = run.score(whole, LABEL, SETTINGS)
    own, other = (
        one.rows[(one.rows["metric"] == "top1") & (one.rows["scoring"] == "cosine")].set_index(
            ["unit", "direction", "pool", "control"]
        )["value"]
        for one in (scored, peer)
    )
    unvalidated = own[own.index.get_level_values("control") != "validation"]
    pd.testing.assert_series_equal(unvalidated, other[unvalidated.index])
    unranked = [one.rows[one.rows["scoring"].isna()].drop(columns="chosen") for one in (scored, peer)]
    pd.testing.assert_frame_equal(*unranked)  # R2 and correlations use the mean of the true training targets


def test_without_training_and_validation_predictions_plain_cosine_stands(files):
    folder, groups = files
    found = without(folder, groups, "train", "validation")
    assert set(found.choice.by_rule) == set(found.choice.rules.values()) == {"cosine"}
    assert len(run.score(found, LABEL, SETTINGS).rows)


def test_runs_left_out_in_turn_without_training_predictions_are_scored_by_plain_cosine(files):
    folder, groups = files
    folds = {name: replace(one, fold=one.fold + 1) for name, one in groups.items()}
    found = without(folder, folds, "train", trials=TRIALS.assign(split="test"))  # as that protocol says
    assert set(found.choice.by_rule) == {"cosine"}
    every = store.read(folder / "features.h5", np.unique(TRIALS["stimulus"]))  # each trained in some fold
    mean = found.candidates["average"].train_mean
    np.testing.assert_allclose(mean, every.mean(axis=0, dtype=np.float64), atol=1e-7)


NETWORK = {
    "kind": "mindeye", "target": "x", "prior": None,
    "network": {"width": 16, "blocks": 1, "projector_width": 16},
    "training": {"epochs": 3, "batch_size": 8, "device": "cpu"},
}  # fmt: skip


@pytest.mark.parametrize("validation", [False, True], ids=["no validation", "validation runs"])
def test_a_network_whose_runs_are_left_out_in_turn_is_trained_scored_and_audited(tmp_path, validation):
    rng = np.random.default_rng(0)
    n_runs, n_images = 4, 9
    run_of = np.repeat(np.arange(n_runs), n_images)
    trials = pd.DataFrame({"session": 1 + run_of, "run": 1, "trial": 0, "repeat": 0, "shared": False})
    trials["stimulus"] = np.tile(np.arange(n_images), n_runs).astype(np.int32)
    trials = trials.assign(split="test", fold=run_of)
    features = (3 + rng.standard_normal((n_images, 8))).astype(np.float32)
    X = rng.standard_normal((len(trials), 13)).astype(np.float32)
    store.write(tmp_path / "features.h5", features, np.arange(n_images), {"kind": "x"})
    folds = splits.folds(trials, validation=validation)
    with store.open_features(tmp_path / "features.h5") as targets:
        job = predict.Job(tmp_path / "run", ("single", "run"), "single")
        predict.train_and_predict(config.plugin("decoders", NETWORK), X, trials, folds, targets, job)

    paths = (tmp_path / "run/predictions.h5", tmp_path / "features.h5")
    found = run.read(*paths, ["single", "run"], trials)
    scored = run.score(found, LABEL, SETTINGS)
    ranked = scored.rows.query("metric == 'top1' and control.isna()")
    assert set(ranked["unit"]) == {"single", "run"} and ranked["value"].between(0, 1).all()
    for candidates in found.candidates.values():
        np.testing.assert_allclose(candidates.train_mean, features.mean(axis=0), rtol=1e-6)
    about = Evidence("subj01", trials=trials, permutations=50)
    for evidence in of_run(found, about, "mindeye", scored.rows):
        assert audit(evidence).set_index("check")["passed"]["direction-labels"]


def test_training_features_of_which_only_the_mean_is_needed_are_read_in_blocks(files, monkeypatch):
    folder, groups = files
    rows_read = []
    read_rows = store.Features.read

    def counting(self, stimuli, *columns):
        rows_read.append(len(stimuli))
        return read_rows(self, stimuli, *columns)

    monkeypatch.setattr(store.Features, "read", counting)
    monkeypatch.setattr(pool, "BLOCK", 4 * DIM * 50)  # bytes of 50 rows
    without(folder, groups, "train")
    assert rows_read[:3] == [50, 50, 20] and max(rows_read) < N_TRAIN


def test_without_training_predictions_the_trials_have_to_say_what_trained(files):
    folder, groups = files
    without(folder, groups, "train")
    with pytest.raises(ValueError, match="the trials have to say"):
        read(folder)


def test_answers_name_the_candidate_ranked_first(files):
    found = read(files[0])
    answers = run.score(found, LABEL, SETTINGS).answers
    candidates = found.candidates["average"]
    scores = found.choice.image_from_brain(found.test["average"].predicted, candidates.features)
    np.testing.assert_array_equal(answers["answer"], candidates.stimulus[scores.argmax(axis=1)])


def test_a_swapped_scorer_gives_each_direction_the_other_ones_scores(files):
    found = read(files[0])
    pair = (found.test["average"].predicted, found.candidates["average"].features)
    swapped = run.Swapped(found.choice)
    np.testing.assert_array_equal(swapped.image_from_brain(*pair), found.choice.brain_from_image(*pair))
    np.testing.assert_array_equal(swapped.brain_from_image(*pair), found.choice.image_from_brain(*pair))
    fewer = (pair[0][:5], pair[1])  # where the numbers differ there is nothing to exchange
    np.testing.assert_array_equal(swapped.image_from_brain(*fewer), found.choice.image_from_brain(*fewer))


@pytest.mark.parametrize(("faults", "passed"), [((), True), (("swapped-direction",), False)])
def test_the_audit_of_a_run_finds_a_planted_swap(files, faults, passed):
    found = read(files[0])
    scored = run.score(found, LABEL, SETTINGS, faults=faults)
    (evidence,) = of_run(found, Evidence("subj01"), "ridge", scored.rows)
    assert evidence.decoder == "ridge, average"
    checks = audit(evidence).set_index("check")["passed"]
    assert checks["direction-labels"] == passed
