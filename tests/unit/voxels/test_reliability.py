import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway

from percept.files import PerceptError
from percept.voxels import reliability
from percept.voxels.reliability import ncsnr, noise_ceiling, noise_variance, repeats

SIGNAL = np.array([0.05, 0.2, 0.5, 0.8])  # share of a single trial's variance that is signal


def gaussian_world(n_images, n_repeats, signal, seed=0):
    """Shuffled responses, (trial, voxel), of total variance 1; ids of their images; the signal itself."""
    rng = np.random.default_rng(seed)
    stimulus = rng.permutation(np.repeat(np.arange(n_images) * 3 + 5, n_repeats))
    images = rng.standard_normal((n_images, len(signal))) * np.sqrt(signal)
    noise = rng.standard_normal((len(stimulus), len(signal))) * np.sqrt(1 - signal)
    return images[(stimulus - 5) // 3] + noise, stimulus, images


def slow_ncsnr(z, stimulus, n_repeats=3):
    """NSD's recipe, voxel by voxel and image by image."""
    result = []
    for voxel in z.T:
        variances = []
        for image in sorted(set(stimulus)):
            responses = voxel[stimulus == image]
            if len(responses) == n_repeats:
                variances.append(np.var(responses, ddof=1))
        noise_sd = np.sqrt(np.mean(variances))
        result.append(np.sqrt(max(0.0, 1 - noise_sd**2)) / noise_sd)
    return np.array(result)


def unequal_trials(n_voxels=7, seed=2):
    """Images shown one to three times, in random order."""
    rng = np.random.default_rng(seed)
    stimulus = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 4, 40)))
    return rng.standard_normal((len(stimulus), n_voxels)) * np.linspace(0.4, 1.3, n_voxels), stimulus


@pytest.mark.parametrize("memory", [1, 40_000, reliability.MEMORY])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ncsnr_equals_a_loop_over_voxels_and_images(monkeypatch, memory, dtype):
    monkeypatch.setattr(reliability, "MEMORY", memory)  # blocks of one voxel, of several with a rest, of all
    z, stimulus = unequal_trials(n_voxels=23)
    z = z.astype(dtype)
    fast = ncsnr(z, stimulus)
    assert fast.dtype == np.float32
    assert (fast > 0).any() and (fast == 0).any()  # negative signal variances are cut at 0
    np.testing.assert_allclose(fast, slow_ncsnr(z, stimulus), rtol=1e-6)


@pytest.mark.parametrize("n_repeats", [2, 3, 5])
def test_ncsnr_of_a_gaussian_world_is_the_closed_form(n_repeats):
    n_images, n_voxels = 400, 50
    for signal in SIGNAL:
        z, stimulus, _ = gaussian_world(n_images, n_repeats, np.full(n_voxels, signal))
        noise = noise_variance(z, repeats(stimulus, n_repeats))
        se = (1 - signal) * np.sqrt(2 / (n_images * (n_repeats - 1)))  # of a chi-squared variance
        assert abs(noise.mean() - (1 - signal)) < 3 * se / np.sqrt(n_voxels)
        assert (np.abs(noise - (1 - signal)) < 4.5 * se).all()
        expected = np.sqrt(np.maximum(0, 1 - noise) / noise)
        np.testing.assert_allclose(ncsnr(z, stimulus, n_repeats), expected, rtol=1e-6)


@pytest.mark.parametrize("signal", SIGNAL)
@pytest.mark.parametrize("averaged", [1, 2, 3])
def test_the_ceiling_is_the_squared_correlation_of_averages_with_the_true_signal(signal, averaged):
    n_images, n_voxels = 500, 40
    z, stimulus, images = gaussian_world(n_images, 3, np.full(n_voxels, signal), seed=averaged)
    order = np.argsort(stimulus, kind="stable")
    means = z[order].reshape(n_images, 3, n_voxels)[:, :averaged].mean(axis=1)
    r = np.array([np.corrcoef(means[:, v], images[:, v])[0, 1] for v in range(n_voxels)])
    true_snr = np.sqrt(signal / (1 - signal))
    se = r.std(ddof=1) / np.sqrt(n_voxels)
    bias = signal**0.5 / n_images  # a correlation is low by about r (1 - r²) / 2n
    assert abs(r.mean() - np.sqrt(noise_ceiling(true_snr, averaged))) < 3 * se + bias


@pytest.mark.parametrize(("a", "b", "c"), [(515, 251, 141), (614, 213, 103), (1000, 0, 0), (0, 0, 4)])
def test_unequal_repeats_follow_nsds_formula(a, b, c):
    snr = np.array([0.0, 0.361, 2.0])
    counts = np.random.default_rng(0).permutation(np.repeat([3, 2, 1], [a, b, c]))
    expected = snr**2 / (snr**2 + (a / 3 + b / 2 + c) / (a + b + c))
    np.testing.assert_allclose(noise_ceiling(snr, counts), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("snr", "percent"),
    [(0.361, 28.1), (0.324, 24.0), (0.296, 20.8), (0.415, 34.1), (0.343, 26.1), (0.281, 19.1), (0.226, 13.3)],
)
def test_the_published_medians_of_nsdgeneral_have_the_published_ceilings(snr, percent):
    assert 100 * noise_ceiling(snr, 3) == pytest.approx(percent, abs=0.1)


