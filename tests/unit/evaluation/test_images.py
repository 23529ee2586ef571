"""Image metrics against scipy, scikit-image, Pillow-free closed forms, and hand-counted identification."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from percept.evaluation import images, retrieval


def scenes(n=5, height=23, width=17, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, height, width, 3))
    smooth = gaussian_filter(noise, (0, 2, 2, 0))
    smooth -= smooth.min(axis=(1, 2, 3), keepdims=True)
    return np.rint(255 * smooth / smooth.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(23, 17), (64, 80)])
def test_pixcorr_is_pearson_over_all_values(shape):
    made, shown = scenes(4, *shape), scenes(4, *shape, seed=1)
    found = images.pixel_correlations(made, shown)
    for i in range(4):
        for j in range(4):
            assert found[i, j] == pytest.approx(pearsonr(made[i].ravel(), shown[j].ravel())[0], abs=1e-6)


def test_pixcorr_ignores_contrast_and_brightness():
    shown = scenes()
    dim = (shown // 2 + 20).astype(np.uint8)
    assert_allclose(np.diag(images.pixel_correlations(dim, shown)), 1, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_ssim_is_that_of_scikit_image_on_grey_images(dtype):
    made, shown = scenes(), scenes(seed=1)
    given = (made, shown) if dtype == np.uint8 else (made.astype(dtype) / 255, shown.astype(dtype) / 255)
    peer = [
        structural_similarity(
            rgb2gray(a),
            rgb2gray(b),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        for a, b in zip(made, shown, strict=True)
    ]
    assert_allclose(images.ssim(*given), peer, atol=1e-6)


@given(st.integers(0, 255), st.integers(0, 255))
@settings(deadline=None, max_examples=15)
def test_ssim_of_two_flat_images_is_its_luminance_term(first, second):
    a, b = first / 255, second / 255
    made, shown = (np.full((1, 12, 13, 3), value, np.uint8) for value in (first, second))
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert images.ssim(made, shown)[0] == pytest.approx(expected, abs=1e-6)


def test_ssim_is_two_dimensional():
    shown = scenes(1, 30, 20)
    turned = shown.transpose(0, 2, 1, 3)
    made = scenes(1, 30, 20, seed=2)
    assert_allclose(images.ssim(made, shown), images.ssim(made.transpose(0, 2, 1, 3), turned), atol=1e-12)


def identify(made, shown):
    return images.identification_ranks(images.pixel_correlations(made, shown), shown)


def test_the_reconstruction_is_fixed_and_the_true_images_compete():
    # Reconstructions 0 and 1 both resemble image 0; reconstruction 2 resembles image 2.
    shown = scenes(3)
    made = shown[[0, 0, 2]]
    ranks = identify(made, shown)
    assert ranks.better[0] == 0
    assert ranks.better[1] >= 1  # image 0 beats image 1 for the second reconstruction
    correlations = images.pixel_correlations(made, shown)
    own = np.diag(correlations)
    assert_allclose(retrieval.two_way(ranks), ((correlations < own[:, None]).sum(axis=1)) / 2)
    other_orientation = (correlations < own[None, :]).sum(axis=0) / 2
    assert not np.allclose(retrieval.two_way(ranks), other_orientation)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_same_reconstruction_for_all_scores_exactly_half(n):
    shown = scenes(n)
    collapsed = np.broadcast_to(scenes(1, seed=7)[0], shown.shape)
    assert retrieval.two_way(identify(collapsed, shown)).mean() == pytest.approx(0.5, abs=1e-12)


def test_blank_reconstructions_score_exactly_half_each():
    shown = scenes(5)
    assert_allclose(retrieval.two_way(identify(np.full_like(shown, 77), shown)), 0.5)


def test_duplicated_true_images_are_ties():
    shown = scenes(4)[[0, 1, 2, 0]]
    ranks = identify(shown, shown)
    assert_array_equal(ranks.ties, [1, 0, 0, 1])
    assert_array_equal(ranks.better, 0)


def test_true_images_identify_themselves():
    shown = scenes(6)
    assert_allclose(retrieval.two_way(identify(shown, shown)), 1)


@pytest.mark.parametrize(("size", "out"), [(4, 8), (5, 7), (7, 21), (9, 6)])
def test_resizing_agrees_with_torch_without_antialiasing(size, out):
    torch = pytest.importorskip("torch")
    small = scenes(2, size, size)
    tensor = torch.from_numpy(small).permute(0, 3, 1, 2).float()
    peer = torch.nn.functional.interpolate(tensor, (out, out), mode="bilinear", antialias=False)
    found = images.resize(small, out)
    assert_allclose(found, peer.permute(0, 2, 3, 1).numpy(), atol=0.51)
    assert found.dtype == np.uint8


def test_resizing_to_the_same_size_changes_nothing():
    shown = scenes(2, 16, 16)
    assert images.resize(shown, 16) is shown


def test_resizing_makes_oblong_images_square():
    assert images.resize(scenes(1, 10, 20), 15).shape == (1, 15, 15, 3)


@pytest.mark.parametrize(
    ("made", "shown", "message"),
    [
        (scenes(2), scenes(2, 24, 17), "both need axes .* of one size"),
        (scenes(2)[..., 0], scenes(2)[..., 0], "both need axes"),
    ],
)
@pytest.mark.parametrize("metric", [images.ssim, images.pixel_correlations])
def test_images_of_other_sizes_are_refused(metric, made, shown, message):
    with pytest.raises(ValueError, match=message):
        metric(made, shown)


def test_images_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, its window, not 10 x 30"):
        images.ssim(scenes(1, 10, 30), scenes(1, 10, 30))


@pytest.mark.parametrize("bad", [1.5, -0.1, np.nan])
def test_float_images_outside_the_range_are_refused(bad):
    image = np.full((12, 12, 3), 0.5)
    image[3, 4, 1] = bad
    with pytest.raises(ValueError, match=r"need uint8, or float in \[0, 1\]"):
        images.unit_range(image)
