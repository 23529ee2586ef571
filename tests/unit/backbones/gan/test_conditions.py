import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from percept.backbones.gan import conditions


def units(n, width, seed=0):
    return torch.nn.functional.normalize(
        torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=1
    )


@pytest.mark.parametrize(("cosine", "strength"), [(1, 0), (np.sqrt(0.5), 0.5), (0, 1), (-0.7, 1)])
def test_strengths_of_known_angles(cosine, strength):
    np.testing.assert_allclose(conditions.strength_of_cosine(np.array(cosine)), strength, atol=1e-12)


@given(st.floats(0.01, 0.999), st.floats(0.01, 0.999))
def test_a_lower_cosine_needs_more_noise(one, other):
    first, second = conditions.strength_of_cosine(np.array([min(one, other), max(one, other)]))
    assert first >= second


@pytest.mark.parametrize("cosine", [0.3, 0.52, 0.79])
def test_noise_of_the_matched_strength_leaves_that_cosine(cosine):
    u = units(4000, 64)
    strength = float(conditions.strength_of_cosine(np.array(cosine)))
    noisy = conditions.noised(u, torch.full((4000,), strength), [64], torch.Generator().manual_seed(1))
    torch.testing.assert_close(noisy.norm(dim=1), torch.ones(4000))
    np.testing.assert_allclose((noisy * u).sum(dim=1).mean(), cosine, atol=0.02)


def test_the_strengths_of_a_decoder_are_those_of_its_cosines():
    rng = np.random.default_rng(0)
    true = rng.standard_normal((300, 64))
    cosines = rng.uniform(0.2, 0.9, 300)
    away = rng.standard_normal((300, 64))
    away -= (away * true).sum(1, keepdims=True) / (true**2).sum(1, keepdims=True) * true
    away *= np.linalg.norm(true, axis=1, keepdims=True) / np.linalg.norm(away, axis=1, keepdims=True)
    predicted = cosines[:, None] * true + np.sqrt(1 - cosines**2)[:, None] * away
    found = conditions.matched_strengths(0.3 * predicted, true)  # a shrunken prediction is as good
    expected = np.quantile(conditions.strength_of_cosine(cosines), conditions.LEVELS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_predictions_of_other_images_are_refused():
    with pytest.raises(ValueError, match="not of the same images"):
        conditions.matched_strengths(np.zeros((3, 4)), np.zeros((2, 4)))


def test_drawn_strengths_have_the_quantiles_and_the_share_without_noise():
    quantiles = (0.4, 0.5, 0.6, 0.7, 0.9)
    drawn = conditions.drawn_strengths(20_000, quantiles, 0.25, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_allclose((drawn == 0).mean(), 0.25, atol=0.01)
    noisy = drawn[drawn > 0]
    np.testing.assert_allclose(np.quantile(noisy, conditions.LEVELS), quantiles, atol=0.01)
    assert noisy.min() >= 0.4 - 1e-6 and noisy.max() <= 0.9 + 1e-6


def test_without_noise_conditions_stay_and_with_noise_alone_nothing_of_them_is_left():
    c = torch.cat([units(2000, 30), units(2000, 20, seed=3)], dim=1)
    generator = torch.Generator().manual_seed(1)
    torch.testing.assert_close(conditions.noised(c, torch.zeros(2000), [30, 20], generator), c)
    noise = conditions.noised(c, torch.ones(2000), [30, 20], generator)
    for part in (slice(0, 30), slice(30, 50)):  # each a unit vector of its own
        torch.testing.assert_close(noise[:, part].norm(dim=1), torch.ones(2000))
        assert abs((noise[:, part] * c[:, part]).sum(dim=1).mean()) < 0.03
