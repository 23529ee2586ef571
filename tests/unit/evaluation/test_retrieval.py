"""Retrieval against hand-counted tables, closed forms and simulation."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from percept.evaluation import retrieval
from percept.evaluation.retrieval import Ranks, rank, rank_all

from .worlds import Cosine, Gaussian

# Rows are brains, columns images. Brains 0, 1, 2 saw images 0, 1, 2, and all prefer image 1.
ASYMMETRIC = np.array([[5.0, 6.0, 0.0], [1.0, 7.0, 2.0], [4.0, 8.0, 3.0]])


class Table:
    def __init__(self, brains_by_images):
        self.scores = np.asarray(brains_by_images)

    def image_from_brain(self, predicted, candidates):
        return self.scores

    def brain_from_image(self, predicted, candidates):
        return self.scores.T


def ask(direction, table=ASYMMETRIC, stimulus=(10, 11, 12), shown=(10, 11, 12)):
    scorer = Table(table)
    n_brains, n_images = scorer.scores.shape
    arrays_ = (np.zeros((n_brains, 4)), np.array(stimulus), np.eye(n_images, 4), np.array(shown))
    return getattr(retrieval, direction)(scorer, *arrays_)


@pytest.mark.parametrize(
    ("direction", "top1", "two_way", "ranks"),
    [
        ("image_from_brain", [0, 1, 0], [0.5, 1, 0], [2, 1, 3]),
        ("brain_from_image", [1, 0, 1], [1, 0.5, 1], [1, 2, 1]),
    ],
)
def test_each_direction_gives_the_numbers_counted_by_hand(direction, top1, two_way, ranks):
    question = ask(direction)
    found = rank(question.scores, question.truth, question.identical)
    assert question.direction == direction
    assert_allclose(retrieval.top_k(found, 3, 1), top1)
    assert_allclose(retrieval.two_way(found), two_way)
    assert_allclose(retrieval.expected_rank(found), ranks)


def test_rows_ask_and_columns_are_ranked():
    images, brains = ask("image_from_brain"), ask("brain_from_image")
    assert_array_equal(images.scores, ASYMMETRIC)
    assert_array_equal(brains.scores, ASYMMETRIC.T)
    assert_array_equal(images.stimulus, [10, 11, 12])


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
def test_the_order_of_the_brains_changes_nothing(direction, order):
    order = list(order)
    stimulus = np.array([10, 11, 12])[order]
    question = ask(direction, ASYMMETRIC[order], stimulus)
    found = dict(zip(question.stimulus, rank(question.scores, question.truth).better, strict=True))
    expected = {"image_from_brain": {10: 1, 11: 0, 12: 2}, "brain_from_image": {10: 0, 11: 1, 12: 0}}
    assert found == expected[direction]


def test_images_may_be_more_than_brains_but_then_only_brains_can_ask():
    table = np.column_stack([ASYMMETRIC, [9.0, 9.0, 9.0]])
    question = ask("image_from_brain", table, shown=(10, 11, 12, 13))
    assert_array_equal(rank(question.scores, question.truth).better, [2, 1, 3])
    assert ask("brain_from_image", table, shown=(10, 11, 12, 13)) is None


def test_several_brains_per_image_leave_brain_from_image_undefined():
    table = ASYMMETRIC[[0, 1, 2, 0]]
    assert ask("brain_from_image", table, stimulus=(10, 11, 12, 10)) is None
    assert_array_equal(ask("image_from_brain", table, stimulus=(10, 11, 12, 10)).truth, [0, 1, 2, 0])


@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
def test_a_transposed_scoring_rule_is_refused_where_shapes_tell(direction):
    class Transposed(Cosine):
        def image_from_brain(self, predicted, candidates):
            return np.zeros((len(candidates), len(predicted)))

        def brain_from_image(self, predicted, candidates):
            return np.zeros((len(predicted), len(candidates) + 1))

    stimulus = np.array([1, 2, 2]) if direction == "image_from_brain" else np.array([1, 2])
    with pytest.raises(ValueError, match=f"`{direction}` needs scores of axes"):
        getattr(retrieval, direction)(
            Transposed(), np.zeros((len(stimulus), 4)), stimulus, np.eye(2, 4), np.array([1, 2])
        )


@pytest.mark.parametrize(
    ("stimulus", "shown", "message"),
    [
        ((10, 11, 99), (10, 11, 12), r"1 stimuli are not in the pool of candidates \(the first: \[99\]\)"),
        ((10, 11, 12), (10, 11, 11), r"stimuli \[11\] stand in the pool more than once"),
    ],
)
def test_a_pool_without_the_answer_is_refused(stimulus, shown, message):
    with pytest.raises(ValueError, match=message):
        ask("image_from_brain", stimulus=stimulus, shown=shown)


@pytest.mark.parametrize("count", [rank_all, lambda scores: rank(scores, np.array([0, 1, 2]))])
def test_scores_that_are_not_numbers_are_refused(count):
    scores = ASYMMETRIC.copy()
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 3 queries have scores that are not numbers"):
        count(scores)


@given(arrays(np.int8, st.tuples(st.integers(1, 7), st.integers(2, 9)), elements=st.integers(0, 3)))
@settings(deadline=None)
def test_ranks_of_all_candidates_are_the_ranks_of_each(scores):
    every = rank_all(scores.astype(float))
    for column in range(scores.shape[1]):
        one = rank(scores.astype(float), np.full(len(scores), column))
        assert_array_equal(every.better[:, column], one.better)
        assert_array_equal(every.ties[:, column], one.ties)


@given(arrays(np.int8, st.tuples(st.integers(1, 6), st.integers(6, 9)), elements=st.integers(-2, 2)))
@settings(deadline=None)
def test_over_all_candidates_every_metric_is_at_chance(scores):
    every = rank_all(scores.astype(float))
    assert_allclose(retrieval.two_way(every).mean(axis=1), 0.5)
    assert_allclose(retrieval.expected_rank(every).mean(axis=1), (scores.shape[1] + 1) / 2)
    for pool in (2, scores.shape[1]):
        assert_allclose(retrieval.top_k(every, pool, 1).mean(axis=1), 1 / pool)


@given(arrays(np.float64, (4, 6), elements=st.floats(-5, 5)), st.floats(0.1, 9))
@settings(deadline=None)
def test_only_the_order_of_scores_matters(scores, factor):
    scores = np.round(scores, 3)
    truth = np.array([3, 0, 5, 3])
    plain, stretched = rank(scores, truth), rank(np.round(np.exp(scores / 5) * factor, 9), truth)
    assert_array_equal(plain.better, stretched.better)


@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
def test_an_identical_image_is_a_tie_whatever_its_score(direction):
    features = np.eye(4)[[0, 1, 2, 0]]  # images 0 and 3 are the same
    scores = np.full((4, 4), -9.0)
    np.fill_diagonal(scores, 1.0)
    scores[0, 3] = scores[3, 0] = 1.0 + 1e-7  # rounding of a matrix product
    question = getattr(retrieval, direction)(
        Table(scores), np.zeros((4, 2)), np.array([4, 5, 6, 7]), features, np.array([4, 5, 6, 7])
    )
    found = rank(question.scores, question.truth, question.identical)
    assert_array_equal(found.better, [0, 0, 0, 0])
    assert_array_equal(found.ties, [1, 0, 0, 1])
    assert_allclose(retrieval.top_k(found, 4, 1), [0.5, 1, 1, 0.5])


def test_identical_images_are_recognised_among_shuffled_brains():
    features, shown = np.eye(4)[[0, 1, 2, 0]], np.array([4, 5, 6, 7])
    stimulus = np.array([7, 6, 5, 4])
    question = retrieval.brain_from_image(Table(np.eye(4)), np.zeros((4, 2)), stimulus, features, shown)
    assert question.identical[0] == question.identical[3]
    assert len(np.unique(question.identical)) == 3


@pytest.mark.parametrize(
    ("pools", "n_items", "used", "skipped"),
    [
        ((50, 300, 500), 1000, [50, 300, 500, 1000], []),
        ((50, 300, 500), 300, [50, 300], [500]),
        ((500, 50), 8, [8], [50, 500]),
        ((), 7, [7], []),
    ],
)
def test_pools_that_do_not_fit_are_skipped_and_the_whole_one_is_added(pools, n_items, used, skipped):
    assert retrieval.split_pools(pools, n_items) == (used, skipped)


@pytest.mark.parametrize(("noise", "n_dims"), [(0.5, 3), (1.0, 5), (2.0, 4)])
def test_posterior_bits_of_the_true_likelihood_approach_the_mutual_information(noise, n_dims):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(700, n_dims))
    x_hat = x + noise * rng.normal(size=x.shape)
    information = n_dims / 2 * np.log2(1 + 1 / noise**2)
    scorer = Gaussian(noise)
    for scores in (scorer.image_from_brain(x_hat, x), scorer.brain_from_image(x_hat, x)):
        bits = np.diag(retrieval.posterior_bits(scores))
        error = bits.std() / np.sqrt(len(bits))
        assert bits.mean() < np.log2(700)
        assert abs(bits.mean() - information) < 4 * error + 0.12  # the pool of 700 is finite


def test_posterior_bits_know_their_extremes():
    assert_allclose(retrieval.posterior_bits(np.zeros((3, 8))), 0, atol=1e-12)
    certain = retrieval.posterior_bits(np.where(np.eye(8) == 1, 0.0, -1e4))
    assert_allclose(np.diag(certain), 3)


def test_posterior_bits_ignore_a_constant_per_query():
    scores = np.random.default_rng(0).normal(size=(3, 5))
    shifted = scores + 1e4 * np.arange(3)[:, None]
    assert_allclose(retrieval.posterior_bits(scores), retrieval.posterior_bits(shifted), atol=1e-9)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.5])
def test_the_rank_code_finds_the_law_behind_the_ranks(exponent, rng):
    n_items = 200
    law = np.arange(1, n_items + 1.0) ** -exponent
    law /= law.sum()
    drawn = rng.choice(n_items, size=4000, p=law)
    ranks = Ranks(drawn, np.zeros_like(drawn), n_items)
    assert retrieval.fit_rank_code(ranks) == pytest.approx(exponent, abs=0.06)
    bits = retrieval.rank_bits(ranks, exponent).mean()
    assert bits == pytest.approx(np.log2(n_items) - stats.entropy(law, base=2), abs=0.15)


def test_the_rank_code_invents_no_bits_from_chance(rng):
    found = []
    for _ in range(100):
        drawn = rng.integers(300, size=300)
        ranks = Ranks(drawn, np.zeros_like(drawn), 300)
        found.append(retrieval.rank_bits(ranks, retrieval.fit_rank_code(ranks)).mean())
    assert 0 <= np.mean(found) < 0.005  # a plug-in entropy would give 0.8


def test_a_perfect_decoder_has_all_the_bits_of_the_pool():
    ranks = Ranks(np.zeros(9, int), np.zeros(9, int), 64)
    assert retrieval.rank_bits(ranks, retrieval.fit_rank_code(ranks)) == pytest.approx(6.0)


def test_a_collapsed_decoder_has_no_bits():
    ranks = Ranks(np.zeros(9, int), np.full(9, 63), 64)
    assert retrieval.rank_bits(ranks, retrieval.fit_rank_code(ranks)) == pytest.approx(0.0, abs=1e-12)


def test_rank_bits_stay_below_the_information(rng):
    noise, x = 1.0, rng.normal(size=(500, 6))
    scores = Gaussian(noise).image_from_brain(x + noise * rng.normal(size=x.shape), x)
    ranks = rank(scores, np.arange(500))
    bits = retrieval.rank_bits(ranks, retrieval.fit_rank_code(ranks)).mean()
    assert 0.4 * 3 < bits < 3.0  # 6 / 2 log2(1 + 1) bits are there


def test_identical_rows_share_a_number():
    rows = np.array([[1.0, 2], [3, 4], [1, 2], [1, 2 + 1e-12]])
    first, second, third, fourth = retrieval.identical_rows(rows)
    assert first == third
    assert len({first, second, fourth}) == 3
