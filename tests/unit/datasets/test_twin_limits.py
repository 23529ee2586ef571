"""Bayes limits: equal to closed forms where there are some, never beaten, chance where nothing is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.datasets.twin import limits, model
from percept.datasets.twin.truth import Truth

N_MODES, N_VOXELS, N_IMAGES = 12, 90, 400


def world(bits=6.0, seed=0, n_images=N_IMAGES, gaussian=True):
    """A Gaussian world without files: features with decaying variance, random weights, solved noise."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_images, N_MODES)) if gaussian else rng.choice((-1.0, 1.0), (n_images, N_MODES))
    x = x * np.arange(1, N_MODES + 1) ** -0.6
    x -= x.mean(axis=0)
    weights = rng.standard_normal((N_VOXELS, N_MODES))
    loadings = rng.standard_normal((N_VOXELS, 3)) / np.sqrt(3)
    voxels = model.Voxels(weights, np.full(N_VOXELS, 20.0), loadings)
    noise = model.solve_noise(voxels, model.covariance(x), bits)
    return Truth(
        weights=weights,
        voxel_index=np.arange(N_VOXELS) * 2,
        mean=np.zeros(N_VOXELS),
        private_sd=noise.private_sd,
        shared=noise.shared,
        limiting=noise.limiting,
        visual=np.ones(N_VOXELS, bool),
        offset=np.zeros((1, N_VOXELS)),
        fisher=model.fisher(weights, noise),
        trials=np.repeat(np.arange(n_images, dtype=np.int32), 3),
        features=x,
        stimulus=np.arange(n_images, dtype=np.int32),
    )


@pytest.fixture(scope="module")
def truth():
    return world()


