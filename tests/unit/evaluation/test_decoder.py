"""One decoder's rows: what they hold, on worlds whose answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from percept.evaluation import table
from percept.evaluation.decoder import Candidates, score_decoder

from .worlds import Cosine, Gaussian, world


def pick(rows, metric, direction=None, pool=None, control=None):
    """The single row of a quantity."""
    here = rows["metric"] == metric
    for column, value in {"direction": direction, "pool": pool, "control": control}.items():
        if value is not None:
            here &= (rows[column] == value).fillna(False)
    if control is None:
        here &= rows["control"].isna()
    found = rows[here]
    assert len(found) == 1, f"{len(found)} rows of {metric} {direction} {pool} {control}"
    return found.iloc[0]


@pytest.fixture(scope="module")
def scored(label, settings):
    predictions, candidates = world()
    return score_decoder(predictions, candidates, Cosine(), label, settings), predictions, candidates


@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
def test_each_direction_is_what_its_name_says(scored, direction):
    scores, predictions, candidates = scored
    similarity = Cosine().image_from_brain(predictions.predicted, candidates.features)  # (brain, image)
    seen = np.array([candidates.stimulus.tolist().index(s) for s in predictions.stimulus])
    brains = np.arange(40)
    own = similarity[brains, seen]
    axis = {"image_from_brain": 1, "brain_from_image": 0}[direction]
    rival = own[:, None] if axis == 1 else own[np.argsort(seen)][None, :]
    top1 = np.mean((similarity > rival).sum(axis=axis) == 0)
    assert pick(scores.rows, "top1", direction, 40)["value"] == pytest.approx(top1)


def test_both_directions_come_with_every_pool_that_fits(scored):
    rows = scored[0].rows
    own = rows[rows["control"].isna()]
    for direction in ("image_from_brain", "brain_from_image"):
        top1 = own[(own["metric"] == "top1") & (own["direction"] == direction)]
        assert sorted(top1["pool"]) == [5, 20, 40]
        top5 = own[(own["metric"] == "top5") & (own["direction"] == direction)]
        assert sorted(top5["pool"]) == [20, 40]  # 5 of 5 is no answer
    assert {"two_way", "median_rank", "mean_rank", "bits"} <= set(own["metric"])
    top10 = own[(own["metric"] == "top10") & (own["direction"] == "image_from_brain")]
    assert sorted(top10["pool"]) == [20, 40]


@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
def test_top10_and_mean_rank_are_counts_of_ranks(scored, direction):
    """Of the whole pool; there are no ties among these scores."""
    scores, predictions, candidates = scored
    similarity = Cosine().image_from_brain(predictions.predicted, candidates.features)  # (brain, image)
    seen = np.array([candidates.stimulus.tolist().index(s) for s in predictions.stimulus])
    by_image = similarity[np.argsort(seen)]  # the true pairs on the diagonal
    asked = by_image if direction == "image_from_brain" else by_image.T
    ranks = 1 + (asked > np.diag(asked)[:, None]).sum(axis=1)
    assert pick(scores.rows, "top10", direction, 40)["value"] == pytest.approx(np.mean(ranks <= 10))
    assert pick(scores.rows, "mean_rank", direction)["value"] == pytest.approx(ranks.mean())
    assert pick(scores.rows, "median_rank", direction)["value"] == pytest.approx(np.median(ranks))


@pytest.mark.parametrize(
    ("metric", "expected"), [("top10", 10 / 40), ("mean_rank", 20.5), ("median_rank", 20.5)]
)
def test_scores_that_are_all_equal_are_chance_because_ties_count_half(label, settings, metric, expected):
    predictions, candidates = world()
    predictions.predicted = np.ones_like(predictions.predicted)
    flat = SimpleNamespace(
        image_from_brain=lambda p, c: np.zeros((len(p), len(c))),
        brain_from_image=lambda p, c: np.zeros((len(c), len(p))),
    )
    rows = score_decoder(predictions, candidates, flat, label, settings).rows
    for direction in ("image_from_brain", "brain_from_image"):
        row = pick(rows, metric, direction, 40)
        assert row["value"] == pytest.approx(expected) and row["chance"] == pytest.approx(expected)


def test_repeats_of_an_image_are_all_right_and_never_each_others_rivals(label, settings):
    """A strict diagonal over trials, as in the public code of VoxelCLIP, would give a third."""
    predictions, candidates = world(n_images=40, noise=0.0, n_rows=3)
    rows = score_decoder(predictions, candidates, Cosine(), label, settings).rows
    assert pick(rows, "top1", "image_from_brain", 40)["value"] == 1
    assert pick(rows, "mean_rank", "image_from_brain")["value"] == 1
    assert not (rows["direction"] == "brain_from_image").any()  # three right answers: no question


def test_a_pool_that_does_not_fit_is_said(scored):
    note = pick(scored[0].rows, "top1", "image_from_brain", 40)["note"]
    assert "pools 300 skipped: only 40 candidates" in note
    assert pd.isna(pick(scored[0].rows, "top1", "image_from_brain", 20)["note"])


def test_a_good_decoder_beats_its_floors(scored):
    rows = scored[0].rows
    own = pick(rows, "top1", "image_from_brain", 40)
    shuffled = pick(rows, "top1", "image_from_brain", 40, "shuffled")
    assert own["value"] > shuffled["ci_high"]
    assert own["p_value"] == pytest.approx(1 / 201)
    assert own["chance"] == pytest.approx(1 / 40)
    assert pick(rows, "top1", "image_from_brain", 40, "chance")["value"] == pytest.approx(1 / 40)


def test_a_decoder_of_noise_is_at_chance(label, settings):
    predictions, candidates = world(n_images=300, noise=1e6)
    rows = score_decoder(predictions, candidates, Cosine(), label, settings).rows
    for direction in ("image_from_brain", "brain_from_image"):
        row = pick(rows, "two_way", direction)
        assert abs(row["value"] - 0.5) < 4 * np.sqrt(1 / 12 / 300)
        assert row["p_value"] > 0.001


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_a_collapsed_decoder_is_exactly_at_chance(label, settings, value):
    predictions, candidates = world()
    predictions.predicted = np.full_like(predictions.predicted, value)
    rows = score_decoder(predictions, candidates, Gaussian(1.0), label, settings).rows
    for direction in ("image_from_brain", "brain_from_image"):
        assert pick(rows, "top1", direction, 20)["value"] == pytest.approx(1 / 20)
        assert pick(rows, "two_way", direction)["value"] == pytest.approx(0.5)
    assert pick(rows, "profile_correlation")["value"] == 0


def test_bits_come_from_the_posterior_only_where_scores_are_likelihoods(label, settings):
    predictions, candidates = world(n_images=200, n_dims=3, noise=1.0)
    calibrated = replace(label, scoring="likelihood")
    likely = score_decoder(predictions, candidates, Gaussian(1.0), calibrated, settings).rows
    ranked = score_decoder(predictions, candidates, Gaussian(1.0), label, settings).rows
    information = 3 / 2  # 3 dimensions of half a bit
    for direction in ("image_from_brain", "brain_from_image"):
        posterior = pick(likely, "bits", direction)
        error = (posterior["ci_high"] - posterior["ci_low"]) / 4
        assert abs(posterior["value"] - information) < 4 * error + 0.05
        assert 0 < pick(ranked, "bits", direction)["value"] < information


def test_each_direction_may_have_its_own_rule(label, settings):
    class Choice(Gaussian):
        rules = {"image_from_brain": "cosine", "brain_from_image": "likelihood"}  # noqa: RUF012

    predictions, candidates = world(noise=1.0)
    rows = score_decoder(predictions, candidates, Choice(1.0), replace(label, scoring=None), settings).rows
    for direction, rule in Choice.rules.items():
        row = pick(rows, "bits", direction)
        alone = replace(label, scoring=rule)
        peer = score_decoder(predictions, candidates, Gaussian(1.0), alone, settings).rows
        assert row["scoring"] == rule
        assert row["value"] == pick(peer, "bits", direction)["value"]


def test_repeats_of_an_image_count_as_one_item_and_leave_the_other_direction_out(label, settings):
    predictions, candidates = world(n_rows=3)
    scores = score_decoder(predictions, candidates, Cosine(), label, settings)
    row = pick(scores.rows, "top1", "image_from_brain", 40)
    assert row["n"] == 40
    assert "brain_from_image undefined: 120 brains for 40 images" in row["note"]
    assert "brain_from_image" not in set(scores.rows["direction"].dropna())


def test_categories_are_scored_in_blocks_of_runs(label, settings):
    rng = np.random.default_rng(0)
    stimulus, run = np.tile(np.repeat(np.arange(8), 9), 12), np.repeat(np.arange(12), 72)
    predicted = (np.eye(8)[stimulus] + 0.7 * rng.normal(size=(864, 8))).astype(np.float32)
    predictions = SimpleNamespace(
        predicted=predicted, stimulus=stimulus, n_repeats=np.ones(864, int), run=run
    )
    candidates = Candidates(np.eye(8, dtype=np.float32), np.arange(8), np.full(8, 1 / 8))
    rows = score_decoder(predictions, candidates, Gaussian(0.7), label, settings).rows
    row = pick(rows, "top1", "image_from_brain", 8)
    assert row["n"] == 96
    assert row["chance"] == 1 / 8
    assert row["value"] == pytest.approx(np.mean(predicted.argmax(axis=1) == stimulus))
    shuffled = pick(rows, "top1", "image_from_brain", 8, "shuffled")
    assert shuffled["value"] == pytest.approx(1 / 8, abs=0.01)
    assert row["p_value"] == pytest.approx(1 / 201)


def test_duplicated_images_are_ties_and_are_said(label, settings):
    predictions, candidates = world(noise=0.01)
    features = candidates.features.copy()
    features[3] = features[17]
    predictions.predicted = features[np.searchsorted(candidates.stimulus, predictions.stimulus)]
    rows = score_decoder(predictions, candidates._replace(features=features), Cosine(), label, settings).rows
    for direction in ("image_from_brain", "brain_from_image"):
        row = pick(rows, "top1", direction, 40)
        assert row["value"] == pytest.approx(39 / 40)
        assert "1 candidates are identical to another" in row["note"]


def test_features_may_have_more_axes(label, settings):
    predictions, candidates = world(n_dims=12)
    flat = score_decoder(predictions, candidates, Cosine(), label, settings).rows
    shaped = Candidates(
        candidates.features.reshape(40, 2, 2, 3), candidates.stimulus, candidates.train_mean.reshape(2, 2, 3)
    )
    pd.testing.assert_frame_equal(flat, score_decoder(predictions, shaped, Cosine(), label, settings).rows)


def test_single_trials_give_a_noise_ceiling_that_an_unbiased_decoder_reaches(label, settings):
    average, candidates = world(n_images=400, noise=0.0)
    rng = np.random.default_rng(2)
    features = candidates.features[np.searchsorted(candidates.stimulus, average.stimulus)]
    trials = features[:, None] + 1.5 * rng.normal(size=(400, 3, 7))
    average.predicted = trials.mean(axis=1)
    single = SimpleNamespace(predicted=trials.reshape(-1, 7), stimulus=np.repeat(average.stimulus, 3))
    rows = score_decoder(average, candidates, Cosine(), label, settings, single=single).rows
    ceiling = pick(rows, "profile_correlation", control="noise_ceiling")["value"]
    assert ceiling == pytest.approx(np.sqrt(1 / (1 + 1.5**2 / 3)), abs=0.02)
    normalised = pick(rows, "profile_correlation_normalised")
    assert normalised["value"] == pytest.approx(pick(rows, "profile_correlation")["value"] / ceiling)
    assert normalised["value"] == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("repeated", [True, False])
def test_without_repeats_there_is_no_noise_ceiling(label, settings, repeated):
    predictions, candidates = world()
    single = world(n_rows=2 if repeated else 1)[0]
    rows = score_decoder(predictions, candidates, Cosine(), label, settings, single=single).rows
    assert ("profile_correlation_normalised" in set(rows["metric"])) == repeated
    assert ("noise_ceiling" in set(rows["control"].dropna())) == repeated


def test_agreement_carries_no_scoring_rule(scored):
    rows = scored[0].rows
    assert rows.loc[rows["direction"].isna(), "scoring"].isna().all()
    assert (rows.loc[rows["direction"].notna(), "scoring"] == "cosine").all()


def test_limits_become_shares(label, settings):
    predictions, candidates = world()
    limit = {"unit": "average", "metric": "top1", "direction": "image_from_brain", "pool": 40}
    limits = pd.DataFrame([{**limit, "limit_oracle": 0.9, "limit_finite": 0.8}])
    rows = score_decoder(predictions, candidates, Cosine(), label, settings, limits=limits).rows
    row = pick(rows, "top1", "image_from_brain", 40)
    assert row["share_oracle"] == pytest.approx((row["value"] - 1 / 40) / (0.9 - 1 / 40))
    assert pick(rows, "top1", "image_from_brain", 40, "bayes_finite")["value"] == 0.8


def test_validation_rows_have_no_floors(label, settings):
    predictions, candidates = world()
    single = SimpleNamespace(predicted=np.ones((80, 7)), stimulus=np.tile(predictions.stimulus, 2))
    validation = replace(label, control="validation")
    rows = score_decoder(predictions, candidates, Cosine(), validation, settings, single=single).rows
    assert set(rows["control"]) == {"validation"}


def test_rows_and_items_have_their_schemas_and_agree(scored):
    scores = scored[0]
    assert scores.rows.dtypes.astype(str).to_dict() == table.SCHEMA
    assert scores.items.dtypes.astype(str).to_dict() == table.ITEM_SCHEMA
    own = scores.rows[scores.rows["control"].isna() & (scores.rows["metric"] != "median_rank")]
    keys = ["metric", "direction", "pool"]
    of_method = scores.items[scores.items["control"].isna()]
    means = of_method.groupby(keys, dropna=False)["value"].mean().reset_index()
    joined = own.merge(means, on=keys, how="left", suffixes=("", "_of_items"))
    assert_allclose(joined["value"], joined["value_of_items"], atol=1e-9)


def test_the_same_input_gives_the_same_rows(label, settings):
    predictions, candidates = world()
    first, second = (score_decoder(predictions, candidates, Cosine(), label, settings) for _ in range(2))
    pd.testing.assert_frame_equal(first.rows, second.rows)


def test_scoring_leaves_its_input_alone(label, settings):
    predictions, candidates = world()
    before = predictions.predicted.copy(), candidates.features.copy()
    score_decoder(predictions, candidates, Cosine(), label, settings)
    assert np.array_equal(before[0], predictions.predicted)
    assert np.array_equal(before[1], candidates.features)
