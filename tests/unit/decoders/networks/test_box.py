"""The box of a mask: where it is, what lies in it, and what is read back."""

import inspect
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from percept.decoders.networks import box
from percept.files import PerceptError


def masks():
    """Masks of unequal sides with at least one voxel."""
    sides = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 7))
    return sides.flatmap(lambda shape: arrays.arrays(bool, shape)).filter(np.any)


@given(masks(), st.integers(0, 2), st.integers(1, 4))
def test_scattered_responses_are_the_volume_that_was_masked(mask, margin, multiple):
    """numpy's own masking, which is in C order, is the oracle."""
    found = box.around(np.argwhere(mask), margin, multiple)
    volume = np.where(mask, np.random.default_rng(0).normal(size=mask.shape), 0)
    scattered = found.scatter(volume[mask][None])[0]
    corner = np.argwhere(mask).min(axis=0) - margin
    np.testing.assert_array_equal(found.origin, corner)
    for place in np.argwhere(mask):
        assert scattered[tuple(place - corner)] == volume[tuple(place)]
    assert np.count_nonzero(scattered) == np.count_nonzero(volume[mask])
    assert all(side % multiple == 0 for side in found.shape)


@given(masks())
def test_what_is_scattered_is_gathered_again(mask):
    found = box.around(np.argwhere(mask))
    responses = np.random.default_rng(1).normal(size=(3, mask.sum()))
    np.testing.assert_array_equal(found.gather(found.scatter(responses)), responses)


@given(masks())
def test_without_margin_the_box_is_the_smallest(mask):
    found = box.around(np.argwhere(mask))
    inside = np.zeros(found.shape, bool)
    inside.flat[found.cell] = True
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        touched = inside.any(axis=others)
        assert touched[0] and touched[-1]


def test_the_order_of_the_voxels_is_that_of_the_responses():
    places = np.array([[4, 0, 2], [3, 0, 2], [3, 1, 0]])
    found = box.around(places)
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found.cell, [8, 2, 3])  # C order: k fastest


def test_the_box_of_responses_cannot_depend_on_them():
    assert list(inspect.signature(box.around).parameters) == ["coordinates", "margin", "multiple"]
    assert list(inspect.signature(box.of_table).parameters) == ["voxels", "margin", "multiple"]


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (None, "does not say where its voxels are"),
        (pd.DataFrame({"ncsnr": [0.1]}), "does not say where"),
        (pd.DataFrame({"i": [-1, -1], "j": [-1, -1], "k": [-1, -1]}), "does not say where"),
        (pd.DataFrame({"i": [1, 1], "j": [2, 2], "k": [3, 3]}), "1 voxels share their coordinates"),
        (pd.DataFrame({"i": [], "j": [], "k": []}), "there is no voxel"),
    ],
)
def test_voxels_of_unknown_places_are_refused(table, match):
    with pytest.raises(PerceptError, match=match):
        box.of_table(table)


def test_the_box_needs_no_torch():
    code = "import sys, percept.decoders.networks.box; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