def value(table, metric, direction="image_from_brain", limit="bayes_oracle", pool=None):
    rows = table[(table["metric"] == metric) & (table["direction"] == direction) & (table["limit"] == limit)]
    rows = rows[rows["pool"] == (rows["pool"].max() if pool is None else pool)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize("bits", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("n", [1, 3])
def test_two_way_equals_the_closed_form_in_a_gaussian_world(bits, n):
    """8.3: with features drawn anew for every test set, so that the population is Gaussian, not a sample."""
    truth = world(bits)
    covariance = truth.population
    rng = np.random.default_rng(3)
    root = np.linalg.cholesky(covariance)
    wins = []
    for _ in range(120):
        test = rng.standard_normal((60, N_MODES)) @ root.T
        scores, _ = limits.Oracle(truth.fisher, test, np.full(60, float(n)), test[:2]).scores(rng)
        found = {one["metric"]: one["value"] for one in limits.metrics(scores, [60])}
        wins.append(found["two_way"])
    closed = limits.two_way_closed(n * limits.eigen_snr(covariance, truth.fisher))
    assert abs(np.mean(wins) - closed) < 4 * np.std(wins) / np.sqrt(len(wins))


@pytest.mark.parametrize(
    ("s", "two_way"), [(0.3, 0.713), (1, 0.840), (3, 0.948), (10, 0.996), (30, 1.000)], ids=str
)
def test_the_closed_form_reproduces_published_values(s, two_way):
    assert limits.two_way_closed(s * np.arange(1, 65) ** -1.5) == pytest.approx(two_way, abs=6e-4)


@pytest.mark.parametrize("snr", [1e-3, 0.5, 40.0])
def test_the_closed_form_agrees_with_quadrature_in_one_dimension(snr):
    """P(|z - x'| > |z - x|) for one feature, integrated over target and distractor by another route."""
    from scipy.stats import norm

    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    gap = np.abs(nodes[:, None] - nodes[None]) * np.sqrt(snr)  # scaled distance of two images
    # the target's own noise decides: it wins with probability Phi(gap / 2)
    direct = (weights[:, None] * weights[None] * norm.cdf(gap / 2)).sum()
    assert limits.two_way_closed([snr]) == pytest.approx(direct, abs=4e-3)


def test_without_information_both_directions_are_at_chance(truth):
    blind = replace(truth, fisher=truth.fisher * 1e-12)
    table = limits.retrieval_limits(blind, np.arange(40), 3, (10,), n_draws=200)
    for direction in limits.DIRECTIONS:
        for metric, pool, chance in (
            ("top1", 10, 0.1),
            ("top5", 10, 0.5),
            ("top10", 40, 0.25),
            ("mean_rank", 40, 20.5),
            ("top1", 40, 1 / 40),
            ("two_way", 40, 0.5),
        ):
            row = value(table, metric, direction, pool=pool)
            assert abs(row["value"] - chance) < 4 * row["se"] + 1e-9
        assert value(table, "bits", direction)["value"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("limit", ["bayes_oracle", "bayes_finite"])
@pytest.mark.parametrize("direction", limits.DIRECTIONS)
def test_limits_rise_with_repeats(truth, limit, direction):
    tables = [
        limits.retrieval_limits(truth, np.arange(80), n, (), train=truth.trials, n_draws=60)
        for n in (1, 3, 9)
    ]
    for metric in ("top1", "two_way", "bits"):
        values = [value(table, metric, direction, limit)["value"] for table in tables]
        assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("direction", limits.DIRECTIONS)
def test_limits_rise_with_the_bits_of_the_world(direction):
    tables = [limits.retrieval_limits(world(bits), np.arange(80), 3, (), n_draws=60) for bits in (2, 5, 8)]
    values = [value(table, "top1", direction)["value"] for table in tables]
    assert values[0] < values[1] < values[2]
    assert [value(table, "top1")["information"] for table in tables] == pytest.approx([2, 5, 8], abs=1e-5)


@pytest.mark.parametrize("direction", limits.DIRECTIONS)
def test_who_has_to_learn_stays_below_who_knows_and_comes_near_with_many_trials(truth, direction):
    test = np.arange(100)
    scores = []
    for n_trials in (30, 300, 30_000):
        train = np.resize(np.arange(100, N_IMAGES), n_trials)
        table = limits.retrieval_limits(truth, test, 3, (), train=train, n_draws=80)
        scores.append(value(table, "bits", direction, "bayes_finite"))
    known = value(table, "bits", direction)
    assert scores[0]["value"] < scores[1]["value"] < known["value"]
    assert abs(scores[2]["value"] - known["value"]) < 4 * np.hypot(scores[2]["se"], known["se"]) + 0.02


def test_information_bounds_the_bits_of_any_observer(truth):
    table = limits.retrieval_limits(truth, np.arange(100), 3, (), train=truth.trials, n_draws=60)
    for direction in limits.DIRECTIONS:
        assert value(table, "bits", direction)["value"] < min(np.log2(100), truth.information(3)) + 0.1


def simulate(truth, stimuli, n, rng):
    """Mean responses to images, (image, voxel), from the full noise model."""
    noise = truth.signal_noise
    xi, factors, private = (rng.standard_normal((n, len(stimuli), size)) for size in (N_MODES, 3, N_VOXELS))
    perturbed = truth.rows(stimuli) + xi @ np.linalg.cholesky(noise.limiting).T
    trials = perturbed @ truth.weights.T + factors @ noise.shared.T + private * noise.private_sd
    return trials.mean(axis=0)


@pytest.mark.parametrize("direction", limits.DIRECTIONS)
def test_feature_space_simulation_equals_the_observer_in_voxels(truth, direction):
    """Scores from simulated voxels with the dense noise covariance: no sufficient statistic, no shortcut."""
    rng = np.random.default_rng(9)
    noise, test = truth.signal_noise, np.arange(60)
    dense = np.diag(noise.private_sd**2) + noise.shared @ noise.shared.T
    inverse = np.linalg.inv(dense + truth.weights @ noise.limiting @ truth.weights.T)
    everything = truth.features @ truth.weights.T
    values = []
    for _ in range(60):
        y = simulate(truth, test, 3, rng)
        energy = ((everything @ inverse) * everything).sum(axis=1)
        log_likelihood = 3 * (y @ inverse @ everything.T - energy / 2)  # (brain, image), + a constant of y
        scores = log_likelihood[:, test]
        if direction == "brain_from_image":
            scores = (scores - limits._log_mean_exp(log_likelihood)[:, None]).T
        values.append(limits.metrics(scores, [60])[0]["value"])
    row = value(limits.retrieval_limits(truth, test, 3, (), n_draws=200), "top1", direction)
    assert abs(np.mean(values) - row["value"]) < 4 * np.hypot(np.std(values) / np.sqrt(60), row["se"])


@pytest.mark.parametrize(("rule", "below"), [("likelihood", 0.0), ("cosine", 0.02)])
def test_no_decoder_passes_the_limit(truth, rule, below):
    """Ridge fitted on simulated trials, scored by cosine or by a calibrated Gaussian likelihood."""
    rng = np.random.default_rng(4)
    train, test = np.arange(100, N_IMAGES), np.arange(100)
    values = []
    for _ in range(10):
        y, probe = simulate(truth, train, 3, rng), simulate(truth, test, 3, rng)
        x, gram = truth.rows(train), y.T @ y + 2000 * np.eye(N_VOXELS)
        hat = probe @ np.linalg.solve(gram, y.T @ x)
        fitted = y @ np.linalg.solve(gram, y.T @ x)
        candidates = truth.rows(test)
        if rule == "cosine":
            scores = (hat / np.linalg.norm(hat, axis=1, keepdims=True)) @ (
                candidates / np.linalg.norm(candidates, axis=1, keepdims=True)
            ).T
        else:
            slope = np.linalg.lstsq(x, fitted, rcond=None)[0]
            precision = np.linalg.inv(np.cov((fitted - x @ slope).T))
            means = candidates @ slope
            scores = hat @ precision @ means.T - np.einsum("im,mk,ik->i", means, precision, means) / 2
        values.append(limits.metrics(scores, [100])[0]["value"])
    table = limits.retrieval_limits(truth, test, 3, (), train=np.repeat(train, 3), n_draws=100)
    for limit in ("bayes_oracle", "bayes_finite"):
        row = value(table, "top1", limit=limit)
        assert np.mean(values) < row["value"] - below + 3 * np.hypot(np.std(values) / np.sqrt(10), row["se"])
    assert np.mean(values) > 20 / 100  # far above chance, so the comparison is one


def test_swapping_the_direction_changes_the_number():
    """Unequal repeats and non-Gaussian features make the two questions different ones."""
    truth = world(5, gaussian=False)
    repeats = np.where(np.arange(120) < 60, 1, 12)
    table = limits.retrieval_limits(truth, np.arange(120), repeats, (), n_draws=150)
    forward, back = (value(table, "top1", direction) for direction in limits.DIRECTIONS)
    assert abs(forward["value"] - back["value"]) > 4 * np.hypot(forward["se"], back["se"])


def test_subtracting_the_marginal_is_what_finds_the_right_brain(truth):
    rng = np.random.default_rng(5)
    population = truth.features
    n_repeats = np.resize((1.0, 3.0), 100)
    oracle = limits.Oracle(truth.fisher, population[:100], n_repeats, population)
    raw, corrected = [], []
    for _ in range(40):
        scores, everything = oracle.scores(rng)
        raw.append(limits.metrics(scores.T, [100])[0]["value"])
        corrected.append(
            limits.metrics((scores - limits._log_mean_exp(everything)[:, None]).T, [100])[0]["value"]
        )
    assert np.mean(corrected) > 1.5 * np.mean(raw)


def test_fewer_voxels_carry_less_and_fewer_than_modes_still_work(truth):
    tops, bits = [], []
    for n in (N_VOXELS, 30, 5):
        part = truth.select(np.arange(n))
        bits.append(part.information(3))
        table = limits.retrieval_limits(part, np.arange(80), 3, (), train=truth.trials, n_draws=60)
        tops.append([value(table, "top1", limit=name)["value"] for name in ("bayes_oracle", "bayes_finite")])
    assert bits[0] > bits[1] > bits[2] > 0
    assert (np.diff(np.array(tops), axis=0) < 0).all()


@given(n_pools=st.lists(st.integers(2, 40), max_size=4), n=st.integers(6, 40))
@settings(max_examples=10, deadline=None)
def test_every_pool_that_fits_and_the_whole_set_are_reported(truth, n_pools, n):
    table = limits.retrieval_limits(truth, np.arange(n), 2, n_pools, n_draws=8)
    top1 = table[(table["metric"] == "top1") & (table["direction"] == "image_from_brain")]
    assert sorted(top1["pool"]) == sorted({pool for pool in n_pools if pool <= n} | {n})
    assert (np.diff(top1.sort_values("pool")["value"]) <= 1e-12).all()  # a larger pool never helps


def test_the_wide_table_has_one_row_per_question(truth):
    table = limits.retrieval_limits(
        truth, np.arange(40), 1, (10,), train=truth.trials, unit="single", n_draws=8
    )
    wide = limits.wide(table)
    assert list(wide) == ["unit", "metric", "direction", "pool", "limit_oracle", "limit_finite"]
    assert (
        not wide.duplicated(["unit", "metric", "direction", "pool"]).any()
        and (wide["unit"] == "single").all()
    )
    row = wide[(wide["metric"] == "top1") & (wide["direction"] == "image_from_brain") & (wide["pool"] == 10)]
    assert row["limit_finite"].item() == value(table, "top1", limit="bayes_finite", pool=10)["value"]


@pytest.fixture(scope="module")
def trials():
    """300 images train, 40 validate, 60 test, some of these shown less often."""
    stimulus = np.concatenate(
        [np.repeat(np.arange(340), 3), np.repeat(np.arange(340, 400), np.resize([3, 2, 1], 60))]
    )
    split = np.select([stimulus < 300, stimulus < 340], ["train", "validation"], "test")
    return pd.DataFrame({"stimulus": stimulus, "split": split}).sample(frac=1, random_state=0)


def test_limits_of_a_split_use_its_test_images_repeats_and_training_trials(truth, trials):
    table = limits.of_units(truth, trials, (10,), ("average", "single"), seed=3)
    n = np.resize([3, 2, 1], 60)
    direct = limits.retrieval_limits(
        truth, np.arange(340, 400), n, (10,), train=np.repeat(np.arange(340), 3), seed=3
    )
    for limit, column in (("bayes_oracle", "limit_oracle"), ("bayes_finite", "limit_finite")):
        for direction in limits.DIRECTIONS:
            row = table.query(
                "unit == 'average' and metric == 'top1' and pool == 10 and direction == @direction"
            )
            expected = value(direct, "top1", direction, limit, pool=10)
            assert abs(row[column].item() - expected["value"]) < 5 * expected["se"]


def test_which_brain_is_no_question_where_an_image_has_several_single_trials(truth, trials):
    table = limits.of_units(truth, trials, (10,), ("average", "single", "run"))
    asked = {unit: set(rows["direction"]) for unit, rows in table.groupby("unit")}
    assert asked == {"average": set(limits.DIRECTIONS), "single": {"image_from_brain"}}


@pytest.mark.parametrize(("units", "n_rows"), [((), 0), (("run",), 0), (("average",), 20)])
def test_units_without_a_limit_give_no_row(truth, trials, units, n_rows):
    table = limits.of_units(truth, trials, (10,), units)
    assert len(table) == n_rows and list(table)[-2:] == ["limit_oracle", "limit_finite"]


def test_without_one_training_set_only_the_oracle_has_a_limit(truth, trials):
    table = limits.of_units(truth, trials[trials["split"] == "test"], (10,), ("average",))
    assert table["limit_finite"].isna().all() and table["limit_oracle"].notna().all()


def test_a_split_without_test_trials_is_refused(truth, trials):
    with pytest.raises(ValueError, match="no test trial"):
        limits.of_units(truth, trials[trials["split"] == "train"], (10,), ("average",))


def test_the_same_seed_gives_the_same_table(truth):
    first, second, other = (
        limits.retrieval_limits(truth, np.arange(30), 2, (10,), train=truth.trials, n_draws=8, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.equals(second) and not first.equals(other)


@pytest.mark.parametrize(
    ("stimulus", "n_repeats", "message"),
    [
        ([3, 3, 4], 1, "2 of them distinct"),
        ([3], 1, "at least two"),
        ([3, 4], 0, "an image with 0 trials"),
        ([3, 99_999], 1, "no image 99999"),
    ],
)
def test_impossible_test_sets_are_refused(truth, stimulus, n_repeats, message):
    with pytest.raises(ValueError, match=message):
        limits.retrieval_limits(truth, stimulus, n_repeats, ())
