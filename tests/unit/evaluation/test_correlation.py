"""Agreement measures against scipy and scikit-learn, and their influence values against the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from percept.evaluation import correlation
from percept.statistics import bootstrap


@pytest.fixture(params=[7, 5000])  # one block of features, and more than one
def world(request):
    rng = np.random.default_rng(3)
    candidates = rng.normal(size=(13, request.param)) + 2
    truth = rng.integers(13, size=31)
    predicted = 0.5 * candidates[truth] + rng.normal(size=(31, request.param))
    return predicted, candidates, truth, rng.normal(size=request.param) + 2


def test_profile_correlation_is_pearson_per_feature(world):
    predicted, candidates, truth, _ = world
    agreement, per_feature = correlation.profile_correlation(predicted, candidates, truth)
    for feature in (0, 3, predicted.shape[1] - 1):
        peer = pearsonr(predicted[:, feature], candidates[truth, feature]).statistic
        assert per_feature[feature] == pytest.approx(peer, abs=1e-12)
    assert agreement.values.mean() == pytest.approx(per_feature.mean(), abs=1e-12)


def test_profile_correlation_of_another_pairing_is_in_the_matrix():
    rng = np.random.default_rng(0)
    candidates, predicted = rng.normal(size=(11, 5)), rng.normal(size=(11, 5))
    agreement, _ = correlation.profile_correlation(predicted, candidates, np.arange(11))
    order = rng.permutation(11)
    _, shuffled = correlation.profile_correlation(predicted, candidates, order)
    assert agreement.if_true[np.arange(11), order].mean() == pytest.approx(shuffled.mean(), abs=1e-12)


def test_profile_correlation_ignores_scale_and_shift(world):
    predicted, candidates, truth, _ = world
    first = correlation.profile_correlation(predicted, candidates, truth)[1]
    second = correlation.profile_correlation(0.01 * predicted + 7, candidates, truth)[1]
    assert_allclose(first, second, atol=1e-9)


def test_features_that_do_not_vary_count_as_zero():
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(9, 4))
    predicted = candidates.copy()
    predicted[:, 1] = 0.1  # not exactly representable: rounding must not look like variation
    candidates[:, 2] = 3.7
    agreement, per_feature = correlation.profile_correlation(predicted, candidates, np.arange(9))
    assert_allclose(per_feature, [1, 0, 0, 1], atol=1e-12)
    assert agreement.values.mean() == pytest.approx(0.5)


def test_influence_values_have_the_spread_of_the_exact_bootstrap():
    rng = np.random.default_rng(8)
    candidates = rng.normal(size=(150, 3))
    predicted = candidates + rng.normal(size=(150, 3))
    rows = np.arange(150)
    agreement, _ = correlation.profile_correlation(predicted, candidates, rows)
    approximate = bootstrap(agreement.values, 2000, rng).std()
    draws = rng.integers(150, size=(600, 150))
    exact = [correlation.profile_correlation(predicted[d], candidates, d)[1].mean() for d in draws]
    assert approximate == pytest.approx(np.std(exact), rel=0.1)


def test_pattern_correlation_is_pearson_per_row_after_removing_the_training_mean(world):
    predicted, candidates, truth, train_mean = world
    agreement = correlation.pattern_correlation(predicted, candidates, truth, train_mean)
    for row in (0, 17, 30):
        for candidate in (0, 12):
            peer = pearsonr(predicted[row] - train_mean, candidates[candidate] - train_mean).statistic
            assert agreement.if_true[row, candidate] == pytest.approx(peer, abs=1e-12)
        assert agreement.values[row] == agreement.if_true[row, truth[row]]


def test_predicting_the_training_mean_has_no_pattern_and_explains_nothing(world):
    _, candidates, truth, train_mean = world
    predicted = np.tile(train_mean, (31, 1))
    assert_allclose(correlation.pattern_correlation(predicted, candidates, truth, train_mean).values, 0)
    variance = correlation.explained_variance(predicted, candidates, truth, train_mean)
    assert variance.values.mean() == pytest.approx(0, abs=1e-12)


def test_explained_variance_is_r2_where_the_training_mean_is_the_test_mean():
    rng = np.random.default_rng(1)
    candidates = rng.normal(size=(29, 1))
    predicted = candidates + 0.3 * rng.normal(size=(29, 1))
    rows = np.arange(29)
    variance = correlation.explained_variance(predicted, candidates, rows, candidates.mean(axis=0))
    assert variance.values.mean() == pytest.approx(r2_score(candidates, predicted), abs=1e-12)


def test_explained_variance_takes_the_training_mean_as_reference(world):
    predicted, candidates, truth, train_mean = world
    residual = ((predicted - candidates[truth]) ** 2).sum()
    total = ((candidates[truth] - train_mean) ** 2).sum()
    variance = correlation.explained_variance(predicted, candidates, truth, train_mean)
    assert variance.values.mean() == pytest.approx(1 - residual / total, abs=1e-9)
    assert variance.if_true[np.arange(31), truth].mean() == pytest.approx(1 - residual / total, abs=1e-9)


def test_the_influence_of_explained_variance_has_the_spread_of_the_bootstrap():
    rng = np.random.default_rng(2)
    candidates = rng.normal(size=(120, 4)) * np.linspace(0.2, 2, 120)[:, None]
    predicted = 0.6 * candidates + 0.4 * rng.normal(size=(120, 4))
    mean = np.zeros(4)
    values = correlation.explained_variance(predicted, candidates, np.arange(120), mean).values
    draws = rng.integers(120, size=(600, 120))
    exact = [correlation.explained_variance(predicted[d], candidates, d, mean).values.mean() for d in draws]
    assert bootstrap(values, 2000, rng).std() == pytest.approx(np.std(exact), rel=0.12)


@given(st.integers(2, 5), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=30)
def test_standardised_rows_have_mean_zero_and_norm_one_at_any_scale(n_rows, shift, scale):
    rows = np.random.default_rng(n_rows).normal(size=(n_rows, 11)) * scale + shift
    block = correlation.standardised_rows(rows).block(slice(None))
    assert_allclose(block.mean(axis=1), 0, atol=1e-6)
    assert_allclose((block**2).sum(axis=1), 1)


@pytest.mark.parametrize("value", [0, 0.1, 255, 1 / 3])
def test_a_row_of_one_value_correlates_with_nothing(value):
    assert_allclose(correlation.standardised_rows(np.full((2, 999), value)).block(slice(None)), 0)


@pytest.mark.parametrize("n_repeats", [2, 3])
def test_reliability_recovers_the_variances_it_was_simulated_with(n_repeats):
    rng = np.random.default_rng(4)
    signal_sd, noise_sd = np.array([1.0, 0.5, 0.0]), np.array([1.0, 2.0, 1.0])
    x = signal_sd * rng.normal(size=(4000, 3))
    single = np.repeat(x, n_repeats, axis=0) + noise_sd * rng.normal(size=(4000 * n_repeats, 3))
    signal, noise = correlation.reliability(single, np.repeat(np.arange(4000), n_repeats))
    assert_allclose(signal, signal_sd**2, atol=0.12)
    assert_allclose(noise, noise_sd**2, rtol=0.06)


def test_reliability_takes_unequal_repeats_and_single_ones():
    rng = np.random.default_rng(6)
    counts = rng.integers(1, 4, size=5000)
    stimulus = np.repeat(np.arange(5000), counts)
    single = rng.normal(size=(5000, 2))[stimulus] + rng.normal(size=(len(stimulus), 2))
    signal, noise = correlation.reliability(single, stimulus)
    assert_allclose(signal, 1, atol=0.1)
    assert_allclose(noise, 1, rtol=0.06)


def test_no_repeat_no_reliability():
    with pytest.raises(ValueError, match="no test image was shown twice"):
        correlation.reliability(np.zeros((4, 2)), np.arange(4))


def test_one_stimulus_has_no_variance_over_stimuli():
    signal, noise = correlation.reliability(np.array([[1.0], [3.0]]), np.array([5, 5]))
    assert (signal[0], noise[0]) == (0, 2)


@pytest.mark.parametrize(("n_repeats", "expected"), [(1, 0.5), (3, 0.75), ([1, 1], 0.5), ([1, 3], 0.6)])
def test_the_noise_ceiling_is_the_root_of_the_reliable_share(n_repeats, expected):
    ceiling = correlation.noise_ceiling(np.ones(2), np.ones(2), n_repeats)
    assert_allclose(ceiling**2, expected)


def test_the_correlation_with_truth_reaches_the_ceiling_for_an_unbiased_decoder():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(3000, 2))
    trials = x[:, None] + 1.5 * rng.normal(size=(3000, 3, 2))
    signal, noise = correlation.reliability(trials.reshape(-1, 2), np.repeat(np.arange(3000), 3))
    ceiling = correlation.noise_ceiling(signal, noise, 3)
    _, found = correlation.profile_correlation(trials.mean(axis=1), x, np.arange(3000))
    assert_allclose(found, ceiling, atol=0.03)


def test_no_variance_no_ceiling():
    assert_allclose(correlation.noise_ceiling(np.zeros(2), np.zeros(2), 3), 0)