def test_noise_variance_is_the_within_groups_mean_square_of_an_analysis_of_variance():
    z, stimulus = unequal_trials()
    used = repeats(stimulus, n_repeats=2)
    within = noise_variance(z, used)
    kept = np.isin(stimulus, stimulus[used.rows])
    z, stimulus = z[kept], stimulus[kept]
    groups = [z[stimulus == image] for image in np.unique(stimulus)]
    mean = np.array([len(group) * (group.mean(0) - z.mean(0)) ** 2 for group in groups]).sum(0)
    between = mean / (len(groups) - 1)
    np.testing.assert_allclose(f_oneway(*groups).statistic, between / within, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    stimulus=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    n_repeats=st.integers(2, 4),
    too_few=st.sampled_from(["nan", "pooled"]),
)
def test_rows_are_all_trials_of_the_images_that_count_sorted_by_image(stimulus, n_repeats, too_few):
    stimulus = np.array(stimulus)
    rows, starts, counts = repeats(stimulus, n_repeats, too_few)
    ids, n_shown = np.unique(stimulus, return_counts=True)
    full = ids[n_shown >= n_repeats]
    if len(full) < 2:
        full = ids[n_shown >= 2] if too_few == "pooled" else ids[:0]
    assert sorted(rows) == np.flatnonzero(np.isin(stimulus, full)).tolist()
    np.testing.assert_array_equal(stimulus[rows], np.repeat(full, counts))
    np.testing.assert_array_equal(stimulus[rows][starts], full)


@pytest.mark.parametrize(("kind", "value"), [("zero", 0.0), ("constant", 0.3), ("not valid", np.nan)])
def test_a_constant_or_invalid_voxel_is_nan_and_logged_never_0(caplog, kind, value):
    z, stimulus = unequal_trials()
    z[:, 2] = value
    with caplog.at_level(logging.WARNING):
        result = ncsnr(z, stimulus)
    assert np.isnan(result).tolist() == [False, False, True, False, False, False, False], kind
    assert "1 voxels are constant or not valid" in caplog.text and "first: 2" in caplog.text


def test_a_session_in_which_a_voxel_is_not_valid_costs_only_its_images():
    z, stimulus = unequal_trials()
    lost = np.isin(stimulus, [3, 4, 5, 17])
    z[lost & (np.arange(len(z)) % 2 == 0), 4] = np.nan
    broken = np.unique(stimulus[np.isnan(z[:, 4])])
    assert len(broken) > 1
    kept = ~np.isin(stimulus, broken)
    expected = ncsnr(z[:, :4], stimulus)
    result = ncsnr(z, stimulus)
    np.testing.assert_array_equal(result[:4], expected)
    assert result[4] == pytest.approx(ncsnr(z[kept], stimulus[kept])[4], rel=1e-6)


@pytest.mark.parametrize("stimulus", [[1, 1, 1, 2, 2, 3, 3], [4, 5, 6, 7, 8, 9, 9]])
def test_too_few_repeated_images_follow_the_policy(stimulus):
    z = np.random.default_rng(0).standard_normal((7, 5)) * 0.7
    stimulus = np.array(stimulus)
    with pytest.raises(PerceptError, match=r"at least 2 images with 3 repeats; .* 1 images [23]x: use more"):
        ncsnr(z, stimulus, too_few="error")
    assert np.isnan(ncsnr(z, stimulus, too_few="nan")).all()
    groups = [z[stimulus == image] for image in np.unique(stimulus)]
    squares = sum(((group - group.mean(0)) ** 2).sum(0) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    pooled = noise_variance(z, repeats(stimulus, too_few="pooled"))
    np.testing.assert_allclose(pooled, squares / freedom, rtol=1e-12)


def test_ncsnr_leaves_its_input_as_it_was():
    z, stimulus = unequal_trials()
    before = z.copy()
    ncsnr(z, stimulus)
    np.testing.assert_array_equal(z, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ncsnr(np.zeros((5, 2)), np.arange(4)), "z has 5 trials, stimulus has 4"),
        (lambda: repeats([1, 1], n_repeats=1), "at least 2, not 1"),
        (lambda: noise_ceiling(0.3, []), "at least one trial"),
        (lambda: noise_ceiling(0.3, [3, 0]), "at least one trial"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=30, deadline=None)
@given(snr=st.floats(0, 50), n=st.integers(1, 20))
def test_the_ceiling_lies_between_0_and_1_and_grows_with_repeats(snr, n):
    fewer, more = noise_ceiling(snr, n), noise_ceiling(snr, n + 1)
    assert 0 <= fewer <= more <= 1
