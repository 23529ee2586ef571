"""What a decoder loses: closed forms for linear ones, and the null of random voxels."""

import numpy as np
import pytest

from percept.decoders.predictor import Predictor
from percept.interpretation.effects import METRICS, Scale
from percept.interpretation.groups import Group, voxels
from percept.interpretation.leave_one_out import Null, effects, of_voxels, repeat_sd
from percept.interpretation.replacement import Permuted
from tests.unit.interpretation.world import blind, linear, probe, responses, table, zero

RNG = np.random.default_rng(0)
BOTH = responses(30, 240, RNG)
X, TRAIN = BOTH[:40], BOTH[40:]
WEIGHTS = RNG.normal(size=(30, 5))
TRUE = X @ WEIGHTS + RNG.normal(size=(40, 5))
PROJECTION = METRICS.index("projection")


def contributions(residual, weights, directions):
    """Exact contribution of every voxel to the projection, (image, voxel), of a linear decoder.

    c_iv = r_iv (W u_i)_v: what f loses along u_i if voxel v loses r_iv. With r the response less the mean
    response, the sum over voxels is <f(x) - f(mean), u>.
    """
    return residual * (directions @ weights.T)


def alone(of, voxel):
    """What a voxel alone knows, (row,)."""
    return X[:, voxel] - of.replacement.values(np.array([voxel]), 0)[:, 0]


@pytest.mark.parametrize("replaced", ["conditional_mean", "zero"])
def test_the_contribution_of_every_voxel_is_the_loop_over_voxels(replaced):
    """x_v (W u)_v, reference B.5: no loop is needed for a linear decoder."""
    own = linear(WEIGHTS, 0.7)
    of = probe(blind(own), X, TRAIN, TRUE, zero(X, TRAIN) if replaced == "zero" else None)
    loop = [
        -one.changes[:, PROJECTION]
        for one in of_voxels(of, voxels(table(["a"] * 30), 3, 1), np.ones(30))
        if one.names == METRICS
    ]
    mean = TRAIN.mean(axis=0, dtype=np.float64)
    taken = X - mean if replaced == "zero" else np.column_stack([alone(of, voxel) for voxel in range(30)])
    exact = contributions(taken, own.weights, of.scale.directions)
    np.testing.assert_allclose(np.stack(loop, axis=1), exact, rtol=1e-3, atol=2e-4)


