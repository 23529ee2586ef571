"""Named ROI sets: what they hold, how they overlap, and what is said about a name that does not exist."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.datasets import nsd
from percept.files import PerceptError
from percept.voxels import roi

# Seed project 004 (Koios1143/Machine-Learning-Final), region lists as published.
SET1 = "V1v V1d V2v V2d V3v V3d hV4 FFA-1 FFA-2 PPA"
SET2 = "EBA FBA-1 FBA-2 mTL-bodies OFA FFA-1 FFA-2 mTL-faces aTL-faces OPA PPA RSC"
SET3 = "early midventral midlateral midparietal ventral lateral parietal"


@pytest.fixture
def table():
    """Six voxels: nsdgeneral, V1v, FFA-1, both of the last two, early stream and nothing at all."""
    return pd.DataFrame(
        {
            "i": np.arange(6, dtype=np.int16),
            "nsdgeneral": ["nsdgeneral", "nsdgeneral", None, "nsdgeneral", None, None],
            "prf_visualrois": [None, "V1v", None, "V1v", None, None],
            "floc_faces": [None, None, "FFA-1", "FFA-1", None, None],
            "floc_places": pd.Series([None] * 6, dtype="str"),
            "streams": [None, None, None, None, "early", None],
            "ncsnr": np.float32(0.3),
            "valid": True,
        }
    )


@pytest.mark.parametrize(("name", "regions"), [("set1", SET1), ("set2", SET2), ("set3", SET3)])
def test_the_numbered_sets_are_the_published_lists(name, regions):
    assert [roi.split_label(label)[1] for label in roi.SETS[name]] != []
    assert {roi.split_label(label)[1] for label in roi.SETS[name]} == set(regions.split())
    assert len(roi.SETS[name]) == len(regions.split())


@pytest.mark.parametrize("name", roi.SETS)
def test_every_built_in_set_uses_atlases_of_the_release(name):
    assert set(roi.atlases_of([name])) <= set(nsd.ATLASES)
    assert len(set(roi.SETS[name])) == len(roi.SETS[name]) > 0


def test_the_gate_above_saw_the_sets_that_are_promised():
    promised = "nsdgeneral V1 V2 V3 hV4 early higher faces bodies places words set1 set2 set3 " + SET3
    assert roi.SETS.keys() >= set(promised.split())


def test_early_and_higher_part_the_streams():
    early, higher = set(roi.SETS["early"]), set(roi.SETS["higher"])
    assert early | higher == set(roi.SETS["set3"])
    assert not early & higher


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nsdgeneral", [0, 1, 3]),
        ("V1", [1, 3]),
        ("retinotopic", [1, 3]),
        ("faces", [2, 3]),
        ("early", [4]),
        ("set1", [1, 2, 3]),
        ("set2", [2, 3]),
        ("all", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_set_selects_the_union_of_its_labels(table, name, expected):
    table["floc_bodies"] = None
    selected = roi.select(table, name)
    assert selected.dtype == bool
    assert np.flatnonzero(selected).tolist() == expected


NAMES = ["V1v", "V1d", "hV4"]
columns = st.lists(st.sampled_from([None, *NAMES]), min_size=1, max_size=9)


@given(first=columns, picked=st.sets(st.sampled_from(NAMES), min_size=1))
def test_a_set_is_the_boolean_or_of_its_labels(first, picked):
    table = pd.DataFrame(
        {"prf_visualrois": pd.Series(first, dtype="str"), "other": pd.Series(first[::-1], dtype="str")}
    )
    labels = [f"{atlas}:{name}" for atlas in ("prf-visualrois", "other") for name in picked]
    table.attrs["labels"] = {"other": NAMES}
    expected = [a in picked or b in picked for a, b in zip(first, first[::-1], strict=True)]
    assert roi.members(table, labels).tolist() == expected


def test_a_set_of_the_config_comes_before_a_built_in_one(table):
    custom = {"mine": ("floc-faces", "streams:early"), "V1": ("floc-faces",)}
    assert np.flatnonzero(roi.select(table, "mine", custom)).tolist() == [2, 3, 4]
    assert np.flatnonzero(roi.select(table, "V1", custom)).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("label", "atlas", "name"),
    [
        ("nsdgeneral", "nsdgeneral", None),
        ("Kastner2015:MST/TO2", "Kastner2015", "MST/TO2"),
        ("prf-eccrois:ecc4+", "prf-eccrois", "ecc4+"),
        ("own:a:b", "own", "a:b"),
    ],
)
def test_labels_part_at_the_first_colon(label, atlas, name):
    assert roi.split_label(label) == (atlas, name)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (("nsdgeneral", "early", "higher"), ("nsdgeneral", "streams")),
        (("set1",), ("prf-visualrois", "floc-faces", "floc-places")),
        (("all", "mine"), ("Kastner2015",)),
        (("all",), ()),
    ],
)
def test_atlases_are_listed_once_in_the_order_of_use(sets, expected):
    assert roi.atlases_of(sets, {"mine": ("Kastner2015:V1v", "Kastner2015:FEF")}) == expected


MINE = {"mine": ("streams:early", "lh.streams:early"), "whole": ("streams",), "V1": ("prf-eccrois",)}


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (("higher", "ventral"), tuple(sorted(roi.SETS["higher"]))),
        (("ventral", "all", "ventral"), ("streams:ventral",)),
        (("mine", "early"), ("lh.streams:early", "streams:early")),
        (("mine", "early", "whole", "higher"), ("lh.streams:early", "streams")),
        (("V1",), ("prf-eccrois",)),
        (("nsdgeneral", "early"), ("nsdgeneral", "streams:early")),
        (("all",), ()),
    ],
)
def test_the_union_names_every_voxel_by_the_fewest_labels(sets, expected):
    assert roi.union(sets, MINE) == roi.union(reversed(sets), MINE) == expected


@given(st.lists(st.sampled_from(sorted(roi.SETS)), min_size=1))
def test_the_union_needs_the_same_atlases_as_its_sets_and_is_its_own_union(sets):
    labels = roi.union(sets)
    assert set(roi.atlases_of_labels(labels)) == set(roi.atlases_of(sets))
    assert roi.union(["mine"], {"mine": labels}) == labels


def test_the_union_refuses_a_set_that_does_not_exist():
    with pytest.raises(PerceptError, match=r"no ROI set 'ventrl'.*ventral"):
        roi.union(["higher", "ventrl"])


@pytest.mark.parametrize("atlas", nsd.ATLASES)
def test_columns_are_the_names_of_the_files_with_underscores(atlas):
    assert roi.column(atlas) == atlas.replace("-", "_")
    assert roi.column(atlas).isidentifier()


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_one_hemisphere_of_an_atlas_is_a_column_of_its_own(side):
    assert roi.column(f"{side}.floc-faces") == f"{side}_floc_faces"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nsdgenral", r"no ROI set 'nsdgenral' \(did you mean 'nsdgeneral'\? there are: all, nsdgeneral, V1"),
        ("zzzz", r"no ROI set 'zzzz' \(there are: all, nsdgeneral"),
        ("mine2", r"did you mean 'mine'.*voxels\.rois"),
    ],
)
def test_an_unknown_set_is_answered_with_those_that_exist(table, name, message):
    with pytest.raises(PerceptError, match=message):
        roi.select(table, name, {"mine": ("nsdgeneral",)})


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            "floc-face:FFA-1",
            r"no atlas 'floc-face' \(did you mean 'floc_faces'\? there are: nsdgeneral, prf_",
        ),
        ("floc-words", r"no atlas 'floc-words' .*there are: .*floc_places"),
        ("floc-faces:FFA1", r"'floc-faces' has no label 'FFA1' \(did you mean 'FFA-1'\? there are: FFA-1\)"),
        ("valid", r"no atlas 'valid'"),
    ],
)
def test_unknown_atlases_and_labels_are_answered_with_those_that_exist(table, label, message):
    with pytest.raises(PerceptError, match=message):
        roi.select(table, "mine", {"mine": (label,)})


def test_a_label_that_the_atlas_has_may_be_empty_in_a_subject(table):
    assert not roi.members(table, ("floc-faces:mTL-faces",)).any()  # built in
    with pytest.raises(PerceptError, match="no label 'AT'"):
        roi.members(table, ("floc-faces:AT",))
    table.attrs["labels"] = {"floc_faces": ["FFA-1", "AT"]}
    assert not roi.members(table, ("floc-faces:AT",)).any()


def test_a_set_that_selects_nothing_is_an_error(table):
    with pytest.raises(
        PerceptError, match=r"'places' \(floc-places\) selects none of the 6 extracted voxels"
    ):
        roi.select(table, "places")


def test_counts_cover_the_sets_whose_atlases_are_there(table):
    counts = roi.count(table, {"mine": ("floc-faces", "streams")})
    assert counts["all"] == 6
    assert (counts["nsdgeneral"], counts["V1"], counts["hV4"], counts["mine"]) == (3, 2, 0, 3)
    assert "bodies" not in counts and "set2" not in counts
