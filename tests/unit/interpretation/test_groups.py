"""Which voxels belong together."""

import numpy as np
import pandas as pd
import pytest

from percept.interpretation.groups import (
    GROUPINGS,
    Group,
    blocks,
    centre,
    matched_size,
    places,
    random_sets,
    regions,
    voxels,
)

TABLE = pd.DataFrame({
    "i": [0, 2, 3, 4, 5, 8], "j": [0, 1, 0, 2, 0, 0], "k": [0, 0, 2, 1, 3, 0],
    "nsdgeneral": "nsdgeneral", "streams": ["early", "early", None, "ventral", "ventral", "early"],
    "floc_faces": [None, "OFA", "OFA", None, None, None], "ncsnr": 0.5,
})  # fmt: skip


def test_regions_of_different_atlases_overlap_and_one_of_all_voxels_is_left_out():
    found = {group.name: group.voxels.tolist() for group in regions(TABLE, 3, 4)}
    assert found == {"streams:early": [0, 1, 5], "streams:ventral": [3, 4], "floc_faces:OFA": [1, 2]}


@pytest.mark.parametrize(("smallest", "expected"), [(1, 4), (2, 2), (3, 0)])
def test_cubes_tile_the_volume(smallest, expected):
    found = blocks(TABLE, 3, smallest)
    assert len(found) == expected
    if smallest == 2:
        assert {group.name: group.voxels.tolist() for group in found} == {"0-0-0": [0, 1], "3-0-0": [2, 3]}


def test_every_voxel_is_in_one_cube_if_small_ones_count():
    members = np.concatenate([group.voxels for group in blocks(TABLE, 2, 1)])
    assert sorted(members) == list(range(6))


def test_voxels_are_named_by_their_place_where_they_have_one():
    assert [group.name for group in voxels(TABLE, 3, 4)][:2] == ["0-0-0", "2-1-0"]
    assert [group.name for group in voxels(TABLE[["streams"]], 3, 4)] == list("012345")


def test_the_place_of_a_group_is_its_mean():
    assert centre(places(TABLE), Group("block", "x", np.array([0, 1]))) == {"i": 1.0, "j": 0.5, "k": 0.0}
    assert centre(places(TABLE[["streams"]]), Group("block", "x", np.array([0]))) == {}


def test_random_sets_have_no_voxel_twice():
    found = random_sets(9, 5, 40, np.random.default_rng(0))
    assert found.shape == (40, 5) and all(len(set(one)) == 5 for one in found)
    assert set(found.ravel()) == set(range(9))


@pytest.mark.parametrize(
    ("size", "of", "expected"), [(3, 100, 3), (33, 100, 33), (60, 100, 20), (99, 100, 1)]
)
def test_a_large_group_is_compared_at_half_of_what_is_left(size, of, expected):
    assert matched_size(Group("roi", "x", np.arange(size)), of) == expected


def test_the_groupings_of_the_configuration_are_known():
    assert GROUPINGS.keys() == {"roi", "block", "voxel"}
