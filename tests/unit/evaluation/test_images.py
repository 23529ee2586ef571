"""Pixel metrics against scipy, scikit-image, torchvision, torchmetrics and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from percept.evaluation import images

WINDOW = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def scenes(n=5, height=23, width=17, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n, height, width, 3))
    smooth = gaussian_filter(noise, (0, 2, 2, 0))
    smooth -= smooth.min(axis=(1, 2, 3), keepdims=True)
    return np.rint(255 * smooth / smooth.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)


def flat(*values):
    return np.stack([np.full((12, 13, 3), value, np.uint8) for value in values])


def enlarged(pictures, antialias=False):
    """What the field compares, by torchvision: 256, then 425 pixels, (image, 425, 425, 3) in [0, 1]."""
    torch = pytest.importorskip("torch")
    from torchvision.transforms.functional import resize

    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).double() / 255
    for size in (256, 425):
        tensor = resize(tensor, [size, size], antialias=antialias)
    return tensor.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("shape", [(23, 17), (64, 80), (300, 260)])
@pytest.mark.parametrize("antialias", [False, True])
def test_pixcorr_is_pearson_over_all_values_of_the_enlarged_images(shape, antialias):
    made, shown = scenes(2, *shape), scenes(3, 40, 31, seed=1)
    vectors = [images.pixel_vectors(images.common(each, antialias)) for each in (made, shown)]
    found = images.products(*vectors)
    peers = [enlarged(each, antialias).reshape(len(each), -1) for each in (made, shown)]
    for i in range(2):
        for j in range(3):
            assert found[i, j] == pytest.approx(pearsonr(peers[0][i], peers[1][j])[0], abs=1e-6)


def test_pixcorr_is_that_of_numpy():
    made, shown = scenes(3), scenes(3, seed=1)
    rows = np.concatenate([enlarged(each).reshape(3, -1) for each in (made, shown)])
    assert_allclose(images.pixel_correlations(made, shown), np.corrcoef(rows)[:3, 3:], atol=1e-6)


def test_pixcorr_ignores_contrast_and_brightness():
    shown = scenes()
    dim = (shown // 2 + 20).astype(np.uint8)
    assert_allclose(np.diag(images.pixel_correlations(dim, shown)), 1, atol=1e-3)


@pytest.mark.parametrize("value", [0, 3, 77, 255])
def test_an_image_of_one_value_correlates_with_nothing(value):
    assert_array_equal(images.pixel_correlations(flat(value), scenes(3)), 0)


@pytest.mark.parametrize("size", [23, 256, 425])
def test_enlarging_is_that_of_torch(size):
    torch = pytest.importorskip("torch")
    line = torch.from_numpy(np.random.default_rng(0).random((1, 1, size, size)))
    peer = torch.nn.functional.interpolate(line, (425, 425), mode="bilinear")[0, 0].numpy()
    weights = images.enlargement(size)
    assert_allclose(weights @ line[0, 0].numpy() @ weights.T, peer, atol=1e-12)
    assert_allclose(weights.sum(axis=1), 1)


def test_ssim_is_that_of_scikit_image_on_grey_images():
    made, shown = scenes(3), scenes(3, 40, 31, seed=1)
    pairs = zip(enlarged(made), enlarged(shown), strict=True)
    peer = [structural_similarity(rgb2gray(a), rgb2gray(b), **WINDOW) for a, b in pairs]
    assert_allclose(images.ssim(made, shown), peer, atol=1e-6)


def test_ssim_is_that_of_torchmetrics():
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.image")
    greys = [images.field_grey(images.common(scenes(2, seed=seed))) for seed in (0, 1)]
    tensors = [torch.from_numpy(grey[:, None]) for grey in greys]
    _, places = functional.structural_similarity_index_measure(
        *tensors, sigma=1.5, kernel_size=11, data_range=1.0, return_full_image=True
    )
    inside = places[:, 0, 5:-5, 5:-5].mean(dim=(1, 2))  # it averages the mirrored border as well
    assert_allclose(images.ssim(scenes(2, seed=0), scenes(2, seed=1)), inside.numpy(), atol=1e-6)


def test_ssim_of_columns_is_the_one_of_old_versions_of_scikit_image():
    # `multichannel=True` on a grey image made each column a channel, and averaged their one-dimensional SSIM
    greys = [images.field_grey(images.common(scenes(1, seed=seed)))[0] for seed in (0, 1)]
    moments = [images.moments(grey, images.ROWS) for grey in greys]
    some = slice(0, 425, 25)
    peer = [
        structural_similarity(*columns, **WINDOW) for columns in zip(*(g.T[some] for g in greys), strict=True)
    ]
    chosen = [images.Moments(*(part[:, some] for part in each)) for each in moments]
    assert images.structural_similarity(*chosen, images.ROWS) == pytest.approx(np.mean(peer), abs=1e-6)
    both = images.structural_similarity(*(images.moments(grey) for grey in greys))
    assert images.structural_similarity(*moments, images.ROWS) > both


@given(st.integers(0, 255), st.integers(0, 255))
@settings(deadline=None, max_examples=10)
def test_ssim_of_two_flat_images_is_its_luminance_term(first, second):
    a, b = first / 255, second / 255
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert images.ssim(flat(first), flat(second))[0] == pytest.approx(expected, abs=1e-5)


def test_ssim_is_two_dimensional():
    made, shown = scenes(1, 30, 20, seed=2), scenes(1, 30, 20)
    turned = [each.transpose(0, 2, 1, 3) for each in (made, shown)]
    assert_allclose(images.ssim(made, shown), images.ssim(*turned), atol=1e-6)


def test_blur_is_rewarded_by_ssim():
    # What the report says beside it: a blank image beats another sharp scene.
    shown, other = scenes(4, 64, 64), scenes(4, 64, 64, seed=9)
    blank = np.broadcast_to(shown.mean(axis=(1, 2), keepdims=True), shown.shape).astype(np.uint8)
    assert images.ssim(blank, shown).mean() > images.ssim(other, shown).mean()


@pytest.mark.parametrize(
    ("channel", "weight"), [(0, 0.2125), (1, 0.7154), (2, 0.0721)], ids=["red", "green", "blue"]
)
def test_grey_is_luminance_as_in_scikit_image(channel, weight):
    picture = np.zeros((1, 12, 13, 3), np.uint8)
    picture[..., channel] = 255
    assert_allclose(images.field_grey(images.common(picture)), weight, atol=1e-6)


def test_the_common_size_is_square_and_as_torchvision_resizes_without_antialiasing():
    torch = pytest.importorskip("torch")
    from torchvision.transforms.functional import resize

    small = scenes(2, 300, 280)
    tensor = torch.from_numpy(small).permute(0, 3, 1, 2).float() / 255
    for antialias in (False, True):
        peer = resize(tensor, [256, 256], antialias=antialias).permute(0, 2, 3, 1).numpy()
        assert_allclose(images.common(small, antialias), peer, atol=1e-6)
    assert not np.allclose(images.common(small), images.common(small, antialias=True), atol=1e-4)


@pytest.mark.parametrize("bad", [scenes(2)[..., 0], scenes(2) / 255, scenes(2)[..., :2]])
def test_what_is_no_8_bit_colour_image_is_refused(bad):
    with pytest.raises(ValueError, match=r"uint8 of axes \(image, height, width, 3\)"):
        images.pixel_correlations(bad, scenes(2))
