"""The brain in a box: labels that agree with each other and with NSD's conventions."""

import numpy as np
import pytest

from percept.datasets.nsd_keys import ATLASES
from percept.datasets.twin import anatomy, labels

SHAPES = [(20, 24, 18), (19, 25, 17), (12, 14, 10)]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def brain(request):
    return anatomy.build(request.param)


def test_every_atlas_of_the_release_is_there(brain):
    assert set(brain.atlases) == set(ATLASES) == set(labels.LABELS)


def test_surface_atlases_are_minus_one_off_the_ribbon_and_never_on_it(brain):
    for name, values in brain.atlases.items():
        if name in labels.VOLUMETRIC:
            assert values.min() == 0
        else:
            np.testing.assert_array_equal(values == -1, ~brain.ribbon)


@pytest.mark.parametrize("atlas", labels.LABELS)
def test_labels_stay_within_their_table(brain, atlas):
    assert brain.atlases[atlas].max() <= len(labels.LABELS[atlas])
    if atlas not in ("HCP_MMP1", "corticalsulc") and len(brain.index) > 3000:
        assert set(np.unique(brain.atlases[atlas])) >= set(range(1, len(labels.LABELS[atlas]) + 1))


def test_nsdgeneral_holds_all_voxels_with_a_receptive_field_and_a_tenth_of_the_volume(brain):
    np.testing.assert_array_equal(brain.atlases["nsdgeneral"] == 1, brain.visual)
    np.testing.assert_array_equal(np.isfinite(brain.x_deg), brain.visual)
    assert brain.visual.sum() == round(0.095 * np.prod(brain.shape))


def test_atlases_agree_about_v1_to_hv4(brain):
    prf, kastner, streams = (brain.atlases[name] for name in ("prf-visualrois", "Kastner2015", "streams"))
    early = prf > 0
    np.testing.assert_array_equal(prf[early], kastner[early])
    np.testing.assert_array_equal(streams[early & (prf < 7)], 1)
    np.testing.assert_array_equal(streams[prf == 7], 2)
    np.testing.assert_array_equal(np.isin(brain.area, ("V1", "V2", "V3")), (prf > 0) & (prf < 7))


def test_each_hemisphere_sees_the_other_half_of_the_field(brain):
    x = brain.x_deg[brain.visual]
    np.testing.assert_array_equal(x < 0, brain.right[brain.visual])


@pytest.mark.parametrize("half", ["v", "d"])
def test_ventral_areas_see_the_upper_field(brain, half):
    for name in ("V1", "V2", "V3"):
        here = brain.atlases["prf-visualrois"] == labels.number("prf-visualrois", name + half)
        assert here.any() and ((brain.y_deg[here] > 0) == (half == "v")).all()


def test_receptive_fields_grow_from_v1_to_high_areas(brain):
    median = [np.median(brain.size_deg[brain.area == name]) for name in anatomy.AREAS]
    assert (np.diff(median) > 0).all()


def test_eccentricity_labels_follow_the_receptive_fields(brain):
    label = brain.atlases["prf-eccrois"]
    distance = np.hypot(brain.x_deg, brain.y_deg)
    for number, (low, high) in enumerate([(0, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 9)], start=1):
        inside = distance[label == number]
        assert ((inside >= low) & (inside < high)).all()


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_hemisphere_files_blank_the_other_side(brain, side):
    axis = (2 * np.arange(brain.shape[0]) + 1) / brain.shape[0] - 1
    other = axis < 0 if side == "rh" else axis >= 0  # x grows to the right
    for atlas in ("streams", "MTL"):
        volume = brain.hemisphere(atlas, side)
        assert volume.shape == brain.shape and volume.dtype == np.float32
        assert (volume[other] == (0 if atlas == "MTL" else -1)).all()
        assert (volume > 0).any()


def test_both_hemispheres_together_are_the_whole_file(brain):
    left, right, whole = (brain.hemisphere("floc-faces", side) for side in ("lh", "rh", ""))
    np.testing.assert_array_equal(np.maximum(left, right), whole)


def test_a_missing_label_is_empty_and_nothing_else_changes():
    whole, lacking = anatomy.build((20, 24, 18)), anatomy.build((20, 24, 18), ("floc-faces", "aTL-faces"))
    assert (whole.atlases["floc-faces"] == 5).any() and not (lacking.atlases["floc-faces"] == 5).any()
    for name, values in whole.atlases.items():
        kept = values != 5 if name == "floc-faces" else np.ones(len(values), bool)
        np.testing.assert_array_equal(values[kept], lacking.atlases[name][kept])


@pytest.mark.parametrize(
    ("atlas", "name", "expected"),
    [
        *(("HCP_MMP1", name, n) for name, n in {"FFC": 18, "PHA1": 126, "PHA3": 127, "TE1p": 133}.items()),
        *(("HCP_MMP1", name, n) for name, n in {"TE2p": 136, "VMV3": 154, "PHA2": 155}.items()),
        *(("HCP_MMP1", name, n) for name, n in {"VMV2": 160, "VVC": 163}.items()),
        ("Kastner2015", "MST/TO2", 12),
        ("Kastner2015", "FEF", 25),
        ("prf-visualrois", "hV4", 7),
        ("floc-bodies", "EBA", 1),
        ("streams", "parietal", 7),
        ("prf-eccrois", "ecc4+", 5),
    ],
)
def test_label_numbers_are_those_of_the_release(atlas, name, expected):
    assert labels.number(atlas, name) == expected


@pytest.mark.parametrize(
    ("atlas", "n"), [("HCP_MMP1", 180), ("Kastner2015", 25), ("corticalsulc", 28), ("streams", 7)]
)
def test_label_tables_have_the_released_length_and_irregular_white_space(atlas, n):
    lines = labels.table(atlas).splitlines()
    parsed = [line.split() for line in lines]
    assert [int(number) for number, _ in parsed] == list(range(n + 1))
    assert any("\t" in line for line in lines) and any("   " in line for line in lines)
