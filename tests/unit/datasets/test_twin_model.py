"""The encoding model: information exactly as asked, noise exactly as declared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.datasets.twin import anatomy, features, model


@pytest.fixture(scope="module")
def space():
    """Gaussian features with the twin's modes and decaying variances, and random axes."""
    rng = np.random.default_rng(1)
    variance = np.concatenate([1 / np.arange(1, n + 1) for n in (features.N_EARLY, features.N_SEMANTIC)])
    x = rng.standard_normal((900, features.N_MODES)) * np.sqrt(variance / 3)
    x[:, 0] += 0.3 * x[:, -1]  # blocks are correlated
    early, semantic = (
        rng.standard_normal((392, features.N_EARLY)),
        rng.standard_normal((56, features.N_SEMANTIC)),
    )
    return features.Space(x.astype(np.float32), early.astype(np.float32), semantic.astype(np.float32))


@pytest.fixture(scope="module")
def brain():
    return anatomy.build((20, 24, 18))


@pytest.fixture(scope="module")
def voxels(brain, space):
    return model.draw(brain, space, np.random.default_rng(2))


def dense(weights, noise):
    """Noise covariance of one trial, (voxel, voxel)."""
    return np.diag(noise.private_sd**2) + noise.shared @ noise.shared.T + weights @ noise.limiting @ weights.T


@pytest.mark.parametrize("bits", [6.0, 9.0, 12.0])
def test_three_repeats_carry_the_asked_bits(voxels, space, bits):
    covariance = model.covariance(space.features)
    noise = model.solve_noise(voxels, covariance, bits)
    assert model.information(covariance, model.fisher(voxels.weights, noise), 3) == pytest.approx(
        bits, abs=1e-6
    )


def test_information_is_the_closed_form_of_two_gaussians(voxels, space):
    """I(x; y) = 1/2 log2 det(W S W' + N) / det(N) in the space of voxels, without any shortcut."""
    covariance = model.covariance(space.features)
    noise = model.solve_noise(voxels, covariance, 9)
    some = np.arange(0, len(voxels.weights), 4)
    weights = voxels.weights[some]
    part = model.Noise(noise.private_sd[some], noise.shared[some], noise.limiting)
    n = dense(weights, part) / 3
    direct = (
        (np.linalg.slogdet(weights @ covariance @ weights.T + n)[1] - np.linalg.slogdet(n)[1]) / 2 / np.log(2)
    )
    assert model.information(covariance, model.fisher(weights, part), 3) == pytest.approx(direct, rel=1e-8)


@pytest.mark.parametrize("n_voxels", [5, 40, 200])
def test_fisher_information_is_that_of_the_dense_covariance(voxels, space, n_voxels):
    noise = model.noise(voxels, 0.3)
    part = model.Noise(noise.private_sd[:n_voxels], noise.shared[:n_voxels], noise.limiting)
    weights = voxels.weights[:n_voxels]
    direct = weights.T @ np.linalg.solve(dense(weights, part), weights)
    np.testing.assert_allclose(model.fisher(weights, part), direct, atol=1e-9 * np.abs(direct).max())


def test_unreachable_information_is_an_error_that_says_what_there_is(brain, space, voxels):
    few = model.Voxels(voxels.weights[:10], voxels.noise_variance[:10], voxels.loadings[:10])
    with pytest.raises(
        ValueError, match=r"10 visual voxels carry \d\.\d\d bits even without .* lower `dataset.bits`"
    ):
        model.solve_noise(few, model.covariance(space.features), 9)


@given(scales=st.lists(st.floats(1e-4, 10), min_size=2, max_size=2, unique=True))
@settings(max_examples=30, deadline=None)
def test_more_limiting_noise_leaves_less_information(voxels, space, scales):
    weak, strong = sorted(scales)
    covariance = model.covariance(space.features)
    carried = [
        model.information(covariance, model.fisher(voxels.weights, model.noise(voxels, s)), 3)
        for s in (weak, strong)
    ]
    assert carried[0] > carried[1]


