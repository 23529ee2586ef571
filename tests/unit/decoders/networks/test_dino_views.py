"""Views of responses: which repeats, which voxels, which regions, and what noise."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from percept.decoders.networks import dino_views as views

# Four regions of seven voxels; voxels 2 and 3 carry two labels, voxel 6 none.
MEMBERS = np.array(
    [[1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 0]], dtype=bool
)


# Repeats.


@pytest.mark.parametrize("n", [2, 3, 4])
def test_two_repeats_differ_and_every_pair_is_as_likely(n):
    grid = (np.arange(60) + 0.5) / 60  # 60 divides by n and by n - 1
    numbers = torch.tensor(list(itertools.product(grid, grid)))
    found = views.two_repeats(torch.full((3600,), n), numbers)
    pairs, count = np.unique(found.numpy(), axis=0, return_counts=True)
    assert sorted(map(tuple, pairs)) == list(itertools.permutations(range(n), 2))
    assert len(set(count)) == 1


def test_an_image_that_was_shown_once_gives_the_same_response_twice():
    found = views.two_repeats(torch.ones(5, dtype=torch.int64), torch.rand(5, 2))
    assert not found.any()


@given(n=st.integers(1, 9), first=st.floats(0, 1, exclude_max=True), second=st.floats(0, 1, exclude_max=True))
def test_repeats_exist(n, first, second):
    found = views.two_repeats(torch.tensor([n]), torch.tensor([[first, second]], dtype=torch.float64))
    assert ((found >= 0) & (found < n)).all()
    assert n == 1 or found[0, 0] != found[0, 1]


# Voxels.


def test_each_view_lacks_a_share_within_its_own_range():
    found = views.shares(2000, [(0.0, 0.0), (0.3, 0.7)], np.random.default_rng(0))
    assert not found[:, 0].any()
    assert found[:, 1].min() >= 0.3 and found[:, 1].max() <= 0.7
    np.testing.assert_allclose([found[:, 1].mean(), found[:, 1].std()], [0.5, 0.4 / np.sqrt(12)], atol=0.01)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_as_many_voxels_are_missing_as_asked_and_sums_keep_their_mean(share):
    torch.manual_seed(0)
    found = views.thinned(torch.ones(4, 20_000), torch.full((4,), share))
    np.testing.assert_allclose((found == 0).float().mean(dim=1), share, atol=0.015)
    np.testing.assert_allclose(found.mean(dim=1), 1, atol=0.03)
    assert torch.equal(found[found != 0].unique(), torch.tensor([1 / (1 - share)]).float())


# Regions.


@pytest.mark.parametrize("region", range(4))
def test_a_missing_region_takes_exactly_the_voxels_with_its_label(region):
    missing = torch.zeros(4, dtype=torch.bool)
    missing[region] = True
    found = views.within(missing, torch.from_numpy(MEMBERS))
    assert found.tolist() == MEMBERS[region].tolist()
    seen = views.thinned(torch.ones(1, 7), torch.zeros(1), found[None])
    assert seen[0].tolist() == (~MEMBERS[region]).astype(float).tolist()


@given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_of_several_missing_regions_the_union_is_missing(missing):
    found = views.within(torch.tensor([missing]), torch.from_numpy(MEMBERS))
    assert found[0].tolist() == MEMBERS[np.array(missing)].any(axis=0).tolist()


def test_regions_are_missing_as_often_as_asked_but_never_all_nor_where_none_may():
    found = views.lacking(4000, np.array([False, True, True]), 4, 0.5, np.random.default_rng(0))
    assert found.shape == (4000, 3, 4) and not found[:, 0].any()
    assert not found.all(axis=2).any()
    # One region of four is kept in any case; each of the others is missing half of the time.
    np.testing.assert_allclose(found[:, 1:].mean(), 0.5 * 3 / 4, atol=0.01)


def test_without_regions_nothing_is_missing():
    assert views.lacking(5, np.array([True]), 0, 0.5, np.random.default_rng(0)).shape == (5, 1, 0)


# Noise.


def made(n_images=400, n_repeats=3, n_voxels=6, seed=0):
    """Responses with a known covariance of noise: two patterns and each voxel's own."""
    rng = np.random.default_rng(seed)
    patterns = np.array([[2, 2, 0, 0, 0, 0], [0, 0, 1, -1, 1, 0]], float)
    own = np.linspace(0.5, 1, n_voxels)
    signal = 3 * rng.standard_normal((n_images, n_voxels))
    stimulus = np.repeat(np.arange(n_images), n_repeats)
    n = len(stimulus)
    noise = rng.standard_normal((n, 2)) @ patterns + rng.standard_normal((n, n_voxels)) * own
    return (signal[stimulus] + noise).astype(np.float32), stimulus, patterns.T @ patterns + np.diag(own**2)


def covariance(noise):
    return noise.patterns.T @ noise.patterns + np.diag(noise.own**2)


@pytest.mark.parametrize("n_repeats", [2, 3])
def test_the_noise_is_estimated_from_repeats_and_not_from_signals(n_repeats):
    X, stimulus, true = made(n_images=4000, n_repeats=n_repeats)
    np.testing.assert_allclose(covariance(views.estimate_noise(X, stimulus, 6)), true, atol=0.4)


@pytest.mark.parametrize("rank", [1, 2, 6, 50])
def test_few_patterns_leave_the_variance_of_each_voxel_as_it_is(rank):
    X, stimulus, _ = made()
    found, whole = (views.estimate_noise(X, stimulus, each) for each in (rank, 6))
    assert len(found.patterns) == min(rank, 6)
    np.testing.assert_allclose(np.diag(covariance(found)), np.diag(covariance(whole)), rtol=1e-4)


def test_fewer_residuals_than_voxels_give_the_same_estimate_as_their_transpose():
    rng = np.random.default_rng(0)
    X, stimulus = rng.standard_normal((8, 30)).astype(np.float32), np.repeat(np.arange(4), 2)
    found = views.estimate_noise(X, stimulus, 8)
    residuals = (X - X.reshape(4, 2, 30).mean(axis=1).repeat(2, axis=0)) * np.sqrt(2)
    np.testing.assert_allclose(
        found.patterns.T @ found.patterns, residuals.T @ residuals / 8, rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(found.own, 0, atol=1e-3)


def test_images_that_were_shown_once_say_nothing_of_noise():
    X, stimulus, _ = made()
    alone = np.random.default_rng(1).standard_normal((50, 6)).astype(np.float32) * 100
    both = views.estimate_noise(np.r_[X, alone], np.r_[stimulus, 1000 + np.arange(50)], 6)
    np.testing.assert_allclose(covariance(both), covariance(views.estimate_noise(X, stimulus, 6)), rtol=1e-4)
    none = views.estimate_noise(alone, np.arange(50), 3)
    assert not none.patterns.any() and not none.own.any()


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_added_noise_has_the_estimated_covariance(scale):
    X, stimulus, _ = made()
    noise = views.estimate_noise(X, stimulus, 2)
    torch.manual_seed(0)
    patterns, own = torch.from_numpy(noise.patterns), torch.from_numpy(noise.own)
    added = views.noisy(torch.full((60_000, 6), 7.0), patterns, own, scale) - 7
    np.testing.assert_allclose(np.cov(added.T.numpy()) / scale**2, covariance(noise), atol=0.12)
