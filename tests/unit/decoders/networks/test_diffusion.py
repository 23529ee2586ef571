"""The noise levels are the published ones, and the samplers find a distribution that is known."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from percept.decoders.networks import diffusion
from percept.decoders.networks.diffusion import RowNoise, levels_visited, moves, sample, signal_shares
from percept.files import PerceptError

PUBLISHED = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample", "clip_sample": False}
CPU = torch.device("cpu")
MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[1.0, 0.6, 0.0], [0.6, 0.8, -0.2], [0.0, -0.2, 0.3]])


@pytest.mark.parametrize("timesteps", [10, 100, 1000])
def test_the_signal_falls_along_a_squared_cosine_up_to_the_cap_of_the_last_step(timesteps):
    def cosine(t):
        return np.cos((t / timesteps + 0.008) / 1.008 * np.pi / 2) ** 2

    shares = signal_shares(timesteps)
    levels = np.arange(1, timesteps)  # all but the last, whose step would add more than 0.999
    np.testing.assert_allclose(shares[:-1], cosine(levels) / cosine(0), rtol=1e-9)
    np.testing.assert_allclose(shares[-1] / shares[-2], 0.001, rtol=1e-9)


@pytest.mark.parametrize("timesteps", [20, 100, 1000])
def test_the_levels_are_those_of_diffusers(timesteps):
    peer = DDPMScheduler(timesteps, **PUBLISHED).alphas_cumprod
    np.testing.assert_allclose(signal_shares(timesteps), peer.numpy(), rtol=2e-3)  # the peer's are float32
    np.testing.assert_allclose(signal_shares(timesteps)[:-2], peer.numpy()[:-2], rtol=1e-4)


def test_an_ancestral_step_is_the_posterior_of_ho_et_al():
    shares = signal_shares(100)
    before = np.append(1.0, shares[:-1])
    beta = 1 - shares / before
    path = moves(shares, levels_visited("ddpm", 100, 100))
    assert [move.level for move in path] == list(range(99, -1, -1))
    for move in path:
        t = move.level
        np.testing.assert_allclose(move.estimate, np.sqrt(before[t]) * beta[t] / (1 - shares[t]), rtol=1e-9)
        np.testing.assert_allclose(
            move.current, np.sqrt(1 - beta[t]) * (1 - before[t]) / (1 - shares[t]), atol=1e-12
        )
        np.testing.assert_allclose(
            move.noise**2, beta[t] * (1 - before[t]) / (1 - shares[t]), rtol=1e-9, atol=1e-15
        )


def test_the_last_step_returns_the_prediction_of_the_network():
    for sampler, n_steps in (("ddpm", 100), ("ddim", 20)):
        last = moves(signal_shares(100), levels_visited(sampler, n_steps, 100))[-1]
        assert (last.estimate, last.current, last.noise) == pytest.approx((1.0, 0.0, 0.0), abs=1e-12)


@pytest.mark.parametrize("level", [1, 2, 30, 77, 98])
def test_an_ancestral_step_agrees_with_diffusers(level):
    peer = DDPMScheduler(100, variance_type="fixed_small", **PUBLISHED)
    x, clean = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(level))
    noise = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    expected = peer.step(clean, level, x, generator=torch.Generator().manual_seed(3)).prev_sample
    (move,) = moves(signal_shares(100), np.array([level, level - 1]))
    torch.testing.assert_close(_applied(move, x, clean, noise), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", [5, 30, 77, 94])
def test_a_longer_step_agrees_with_ddim_of_diffusers(level):
    peer = DDIMScheduler(100, **PUBLISHED)
    peer.set_timesteps(20)  # steps of 5 levels
    x, clean, noise = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(level))
    expected = peer.step(clean, level, x, eta=1.0, variance_noise=noise).prev_sample
    (move,) = moves(signal_shares(100), np.array([level, level - 5]))
    torch.testing.assert_close(_applied(move, x, clean, noise), expected, rtol=1e-4, atol=1e-4)


def _applied(move, x, clean, noise):
    return move.estimate * clean + move.current * x + move.noise * noise


@given(timesteps=st.integers(2, 1000), data=st.data())
def test_ddim_goes_from_the_noisiest_level_to_the_clean_one_without_a_pause(timesteps, data):
    n_steps = data.draw(st.integers(2, timesteps + 1))
    levels = levels_visited("ddim", n_steps, timesteps)
    assert len(levels) == n_steps
    assert (levels[0], levels[-1]) == (timesteps - 1, -1)
    steps = -np.diff(levels)
    assert steps.min() >= 1 and np.ptp(steps) <= 1


def test_twenty_steps_of_ddim_are_nineteen_evaluations():
    levels = []

    def denoise(x, level):
        levels.append(int(level))
        return torch.zeros_like(x)

    path = moves(signal_shares(100), levels_visited("ddim", 20, 100))
    sample(denoise, path, RowNoise([0], (1,), CPU))
    assert len(levels) == 19 and levels[0] == 99 and levels == sorted(levels, reverse=True)


def test_ddim_over_every_level_is_ddpm():
    shares = signal_shares(30)
    every = moves(shares, levels_visited("ddim", 31, 30))
    assert every == moves(shares, levels_visited("ddpm", 30, 30))


@pytest.mark.parametrize("n_steps", [99, 101, 20])
def test_ddpm_cannot_skip_levels(n_steps):
    with pytest.raises(PerceptError, match=rf"all 100 noise levels of the prior, not {n_steps}.*ddim"):
        levels_visited("ddpm", n_steps, 100)


@pytest.mark.parametrize("n_steps", [0, 1, 102])
def test_ddim_refuses_steps_that_it_cannot_take(n_steps):
    with pytest.raises(PerceptError, match=f"cannot visit {n_steps} of 100.*sampling_steps"):
        levels_visited("ddim", n_steps, 100)


def best_denoiser(shares):
    """E[x | x_t] for x ~ N(MEAN, COVARIANCE), in closed form."""

    def gain(a):
        return np.sqrt(a) * COVARIANCE @ np.linalg.inv(a * COVARIANCE + (1 - a) * np.eye(3))

    def denoise(x, level):
        a = shares[int(level)]
        found = MEAN + (x.double().numpy() - np.sqrt(a) * MEAN) @ gain(a).T
        return torch.from_numpy(found)

    return denoise, gain


def propagated(path, shares, gain):
    """Mean and covariance that the chain has in exact arithmetic: each of its steps is affine."""
    mean, covariance = np.zeros(3), np.eye(3)
    for move in path:
        a = shares[move.level]
        factor = move.estimate * gain(a) + move.current * np.eye(3)
        mean = factor @ mean + move.estimate * (MEAN - np.sqrt(a) * gain(a) @ MEAN)
        covariance = factor @ covariance @ factor.T + move.noise**2 * np.eye(3)
    return mean, covariance


@pytest.mark.parametrize(
    ("timesteps", "sampler", "n_steps", "lost"),
    [(100, "ddpm", 100, 0.09), (100, "ddim", 20, 0.32), (100, "ddim", 50, 0.16), (1000, "ddpm", 1000, 0.011)],
)
def test_a_perfect_network_samples_the_mean_and_nearly_the_covariance(timesteps, sampler, n_steps, lost):
    shares = signal_shares(timesteps)
    _, gain = best_denoiser(shares)
    mean, covariance = propagated(moves(shares, levels_visited(sampler, n_steps, timesteps)), shares, gain)
    np.testing.assert_allclose(mean, MEAN, atol=1e-6)
    share = np.linalg.eigvals(np.linalg.solve(COVARIANCE, covariance)).real
    assert 1 - lost < share.min() and share.max() < 1


@pytest.mark.parametrize(("sampler", "n_steps"), [("ddpm", 100), ("ddim", 20)])
def test_samples_have_the_moments_that_the_chain_has(sampler, n_steps):
    n_rows, shares = 8_000, signal_shares(100)
    denoise, gain = best_denoiser(shares)
    path = moves(shares, levels_visited(sampler, n_steps, 100))
    found = sample(denoise, path, RowNoise(range(n_rows), (3,), CPU)).numpy()
    mean, covariance = propagated(path, shares, gain)
    spread = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(found.mean(axis=0) - mean) < 4 * spread / np.sqrt(n_rows))
    error = 4 * np.outer(spread, spread) * np.sqrt(2 / n_rows)  # at most, of a normal's covariances
    assert np.all(np.abs(np.cov(found.T) - covariance) < error)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_noise_of_a_row_depends_on_its_seed_alone(seeds, random):
    together = RowNoise(seeds, (3, 5), CPU)
    order = random.sample(range(len(seeds)), k=len(seeds))
    shuffled = RowNoise([seeds[row] for row in order], (3, 5), CPU)
    alone = RowNoise(seeds[-1:], (3, 5), CPU)
    for _ in range(3):
        drawn = together.draw()
        assert drawn.shape == (len(seeds), 3, 5)
        assert torch.equal(drawn[order], shuffled.draw())
        assert torch.equal(drawn[-1:], alone.draw())


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2341), (129, 128)])
def test_the_noise_is_standard_normal_and_new_at_each_draw(shape):
    noise = RowNoise([1, 2, 4], shape, CPU)
    n_draws = 2 + 3000 // np.prod(shape)
    drawn = torch.stack([noise.draw() for _ in range(n_draws)])
    flat = drawn.flatten()
    assert flat.unique().numel() > 0.999 * flat.numel()
    assert abs(flat.mean()) < 4 / len(flat) ** 0.5
    assert abs(flat.var() - 1) < 4 * (2 / len(flat)) ** 0.5


def test_noise_drawn_ahead_is_refilled(monkeypatch):
    monkeypatch.setattr(diffusion, "AHEAD", 30)
    noise = RowNoise([5], (4,), CPU)  # seven draws at a time
    drawn = torch.stack([noise.draw() for _ in range(20)])
    assert drawn.flatten().unique().numel() == 80


def test_sampling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    path = moves(signal_shares(10), levels_visited("ddpm", 10, 10))
    sample(lambda x, _: x, path, RowNoise([0, 1], (2,), CPU))
    assert torch.equal(torch.get_rng_state(), before)
