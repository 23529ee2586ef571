"""Views of test-time augmentation, on images whose pixels say where they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.backbones.views import N_VIEWS, augmented


def coordinates(n, height, width):
    """Images whose channels are their number, row and column."""
    number, row, column = np.mgrid[0:n, 0:height, 0:width]
    return np.stack([number, row, column], axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("how", "n_views"), N_VIEWS.items())
@given(n=st.integers(1, 3), height=st.integers(10, 60), width=st.integers(10, 60))
def test_every_view_keeps_the_order_of_the_images_and_one_size(how, n_views, n, height, width):
    views = list(augmented(coordinates(n, height, width), how))
    side = 0.9 if how == "crops" else 1
    assert len(views) == n_views
    assert {view.shape for view in views} == {(n, round(side * height), round(side * width), 3)}
    assert all((view[..., 0] == np.arange(n)[:, None, None]).all() for view in views)


def test_a_mirror_swaps_left_and_right_only():
    image, mirror = augmented(coordinates(2, 11, 17), "flip")
    np.testing.assert_array_equal(mirror[0, 3, :, 2], np.arange(17)[::-1])
    np.testing.assert_array_equal(mirror[..., 1], image[..., 1])


def test_the_crops_are_four_corners_and_the_centre_and_their_mirrors():
    views = list(augmented(coordinates(1, 20, 40), "crops"))
    corners = [tuple(view[0, 0, 0, 1:]) for view in views[::2]]
    assert corners == [(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]
    for crop, mirror in zip(views[::2], views[1::2], strict=True):
        np.testing.assert_array_equal(mirror, crop[:, :, ::-1])
