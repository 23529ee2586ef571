"""Area averages against skimage and Pillow, and what they must conserve."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.transform import downscale_local_mean

from percept.targets.encode import encode
from percept.targets.pixels import LUMA, PixelsConfig, area_resize, area_weights


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 30, 45, 3), dtype=np.uint8)


@given(n_in=st.integers(1, 450), n_out=st.integers(1, 450))
def test_every_output_pixel_is_an_average_and_every_input_pixel_counts_alike(n_in, n_out):
    weights = area_weights(n_in, n_out)
    assert weights.shape == (n_out, n_in) and weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=0), n_out / n_in, rtol=1e-4)


@pytest.mark.parametrize("size", [3, 5, 15])
def test_agrees_with_the_block_mean_of_skimage_where_blocks_are_whole(images, size):
    peer = [downscale_local_mean(one / 255, (30 // size, 45 // size, 1)) for one in images]
    np.testing.assert_allclose(area_resize(images, size), peer, atol=1e-6)


@pytest.mark.parametrize("size", [5, 17, 25, 85])  # whole blocks of 425; Pillow never splits a pixel
def test_agrees_with_the_box_filter_of_pillow_to_its_rounding(size):
    image = np.random.default_rng(1).integers(0, 256, (425, 425, 3), dtype=np.uint8)
    peer = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX)) / 255
    assert np.abs(area_resize(image[None], size)[0] - peer).max() < 1.01 / 255


@given(level=st.integers(0, 255), size=st.integers(1, 30))
def test_a_uniform_image_stays_as_it_is(level, size):
    image = np.full((1, 30, 41, 3), level, dtype=np.uint8)
    np.testing.assert_allclose(area_resize(image, size), level / 255, atol=1e-6)


def test_the_mean_intensity_is_kept(images):
    np.testing.assert_allclose(
        area_resize(images, 7).mean(axis=(1, 2)), images.mean(axis=(1, 2)) / 255, atol=1e-6
    )


class Pictures:
    def __init__(self, images):
        self.all = images

    def images(self, stimuli):
        return self.all[np.asarray(stimuli)]


@pytest.mark.parametrize(("colour", "shape"), [("rgb", (3, 5, 5, 3)), ("grey", (3, 5, 5))])
def test_features_are_images_in_the_order_asked(images, colour, shape):
    features, fingerprint = encode(PixelsConfig(size=5, colour=colour), Pictures(images), [2, 0, 1])
    expected = area_resize(images[[2, 0, 1]], 5)
    assert features.shape == shape and features.dtype == np.float32
    np.testing.assert_allclose(features, expected if colour == "rgb" else expected @ LUMA, atol=1e-6)
    assert fingerprint == {"kind": "pixels", "size": 5, "colour": colour, "filter": "area"}


def test_grey_is_the_luma_of_pillow(images):
    grey, _ = encode(PixelsConfig(size=30, colour="grey"), Pictures(images[:, :, :30]), [0])
    peer = np.asarray(Image.fromarray(images[0, :, :30]).convert("L")) / 255
    assert np.abs(grey[0] - peer).max() < 1.01 / 255
