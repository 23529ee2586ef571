"""Statistics against closed forms, enumeration, scipy, and their own coverage."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats

from percept.statistics import (
    benjamini_hochberg,
    bootstrap,
    bootstrap_interval,
    expected_topk,
    hierarchical_bootstrap,
    normal_quantile,
    paired_comparison,
    pairing_mean,
    pairing_null,
    percentile_interval,
    permutation_p,
    resamples,
    shuffled_items,
    standard_error,
)

NDRAWS = 400


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@st.composite
def ranks(draw, max_items=300):
    n_items = draw(st.integers(2, max_items))
    better = draw(st.integers(0, n_items - 1))
    ties = draw(st.integers(0, n_items - 1 - better))
    return n_items, better, ties


@pytest.mark.parametrize("n_items", [2, 7, 982])
@pytest.mark.parametrize("k", [1, 5])
def test_a_decoder_that_knows_nothing_scores_k_over_pool(n_items, k):
    every_rank = np.arange(n_items)  # chance: all ranks equally likely
    for pool in {1, 2, n_items}:
        success = expected_topk(every_rank, np.zeros(n_items, int), n_items, pool, k).mean()
        assert_allclose(success, min(1, k / pool), rtol=1e-11)


@pytest.mark.parametrize("pool", [1, 2, 5, 50, 982])
@pytest.mark.parametrize("k", [1, 5])
def test_a_collapsed_decoder_scores_exactly_chance(pool, k):
    assert_allclose(expected_topk(0, 981, 982, pool, k), min(1, k / pool), rtol=1e-11)


@pytest.mark.parametrize("pool", [1, 2, 50, 300, 982])
@pytest.mark.parametrize("k", [1, 5, 10])
def test_agrees_with_the_hypergeometric_distribution_of_scipy(pool, k):
    better = np.arange(982)
    peer = stats.hypergeom.cdf(k - 1, 981, better, pool - 1)  # fewer than k better ones among the draws
    mine = expected_topk(better, np.zeros(982, int), 982, pool, k)
    assert_allclose(mine, peer, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("better", "ties"), [(0, 0), (0, 2), (2, 0), (1, 3), (3, 2), (0, 5)])
@pytest.mark.parametrize("k", [1, 2])
def test_equals_the_enumeration_of_all_pools_and_orders_of_ties(better, ties, k):
    n_items, pool = 6, 4
    success = []
    for ahead in range(ties + 1):  # every place of the true item among its ties is equally likely
        for drawn in combinations(range(n_items - 1), pool - 1):
            success.append(sum(item < better + ahead for item in drawn) < k)
    assert_allclose(expected_topk(better, ties, n_items, pool, k), np.mean(success), rtol=1e-12)


@given(ranks=ranks(), data=st.data())
def test_a_larger_pool_never_helps(ranks, data):
    n_items, better, ties = ranks
    pool, k = data.draw(st.integers(1, n_items - 1)), data.draw(st.integers(1, 6))
    smaller = expected_topk(better, ties, n_items, pool, k)
    larger = expected_topk(better, ties, n_items, pool + 1, k)
    assert 0 <= larger <= smaller + 1e-12 <= 1 + 1e-12


@given(ranks=ranks(), data=st.data())
def test_more_chances_or_fewer_rivals_never_hurt(ranks, data):
    n_items, better, ties = ranks
    pool, k = data.draw(st.integers(1, n_items)), data.draw(st.integers(1, 6))
    success = expected_topk(better, ties, n_items, pool, k)
    assert success <= expected_topk(better, ties, n_items, pool, k + 1) + 1e-12
    assert success <= expected_topk(max(better - 1, 0), ties, n_items, pool, k) + 1e-12


@given(ranks=ranks())
def test_in_pools_of_two_a_tie_counts_half(ranks):
    n_items, better, ties = ranks
    half = 1 - (better + ties / 2) / (n_items - 1)
    assert_allclose(expected_topk(better, ties, n_items, 2, 1), half, atol=1e-12)


@pytest.mark.parametrize(
    ("better", "pool", "k", "message"),
    [
        (0, 0, 1, "a retrieval pool of 0 does not fit 4 candidates: set `evaluation.retrieval.pools`"),
        (0, 5, 1, "from 1 to 4"),
        (0, 2, 0, "top-k needs k of at least 1"),
        (4, 2, 1, "between 0 and 3 together"),
        (-1, 2, 1, "between 0 and 3 together"),
    ],
)
def test_impossible_requests_are_named(better, pool, k, message):
    with pytest.raises(ValueError, match=message):
        expected_topk(np.array([better]), np.array([0]), 4, pool, k)


@pytest.mark.parametrize("n_items", [3, 11, 1000])
def test_each_resample_draws_as_many_items_as_there_are(n_items, rng):
    weights = np.concatenate(list(resamples(n_items, 50, rng)))
    assert weights.shape == (50, n_items)
    assert_allclose(weights.sum(axis=1), n_items)


def test_large_resamples_come_in_blocks_of_bounded_memory(rng):
    blocks = list(resamples(9000, 2000, rng))
    assert sum(map(len, blocks)) == 2000
    assert max(block.size for block in blocks) <= 1 << 24


def test_the_spread_of_the_bootstrap_is_the_standard_error_of_the_mean(rng):
    values = rng.normal(size=200)
    draws = bootstrap(values, 4000, rng)
    assert_allclose(draws.std(), values.std() / np.sqrt(200), rtol=0.06)
    assert_allclose(draws.mean(), values.mean(), atol=4 * values.std() / np.sqrt(200 * 4000))


@pytest.mark.parametrize("n_items", [1, 2, 5, 8, 11])
def test_the_weighted_median_is_the_median_of_the_resample(n_items):
    values = np.random.default_rng(3).normal(size=(n_items, 2))
    draws = bootstrap(values, 30, np.random.default_rng(7), "median")
    weights = np.concatenate(list(resamples(n_items, 30, np.random.default_rng(7)))).astype(int)
    expected = [np.median(np.repeat(values, w, axis=0), axis=0) for w in weights]
    assert_allclose(draws, expected)


def test_columns_of_one_bootstrap_share_their_resamples(rng):
    values = rng.normal(size=30)
    draws = bootstrap(np.stack([values, -2 * values], axis=1), 20, rng)
    assert_allclose(draws[:, 1], -2 * draws[:, 0])


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_item_interval_covers_the_truth_as_often_as_it_says(confidence, rng):
    inside = 0
    for _ in range(NDRAWS):
        low, high = bootstrap_interval(rng.random(60) < 0.7, 300, confidence, rng)[1:3]
        inside += low <= 0.7 <= high
    error = np.sqrt(confidence * (1 - confidence) / NDRAWS)
    assert abs(inside / NDRAWS - confidence) < 4 * error + 0.02  # the percentile interval is slightly narrow


def test_an_interval_reports_value_and_number_of_items(rng):
    interval = bootstrap_interval(np.array([0.0, 1.0, 1.0, 5.0]), rng=rng, statistic="median")
    assert (interval.value, interval.n) == (1.0, 4)
    assert interval.low <= 1.0 <= interval.high


def test_the_same_seed_gives_the_same_interval():
    values = np.arange(11.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_no_item_is_an_error():
    with pytest.raises(ValueError, match="no item to resample"):
        bootstrap_interval(np.array([]))


def test_pairing_finds_a_difference_that_overlapping_intervals_hide(rng):
    difficulty = rng.random(300)
    first, second = difficulty + 0.02 + 0.01 * rng.normal(size=300), difficulty
    alone = bootstrap_interval(first, rng=rng).low < bootstrap_interval(second, rng=rng).high
    paired = paired_comparison(first, second, rng=rng)
    assert alone
    assert paired.low > 0
    assert paired.p_value == pytest.approx(1 / 1001)
    assert paired.difference == pytest.approx((first - second).mean())


def test_equal_methods_differ_significantly_as_rarely_as_they_should(rng):
    p = [paired_comparison(rng.random(40), rng.random(40), 99, 0.95, rng).p_value for _ in range(NDRAWS)]
    assert abs(np.mean(np.array(p) <= 0.1) - 0.1) < 4 * np.sqrt(0.09 / NDRAWS)


def test_a_method_compared_with_itself_has_p_one():
    values = np.random.default_rng(0).random(17)
    assert paired_comparison(values, values) == (0.0, 0.0, 0.0, 1.0, 17)


def test_unpaired_items_cannot_be_compared():
    with pytest.raises(ValueError, match="needs the same items for both methods"):
        paired_comparison(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(("observed", "p"), [(3.0, 0.2), (2.0, 0.4), (0.0, 1.0)])
def test_the_permutation_p_counts_ties_and_the_observed_value(observed, p):
    assert permutation_p(observed, np.array([0.0, 1.0, 1.5, 2.0])) == pytest.approx(p)


def test_the_pairing_null_over_all_permutations_has_the_mean_of_the_matrix(rng):
    value = rng.random((4, 5))
    truth = np.array([0, 2, 3, 4])
    null = pairing_null(value, truth, np.array(list(permutations(range(4)))))
    assert_allclose(null[0], value[np.arange(4), truth].mean())
    assert_allclose(null.mean(), value[:, truth].mean())


def test_the_mean_of_the_pairing_null_is_that_of_all_permutations(rng):
    value, truth = rng.random((4, 5)), np.array([0, 2, 3, 4])
    null = pairing_null(value, truth, np.array(list(permutations(range(4)))))
    assert pairing_mean(value, truth) == pytest.approx(null.mean(), abs=1e-12)


def test_the_mean_of_the_pairing_null_keeps_to_the_strata(rng):
    value, truth, strata = rng.random((5, 6)), np.array([5, 0, 2, 3, 4]), np.array([7, 1, 7, 1, 1])
    within = [s for s in permutations(range(5)) if (strata[list(s)] == strata).all()]
    assert len(within) == 12
    null = pairing_null(value, truth, np.array(within))
    assert pairing_mean(value, truth, strata) == pytest.approx(null.mean(), abs=1e-12)


def test_the_pairing_null_can_take_the_median():
    value = np.arange(12.0).reshape(3, 4)
    null = pairing_null(value, np.array([0, 1, 2]), np.array([[0, 1, 2], [2, 1, 0]]), "median")
    assert_allclose(null, [5.0, 5.0])


def test_the_p_value_of_a_useless_method_is_uniform(rng):
    truth, p = np.arange(25), []
    for _ in range(NDRAWS):
        value = rng.random((25, 25))
        null = pairing_null(value, truth, shuffled_items(25, 19, rng))
        p.append(permutation_p(np.diag(value).mean(), null))
    assert abs(np.mean(np.array(p) <= 0.2) - 0.2) < 4 * np.sqrt(0.16 / NDRAWS)


def test_shuffles_stay_within_their_stratum(rng):
    strata = np.array([3, 1, 3, 1, 1, 7, 3])
    shuffles = shuffled_items(7, 200, rng, strata)
    assert np.all(np.sort(shuffles, axis=1) == np.arange(7))
    assert np.all(strata[shuffles] == strata)
    assert len(np.unique(shuffles, axis=0)) == 36  # 3! x 3! x 1!, all of them seen


def test_shuffles_without_strata_reach_every_order(rng):
    assert len(np.unique(shuffled_items(4, 1000, rng), axis=0)) == 24


@pytest.mark.parametrize("crossed", [False, True])
def test_one_subject_has_the_interval_of_its_items(crossed):
    values = np.random.default_rng(1).random(50)
    mean = hierarchical_bootstrap([values], 2000, crossed=crossed)
    alone = bootstrap_interval(values, 2000)
    assert mean.n == 1
    assert_allclose(mean[:3], alone[:3], atol=0.01)


@pytest.mark.parametrize("crossed", [False, True])
def test_the_spread_over_subjects_adds_variance_of_subjects_and_of_items(crossed, rng):
    n_subjects, n_items = 6, 40
    level = np.linspace(0, 1, n_subjects)
    values = level[:, None] + rng.normal(size=(n_subjects, n_items))
    interval = hierarchical_bootstrap(list(values), 4000, crossed=crossed)
    between = values.mean(axis=1).var() / n_subjects
    within = values.var(axis=1).mean() / n_items / n_subjects
    within = values.mean(axis=0).var() / n_items if crossed else within
    expected = np.sqrt(between + within)
    assert standard_error(interval.low, interval.high) == pytest.approx(expected, rel=0.15)
    assert interval.value == pytest.approx(values.mean())


def test_items_that_are_hard_for_all_subjects_widen_the_crossed_interval(rng):
    shared = rng.normal(size=30)
    values = [shared + 0.01 * rng.normal(size=30) for _ in range(8)]
    nested = hierarchical_bootstrap(values)
    crossed = hierarchical_bootstrap(values, crossed=True)
    ratio = (crossed.high - crossed.low) / (nested.high - nested.low)
    assert ratio == pytest.approx(np.sqrt(8), rel=0.25)


def test_subjects_may_have_different_numbers_of_items(rng):
    interval = hierarchical_bootstrap([np.zeros(3), np.ones(9)])
    assert interval.value == 0.5
    assert (interval.low, interval.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("values", "crossed", "message"),
    [
        ([], False, "at least one subject"),
        ([np.zeros(2), np.zeros(0)], False, "at least one item"),
        ([np.zeros(2), np.zeros(3)], True, "cannot share one draw"),
    ],
)
def test_a_mean_over_nothing_is_an_error(values, crossed, message):
    with pytest.raises(ValueError, match=message):
        hierarchical_bootstrap(values, crossed=crossed)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(deadline=None)
def test_false_discovery_rates_agree_with_scipy(p_values):
    assert_allclose(benjamini_hochberg(p_values), stats.false_discovery_control(p_values), atol=1e-12)


def test_missing_p_values_stay_missing_and_count_for_nothing():
    adjusted = benjamini_hochberg([0.01, np.nan, 0.04])
    assert_allclose(adjusted, [0.02, np.nan, 0.04])


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_a_normal_interval_returns_its_standard_error(confidence):
    half = stats.norm.ppf((1 + confidence) / 2) * 0.3
    assert standard_error(1 - half, 1 + half, confidence) == pytest.approx(0.3)


def test_the_normal_quantile_is_that_of_scipy():
    assert normal_quantile(0.975) == pytest.approx(stats.norm.ppf(0.975))


def test_a_percentile_interval_is_central():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))