def test_contributions_add_up_to_the_projection():
    """Completeness: sum_v x_v (W u)_v + <b, u> = <f(x), u>, with x less the mean response."""
    own, mean = linear(WEIGHTS, 0.7), TRAIN.mean(axis=0)
    of = probe(own, X, TRAIN, TRUE)
    summed = contributions(X - mean, own.weights, of.scale.directions).sum(axis=1)
    np.testing.assert_allclose(summed, of.scale.scores(own.predict(X))["projection"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("group", [[4], [0, 3, 9, 22]])
def test_knowing_that_a_decoder_is_linear_changes_nothing(group):
    own = linear(WEIGHTS, 0.7)
    seen, unseen = (probe(one, X, TRAIN, TRUE) for one in (own, blind(own)))
    for of in (seen.change, lambda voxels: seen.sensitivity(np.full(30, 0.3))):
        assert np.isfinite(of(np.array(group))).all()
    np.testing.assert_allclose(seen.change(np.array(group)), unseen.change(np.array(group)), atol=1e-4)
    sd = RNG.uniform(0.1, 1, 30)
    np.testing.assert_allclose(seen.sensitivity(sd), unseen.sensitivity(sd), rtol=1e-3, atol=1e-4)


def test_the_change_is_minus_the_difference_along_the_true_embedding():
    own = linear(WEIGHTS)
    of = probe(own, X, TRAIN, TRUE)
    delta = own.predict(X) - of.after(np.array([3, 5]))
    expected = -np.einsum("id,id->i", delta, TRUE / np.linalg.norm(TRUE, axis=1, keepdims=True))
    np.testing.assert_allclose(of.change(np.array([3, 5]))[:, PROJECTION], expected, rtol=1e-4, atol=1e-5)


def test_voxels_that_a_decoder_does_not_read_change_nothing():
    weights = WEIGHTS.copy()
    weights[10:15] = 0
    found = probe(linear(weights), X, TRAIN, TRUE).change(np.arange(10, 15))
    np.testing.assert_array_equal(found, 0)


def test_scores_are_of_cosines_less_the_means():
    scale = Scale(np.eye(4)[:, :3] + 0.0, np.array([5.0, 5, 5]), pool=4)
    true = np.eye(4)[:, :3]
    found = scale.scores(2 * true + 5)  # the mean prediction is taken off; the last image has no direction
    assert found["projection"].tolist() == [2, 2, 2, 0]
    assert found["cosine"].tolist() == [1, 1, 1, 0]
    np.testing.assert_allclose(found["top1"], [1, 1, 1, 0.25])  # four-fold tie
    np.testing.assert_allclose(found["two_way"], [1, 1, 1, 0.5])


def test_permuted_answers_are_averaged():
    own = linear(WEIGHTS)
    of = probe(own, X, TRAIN, TRUE, Permuted.of(X, 6, 0))
    each = [of.change(np.array([2, 8]), [one]) for one in range(6)]
    np.testing.assert_allclose(of.change(np.array([2, 8])), np.mean(each, axis=0), atol=1e-9)
    assert np.ptp(np.stack(each), axis=0).max() > 0


# The null.


@pytest.mark.parametrize("size", [1, 3, 9, 14])
def test_random_sets_have_no_voxel_of_the_group_and_its_size(size, monkeypatch):
    of, seen = probe(linear(WEIGHTS), X, TRAIN, TRUE), []
    monkeypatch.setattr(
        type(of), "change", lambda self, some, at=None: seen.append(some) or np.zeros((40, 4))
    )
    group = Group("block", "x", np.arange(size))
    null = Null(of, 60, seed=0)
    found = null.of(group, size)
    assert 30 <= len(found) <= 60
    apart = [one for one in seen if not set(one) & set(range(size))]
    assert len(apart) >= len(found) and all(len(one) == size for one in seen)


def test_groups_of_one_size_share_their_random_sets():
    null = Null(probe(linear(WEIGHTS), X, TRAIN, TRUE), 40, seed=0)
    first = null.of(Group("block", "a", np.array([0, 1])), 2)
    second = null.of(Group("block", "b", np.array([9, 17])), 2)
    assert list(null.shared) == [2]
    shared = {tuple(row) for row in first} & {tuple(row) for row in second}
    assert len(shared) > 20


def test_a_signal_region_is_outside_its_null_and_a_noise_region_inside():
    """Twelve of sixty voxels carry the image; the ridge weights know it."""
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(340, 5))
    view = rng.normal(size=(5, 12))
    both = rng.normal(size=(340, 60)).astype(np.float32)
    both[:, :12] += signal @ view
    X, train = both[:40], both[40:]
    weights = np.linalg.solve(train.T @ train + 30 * np.eye(60), train.T @ signal[40:])
    of = probe(linear(weights), X, train, signal[:40])
    regions = [Group("roi", "signal", np.arange(12)), Group("roi", "noise", np.arange(30, 42))]
    used, unused = effects(of, regions, 100, 0)
    assert used.changes[:, PROJECTION].mean() < used.null[:, PROJECTION].min()
    low, high = np.quantile(unused.null[:, PROJECTION], [0, 1])
    assert low <= unused.changes[:, PROJECTION].mean() <= high


def test_a_region_of_most_voxels_is_compared_at_a_part_of_them():
    of = probe(linear(WEIGHTS), X, TRAIN, TRUE)
    (found,) = effects(of, [Group("roi", "x", np.arange(24))], 20, 0)
    assert found.size == 3 and found.null.shape == (20, 4)
    whole = of.change(np.arange(24)).mean(axis=0)
    np.testing.assert_allclose(found.whole, whole)
    assert abs(found.changes[:, PROJECTION].mean()) < abs(whole[PROJECTION])


# Repeats.


def test_the_spread_over_repeats_is_within_images():
    stimulus = np.array([4, 4, 4, 9, 9, 7])
    rows = np.array([[1, 0], [2, 0], [3, 0], [11, 5], [13, 5], [70, 9]], np.float32)
    np.testing.assert_allclose(repeat_sd(rows, stimulus), [np.sqrt((2 + 2) / 3), 0])


def test_without_repeats_there_is_no_spread():
    assert repeat_sd(np.ones((3, 2), np.float32), np.arange(3)).tolist() == [0, 0]


def test_a_nonlinear_decoder_is_asked_again_for_every_group():
    of = probe(Predictor(lambda rows: np.tanh(rows @ WEIGHTS).astype(np.float32)), X, TRAIN, TRUE)
    changed = X.copy()
    changed[:, [1, 6]] = of.replacement.values(np.array([1, 6]), 0)
    expected = of.scale.table(np.tanh(changed @ WEIGHTS).astype(np.float32)) - of.scale.table(of.before)
    np.testing.assert_allclose(of.change(np.array([1, 6])), expected, atol=1e-6)
