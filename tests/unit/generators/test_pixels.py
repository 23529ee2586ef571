import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from percept.files import PerceptError
from percept.generators.pixels import (
    PixelsConfig,
    as_squares,
    enlarge,
    interpolation,
    keys_cubic,
    resize,
    to_uint8,
)
from percept.generators.roles import Context, Roles


@pytest.mark.parametrize(("size", "out"), [(7, 31), (16, 128), (32, 128), (8, 8), (33, 9), (128, 16), (5, 4)])
def test_resampling_agrees_with_pillow(size, out):
    images = np.random.default_rng(size).random((3, size, size, 2), dtype=np.float32)
    ours = resize(images, out)
    for image, mine in zip(images, ours, strict=True):
        for channel in range(2):
            peer = Image.fromarray(image[..., channel]).resize((out, out), Image.Resampling.BICUBIC)
            np.testing.assert_allclose(mine[..., channel], np.asarray(peer), atol=2e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_an_image_resampled_to_its_own_size_is_itself(size):
    np.testing.assert_allclose(interpolation(size, size), np.eye(size), atol=1e-7)


@given(size=st.integers(1, 40), out=st.integers(1, 80))
def test_a_flat_image_stays_flat(size, out):
    np.testing.assert_allclose(interpolation(size, out).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("distance", "weight"), [(0, 1), (0.5, 0.5625), (1, 0), (1.5, -0.0625), (2, 0), (9, 0)]
)
def test_the_kernel_takes_the_values_of_keys(distance, weight):
    assert keys_cubic(np.array([float(distance)]))[0] == pytest.approx(weight)


def test_rows_and_columns_are_not_exchanged():
    image = np.zeros((1, 4, 4, 3), dtype=np.float32)
    image[0, 0, 3] = (1, 0, 0)  # red in the upper right corner
    made = enlarge(image, 16)[0]
    assert made[:3, -3:, 0].min() > 200
    assert made[-3:, :3, 0].max() == 0 and made[..., 1:].max() == 0


@pytest.mark.parametrize("out", [16, 40])
def test_flat_and_shaped_targets_make_the_same_images(out):
    low = np.random.default_rng(0).random((5, 7, 7, 3), dtype=np.float32)
    generator = PixelsConfig(out=out).build(Context())
    made = generator.generate(Roles(np.arange(5), lowlevel=low), seed=0).images
    assert made.shape == (5, out, out, 3) and made.dtype == np.uint8
    flat = Roles(np.arange(5), lowlevel=low.reshape(5, -1))
    np.testing.assert_array_equal(made, generator.generate(flat, seed=1).images)


@given(arrays(np.float32, (2, 3, 3, 3), elements=st.floats(-1e6, 1e6, width=32)))
@settings(max_examples=50)
def test_whatever_is_predicted_is_clipped_not_wrapped(predicted):
    made = to_uint8(predicted).astype(float) / 255
    np.testing.assert_allclose(made, np.clip(predicted, 0, 1), atol=0.5 / 255 + 1e-6)


def test_recovery_of_a_smooth_image_is_nearly_perfect():
    ramp = np.linspace(0.1, 0.9, 32)
    full = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.float32(0.5)), axis=-1)[None]
    recovered = enlarge(resize(full.astype(np.float32), 16), 32)
    inner = np.s_[:, 3:-3, 3:-3]  # a ramp ends at the border
    np.testing.assert_allclose(recovered[inner] / 255, full[inner], atol=0.01)


@pytest.mark.parametrize(
    "shape", [(2, 10), (2, 48 * 2), (2, 2, 6, 4), (2, 512), (2, 0), (2, 3, 4), (2, 3, 2, 2), (2, 12, 1)]
)
def test_a_target_that_is_no_square_colour_image_is_refused(shape):
    with pytest.raises(PerceptError, match="target is of kind `pixels`"):
        as_squares(np.zeros(shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_no_image_can_show_are_refused(bad):
    predicted = np.zeros((4, 12))
    predicted[1, 5] = bad
    with pytest.raises(PerceptError, match="1 of 4 predicted images"):
        enlarge(predicted, 128)
