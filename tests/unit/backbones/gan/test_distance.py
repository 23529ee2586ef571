import numpy as np
import pytest
import torch

from percept.backbones.gan import distance


def test_by_hand():
    one, other = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    # kernels (x . y / 2 + 1)^3: within the first 1; within the second 1; across 8, 1, 1, 1
    assert distance.kid(one, other) == pytest.approx(1 + 1 - 2 * (8 + 1 + 1 + 1) / 4)


def test_it_is_the_unbiased_estimate_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    one, other = np.random.default_rng(0).standard_normal((2, 9, 6))
    theirs = kid.poly_mmd(torch.from_numpy(one), torch.from_numpy(other + 1))
    np.testing.assert_allclose(distance.kid(one, other + 1), float(theirs), rtol=1e-9)


def test_halves_of_one_distribution_are_at_distance_zero_on_average_and_others_are_not():
    rng = np.random.default_rng(0)
    same = [distance.kid(*rng.standard_normal((2, 60, 5))) for _ in range(60)]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 4 * error and min(same) < 0  # the estimate has no bias
    assert distance.kid(rng.standard_normal((60, 5)), rng.standard_normal((60, 5)) + 1) > 20 * error


@pytest.mark.parametrize("sizes", [(1, 5), (5, 1), (0, 2)])
def test_one_image_is_no_distribution(sizes):
    with pytest.raises(ValueError, match="at least two of each"):
        distance.kid(*(np.zeros((n, 3)) for n in sizes))
