import numpy as np
import pytest
import torch

from percept.backbones import store
from percept.backbones.tiny import judge, kernel
from tests.unit.backbones.tiny_scenes import held_out


def test_by_hand():
    one, other = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    # kernels (x . y / 2 + 1)^3: within the first 1; within the second 1; across 8, 1, 1, 1
    assert kernel.kid(one, other) == pytest.approx(1 + 1 - 2 * (8 + 1 + 1 + 1) / 4)


def test_it_is_the_unbiased_estimate_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    one, other = np.random.default_rng(0).standard_normal((2, 9, 6))
    theirs = kid.poly_mmd(torch.from_numpy(one), torch.from_numpy(other + 1))
    np.testing.assert_allclose(kernel.kid(one, other + 1), float(theirs), rtol=1e-9)


def test_halves_of_one_distribution_are_at_distance_zero_on_average_and_others_are_not():
    rng = np.random.default_rng(0)
    same = [kernel.kid(*rng.standard_normal((2, 60, 5))) for _ in range(60)]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 4 * error and min(same) < 0  # the estimate has no bias
    assert kernel.kid(rng.standard_normal((60, 5)), rng.standard_normal((60, 5)) + 1) > 20 * error


@pytest.mark.parametrize("sizes", [(1, 5), (5, 1), (0, 2)])
def test_one_image_is_no_distribution(sizes):
    with pytest.raises(ValueError, match="at least two of each"):
        kernel.kid(*(np.zeros((n, 3)) for n in sizes))


def test_features_are_the_pooled_last_convolution(monkeypatch):
    images = held_out(7).images
    folder = store.SHIPPED / judge.NAME
    network, _ = judge.load(folder)
    together = kernel.features(folder, images)
    logits = torch.from_numpy(together) @ network.fc.weight.T + network.fc.bias  # the head reads them
    np.testing.assert_allclose(logits, judge.logits(network, images), atol=1e-3)
    monkeypatch.setattr(kernel, "AT_ONCE", 3)
    np.testing.assert_allclose(kernel.features(folder, images), together, atol=1e-4)
