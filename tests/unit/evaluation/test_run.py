"""One run as evaluation sees it: the rule comes from training and validation rows, never from test rows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from percept.config import EvaluationConfig
from percept.decoders.predictions import Predictions, write_predictions
from percept.evaluation import run
from percept.evaluation.audit import Evidence, audit
from percept.evaluation.evidence import of_run
from percept.evaluation.scoring import RULES
from percept.evaluation.table import Label
from percept.targets import store

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


def test_items_are_those_of_the_chosen_rules(files):
    found = read(files[0])
    items = run.score(found, LABEL, SETTINGS).items
    ranked = items[items["direction"].notna()]
    assert (ranked["scoring"] == ranked["direction"].map(found.choice.rules)).all()


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
