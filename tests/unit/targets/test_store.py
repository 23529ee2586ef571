"""Features come back by id, in any order, and foreign ones are refused."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.files import PerceptError
from percept.targets import store

IDS = np.array([2, 3, 5, 8, 13, 21, 34], dtype=np.int32)
FEATURES = np.random.default_rng(0).standard_normal((7, 4, 3)).astype(np.float32)
FINGERPRINT = {"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.1, 0.2]}}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "clip" / "features.h5"
    store.write(path, FEATURES, IDS, FINGERPRINT, target="clip")
    return path


@given(rows=st.lists(st.integers(0, 6), min_size=0, max_size=20))
def test_any_order_with_duplicates_returns_the_rows_asked_for(path, rows):
    found = store.read(path, IDS[rows])
    np.testing.assert_array_equal(found, FEATURES[rows])
    assert found.dtype == np.float32 and found.shape == (len(rows), 4, 3)


@given(start=st.integers(0, 12), stop=st.integers(0, 12))
def test_columns_are_those_of_the_flattened_feature(path, start, stop):
    with store.open_features(path) as features:
        assert (features.n_dims, features.shape, features.target) == (12, (4, 3), "clip")
        found = features.read([21, 2], slice(start, stop))
    np.testing.assert_array_equal(found, FEATURES.reshape(7, 12)[[5, 0], start:stop])


def test_the_file_is_as_the_contract_says(path):
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["stimulus"][:], IDS)
        assert file["stimulus"].dtype == np.int32 and file["features"].dtype == np.float32
        assert file["features"].shape == (7, 4, 3) and file.attrs["target"] == "clip"


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 1, 5), (2, 2, 2, 1)])
def test_blocks_are_written_as_the_whole(tmp_path, sizes):
    blocks = np.split(FEATURES, np.cumsum(sizes)[:-1])
    store.write(tmp_path / "features.h5", iter(blocks), IDS, {})
    np.testing.assert_array_equal(store.read(tmp_path / "features.h5", IDS), FEATURES)


def test_a_file_that_someone_else_compressed_is_read_as_well(tmp_path, path):
    other = tmp_path / "features.h5"
    with h5py.File(path) as file, h5py.File(other, "w") as copy:
        copy.create_dataset("features", data=file["features"][:], chunks=(2, 4, 3), compression="gzip")
        copy["stimulus"] = file["stimulus"][:]
        copy.attrs.update(file.attrs)
    np.testing.assert_array_equal(store.read(other, [34, 3]), FEATURES[[6, 1]])


@pytest.mark.parametrize(
    ("asked", "named"), [([4], "4"), ([2, 99], "99"), ([-1, 3], "-1"), ([1, 4, 6], "1, 4, 6")]
)
def test_unknown_stimuli_are_named(path, asked, named):
    with pytest.raises(PerceptError, match=rf"no features of \d of the stimuli asked for \({named}\)"):
        store.read(path, asked)


def test_the_same_backbone_on_another_device_is_accepted(path):
    rounded = {"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.101, 0.199]}}
    np.testing.assert_array_equal(store.read(path, [5], rounded), FEATURES[[2]])


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({**FINGERPRINT, "kind": "pixels"}, "kind: open_clip there, pixels here"),
        (
            {"kind": "open_clip", "backbone": {"weights": "laion", "probe": [0.1, 0.2]}},
            "backbone.weights: openai there, laion here",
        ),
        ({**FINGERPRINT, "size": 3}, "size: nothing there, 3 here"),
    ],
)
def test_a_foreign_fingerprint_is_refused_by_name(path, expected, message):
    with pytest.raises(PerceptError, match=f"foreign fingerprint .*{message}"):
        store.read(path, [5], expected)


def test_a_damaged_file_is_named(tmp_path, path):
    damaged = tmp_path / "features.h5"
    damaged.write_bytes(path.read_bytes()[:300])
    with pytest.raises(PerceptError, match="truncated or damaged"):
        store.read(damaged, [2])


def test_an_absent_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        store.read(tmp_path / "features.h5", [2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_and_leave_no_file(tmp_path, value):
    broken = FEATURES.copy()
    broken[3, 1, 2] = value
    with pytest.raises(PerceptError, match="features of stimulus 8 "):
        store.write(tmp_path / "features.h5", broken, IDS, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("features", "ids", "message"),
    [
        (FEATURES, IDS[::-1], "ascending"),
        (FEATURES, np.repeat(IDS[:4], 2)[:7], "ascending and distinct"),
        (FEATURES[:6], IDS, "6 rows of features for 7 stimuli"),
        (FEATURES, IDS[:5], "more rows of features than the 5 stimuli"),
    ],
)
def test_ids_and_rows_have_to_match(tmp_path, features, ids, message):
    with pytest.raises(ValueError, match=message):
        store.write(tmp_path / "features.h5", features, ids, {})