@given(n=st.lists(st.integers(1, 30), min_size=2, max_size=2, unique=True))
@settings(max_examples=20, deadline=None)
def test_more_repeats_carry_more(voxels, space, n):
    covariance = model.covariance(space.features)
    fisher = model.fisher(voxels.weights, model.noise(voxels, 0.3))
    fewer, more = (model.information(covariance, fisher, k) for k in sorted(n))
    assert fewer < more


def test_more_voxels_cannot_pass_the_limiting_noise(voxels, space):
    """With infinitely many copies of the voxels only Omega is left: J -> Omega^-1."""
    noise = model.noise(voxels, 0.3)
    quiet = model.Noise(noise.private_sd * 1e-4, noise.shared * 0, noise.limiting)
    np.testing.assert_allclose(
        model.fisher(voxels.weights, quiet), np.linalg.inv(noise.limiting), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("bits", [8.0, 9.0, 10.0])
def test_noise_ceilings_are_those_of_nsdgeneral(voxels, space, bits):
    covariance = model.covariance(space.features)
    noise = model.solve_noise(voxels, covariance, bits)
    snr = model.ncsnr(voxels.weights, noise, covariance)
    assert np.median(snr) == pytest.approx(0.36, abs=0.04)
    assert snr.min() > 0.05 and 0.42 < np.quantile(snr, 0.95) < 1.2


def test_the_analytic_noise_ceiling_counts_every_source(voxels, space):
    noise = model.noise(voxels, 0.3)
    covariance = model.covariance(space.features)
    signal = np.diag(voxels.weights @ covariance @ voxels.weights.T)
    still = np.diag(dense(voxels.weights, noise))
    drift = still * model.DRIFT**2 * np.mean(np.linspace(-1, 1, 750) ** 2)
    expected = np.sqrt(signal / (still + drift))
    np.testing.assert_allclose(model.ncsnr(voxels.weights, noise, covariance), expected, rtol=1e-5)


def test_rescaling_gives_every_voxel_its_drawn_variance_and_keeps_the_information(voxels, space):
    covariance = model.covariance(space.features)
    noise = model.solve_noise(voxels, covariance, 6)
    weights, scaled = model.rescale(voxels, noise, covariance)
    total = np.diag(weights @ covariance @ weights.T) + np.diag(dense(weights, scaled))
    wanted = np.diag(voxels.weights @ covariance @ voxels.weights.T) + voxels.noise_variance
    np.testing.assert_allclose(total, wanted, rtol=1e-9)
    np.testing.assert_allclose(
        model.fisher(weights, scaled), model.fisher(voxels.weights, noise), rtol=1e-6, atol=1e-9
    )


def test_early_areas_weigh_the_early_block_and_higher_ones_semantics(brain, voxels, space):
    covariance = model.covariance(space.features)
    early = model.signal_variance(
        voxels.weights * (np.arange(features.N_MODES) < features.N_EARLY), covariance
    )
    late = model.signal_variance(
        voxels.weights * (np.arange(features.N_MODES) >= features.N_EARLY), covariance
    )
    part = {
        name: np.median((late / (early + late))[brain.area[brain.visual] == name]) for name in anatomy.AREAS
    }
    assert part["V1"] < 1e-9 < part["V2"] < part["V3"] < 0.2 < part["mid"] < 0.8 < part["high"]


def test_neighbouring_receptive_fields_weigh_neighbouring_cells(brain):
    weights = model._receptive_fields(brain, np.random.default_rng(0)).reshape(-1, 7, 7, 8)
    power = (weights**2).sum(axis=3)
    centres = 4.2 * ((2 * np.arange(7) + 1) / 7 - 1)
    x = (power.sum(axis=1) * centres).sum(axis=1) / power.sum(axis=(1, 2))
    y = (power.sum(axis=2) * -centres).sum(axis=1) / power.sum(axis=(1, 2))
    v1 = brain.area[brain.visual] == "V1"
    assert np.corrcoef(x[v1], brain.x_deg[brain.visual][v1])[0, 1] > 0.95
    assert np.corrcoef(y[v1], brain.y_deg[brain.visual][v1])[0, 1] > 0.95
