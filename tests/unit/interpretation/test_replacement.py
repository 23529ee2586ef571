"""What stands in for voxels: the block formula is ridge regression of each group on all other voxels."""

import numpy as np
import pytest

from percept.interpretation.replacement import ALPHAS, ConditionalMean, Permuted, Zero
from tests.unit.interpretation.world import responses


def direct(X, train, voxels, alpha):
    """E[x_R | x_notR] by solving the ridge regression of the group itself."""
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    Z, new = (train - mean) / scale, (X - mean) / scale
    others = np.setdiff1d(np.arange(X.shape[1]), voxels)
    A = Z[:, others]
    weights = np.linalg.solve(A.T @ A + alpha * np.eye(len(others)), A.T @ Z[:, voxels])
    return new[:, others] @ weights * scale[voxels] + mean[voxels]


@pytest.mark.parametrize("n_train", [90, 15], ids=["more rows than voxels", "fewer"])
@pytest.mark.parametrize("voxels", [[3], [0, 7, 19], list(range(18))])
def test_the_conditional_mean_is_ridge_regression_on_the_other_voxels(n_train, voxels):
    rng = np.random.default_rng(0)
    both = responses(20, n_train + 11, rng) * 3 + 2
    X, train = both[:11], both[11:]
    found = ConditionalMean.of(X, train)
    assert found.alpha in ALPHAS
    expected = direct(X, train, np.array(voxels), found.alpha)
    np.testing.assert_allclose(found.values(np.array(voxels), 0), expected, rtol=1e-6, atol=1e-6)


def test_a_voxel_that_the_others_determine_stays_as_it_is():
    rng = np.random.default_rng(1)
    X = responses(12, 400, rng, rank=12)
    X[:, 5] = X[:, :5].sum(axis=1)
    found = ConditionalMean.of(X[:50], X[50:])
    gap = found.values(np.array([5]), 0)[:, 0] - X[:50, 5]
    assert np.abs(gap).std() < 0.1 * X[:, 5].std()


def test_a_constant_voxel_is_no_obstacle():
    X = responses(6, 60, np.random.default_rng(2))
    X[:, 2] = 4
    found = ConditionalMean.of(X[:9], X[9:]).values(np.array([2, 3]), 0)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], 4, atol=1e-4)


def test_zero_is_the_mean_training_response():
    found = Zero(3, np.array([1.0, 2.0, 4.0])).values(np.array([0, 2]), 0)
    assert found.tolist() == [[1, 4]] * 3


def test_no_row_keeps_its_own_response_when_they_are_permuted():
    X = np.arange(21, dtype=np.float32).reshape(7, 3)
    found = Permuted.of(X, 5, seed=0)
    assert found.repetitions == 5
    for repetition in range(5):
        values = found.values(np.array([1]), repetition)[:, 0]
        assert sorted(values) == sorted(X[:, 1]) and (values != X[:, 1]).all()
    assert not np.array_equal(found.values(np.array([1]), 0), found.values(np.array([1]), 1))
