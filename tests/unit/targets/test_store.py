"""Features come back by id, in any order and from any precision, and foreign or damaged ones are refused."""

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open

from percept.files import PerceptError
from percept.targets import shards, store

IDS = np.array([2, 3, 5, 8, 13, 2021, 72999], dtype=np.int32)  # three files, of 5, 1 and 1 rows
FEATURES = np.random.default_rng(0).standard_normal((7, 4, 3)).astype(np.float32)
FINGERPRINT = {"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.1, 0.2]}}
PRECISIONS = ["float32", "float16", "bfloat16"]
FIRST = "shards/ids-00000-00999.safetensors"


def rounded(values, precision):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(values).to(getattr(torch, precision)).float().numpy()


@pytest.fixture(scope="module", params=PRECISIONS)
def stored(request, tmp_path_factory):
    """(index, what it must give back)"""
    path = tmp_path_factory.mktemp("store") / "clip" / "index.json"
    store.write(path, FEATURES, IDS, FINGERPRINT, target="clip", precision=request.param)
    return path, rounded(FEATURES, request.param)


@pytest.fixture
def path(tmp_path):
    store.write(tmp_path / "index.json", FEATURES, IDS, FINGERPRINT, target="clip")
    return tmp_path / "index.json"


@given(rows=st.lists(st.integers(0, 6), min_size=0, max_size=20))
@settings(deadline=None)
def test_any_order_with_duplicates_returns_the_rows_asked_for(stored, rows):
    found = store.read(stored[0], IDS[rows])
    np.testing.assert_array_equal(found, stored[1][rows])
    assert found.dtype == np.float32 and found.shape == (len(rows), 4, 3)


@given(rows=st.lists(st.integers(0, 6), max_size=9), start=st.integers(-13, 13), stop=st.integers(-13, 13))
@settings(deadline=None)
def test_columns_are_those_of_the_flattened_feature(stored, rows, start, stop):
    with store.open_features(stored[0]) as features:
        assert (features.n_dims, features.shape, features.target) == (12, (4, 3), "clip")
        np.testing.assert_array_equal(features.stimuli, IDS)
        found = features.read(IDS[rows], slice(start, stop))
    np.testing.assert_array_equal(found, stored[1].reshape(7, 12)[rows, start:stop])


def test_rows_are_decoded_in_blocks_as_they_are_at_once(stored, monkeypatch):
    whole = store.read(stored[0], IDS[::-1])
    monkeypatch.setattr(shards, "BLOCK", 100)  # two rows of 48 bytes
    np.testing.assert_array_equal(store.read(stored[0], IDS[::-1]), whole)


def test_more_files_can_be_read_than_may_be_open_at_a_time(tmp_path):
    """A pool of a million images has a thousand of them, and a process may often open no more."""
    resource = pytest.importorskip("resource")
    ids = np.arange(60, dtype=np.int32) * 1000
    values = np.random.default_rng(1).standard_normal((60, 3)).astype(np.float32)
    store.write(tmp_path / "index.json", values, ids, FINGERPRINT)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
    try:
        found = store.Features(tmp_path / "index.json").read(ids)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    np.testing.assert_array_equal(found, values)


def test_files_are_safetensors_that_others_can_read(stored):
    torch = pytest.importorskip("torch")
    index = json.loads(stored[0].read_text())
    assert [(one["first"], one["rows"]) for one in index["shards"]] == [(0, 5), (2000, 1), (72000, 1)]
    rows = 0
    for one in index["shards"]:
        with safe_open(stored[0].parent / one["file"], framework="pt") as file:
            assert set(file.keys()) == {"features", "inputs", "stimulus"}
            assert json.loads(file.metadata()["fingerprint"]) == FINGERPRINT
            assert file.get_tensor("features").dtype == getattr(torch, index["precision"])
            here = slice(rows, rows + one["rows"])
            np.testing.assert_array_equal(file.get_tensor("stimulus").numpy(), IDS[here])
            np.testing.assert_array_equal(file.get_tensor("features").float().numpy(), stored[1][here])
        rows += one["rows"]


def test_the_index_says_what_is_there(stored):
    index = json.loads(stored[0].read_text())
    assert (index["target"], index["fingerprint"], index["shape"]) == ("clip", FINGERPRINT, [4, 3])
    assert (index["n_stimuli"], index["ids_per_shard"]) == (7, 1000)
    store.verify(stored[0])
    assert FIRST in {one["file"] for one in index["shards"]}


FINITE = st.floats(-60000, 60000, width=32)


@given(values=hnp.arrays(np.float32, st.integers(1, 40), elements=FINITE))
@settings(deadline=None)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_packing_rounds_as_torch_does(values, precision):
    back = shards.unpack(shards.pack(values, precision), precision)
    np.testing.assert_array_equal(back, rounded(values, precision))


@given(bits=hnp.arrays(np.uint16, 30))
@settings(deadline=None)
def test_every_finite_bfloat16_survives(bits):
    values = shards.unpack(bits, "bfloat16")
    finite = np.isfinite(values)
    np.testing.assert_array_equal(shards.pack(values[finite], "bfloat16"), bits[finite])


@pytest.mark.parametrize(("precision", "bytes_each"), [("float32", 4), ("float16", 2), ("bfloat16", 2)])
def test_half_precision_takes_half_the_space(tmp_path, precision, bytes_each):
    store.write(tmp_path / "index.json", np.zeros((1, 1000)), [0], {}, precision=precision)
    assert (tmp_path / FIRST).stat().st_size == pytest.approx(1000 * bytes_each, abs=600)


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1, 1, 5), (2, 2, 2, 1), (0, 7)])
def test_blocks_are_written_as_the_whole(tmp_path, path, sizes):
    blocks = np.split(FEATURES, np.cumsum(sizes)[:-1])
    store.write(tmp_path / "other" / "index.json", iter(blocks), IDS, FINGERPRINT, target="clip")
    for file in [path, *(path.parent / "shards").iterdir()]:
        assert (tmp_path / "other" / file.relative_to(tmp_path)).read_bytes() == file.read_bytes()


def test_writing_again_leaves_nothing_of_what_was_there(path):
    store.write(path, FEATURES[:2] + 1, IDS[-2:], FINGERPRINT)
    np.testing.assert_array_equal(store.read(path, IDS[-2:]), FEATURES[:2] + 1)
    assert not (path.parent / FIRST).exists()


@pytest.mark.parametrize(
    ("asked", "named"), [([4], "4"), ([2, 99], "99"), ([-1, 3], "-1"), ([1, 4, 73000], "1, 4, 73000")]
)
def test_unknown_stimuli_are_named(path, asked, named):
    with pytest.raises(PerceptError, match=rf"no features of \d of the stimuli asked for \({named}\)"):
        store.read(path, asked)


def test_the_same_backbone_on_another_device_is_accepted(path):
    other = {"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.101, 0.199]}}
    np.testing.assert_array_equal(store.read(path, [5], other), FEATURES[[2]])


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


def test_a_file_of_another_backbone_among_the_others_is_refused(path, tmp_path):
    store.write(tmp_path / "other" / "index.json", FEATURES, IDS, {"kind": "pixels"}, target="clip")
    (tmp_path / "other" / FIRST).replace(tmp_path / FIRST)
    with pytest.raises(PerceptError, match=r"ids-00000-00999.* foreign fingerprint .*kind: pixels there"):
        store.read(path, [2])


def test_a_file_of_other_stimuli_is_refused(path, tmp_path):
    store.write(tmp_path / "other" / "index.json", FEATURES[1:], IDS[1:], FINGERPRINT, target="clip")
    (tmp_path / "other" / FIRST).replace(tmp_path / FIRST)
    with pytest.raises(PerceptError, match=r"it holds \(4, .*the index says \(5, "):
        store.read(path, [3])


@pytest.mark.parametrize("length", [0, 5, 40, 300, -1, -13])
def test_a_file_that_is_cut_off_is_named(path, length):
    file = path.parent / FIRST
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(PerceptError, match=f"{file.name} is damaged"):
        store.read(path, [72999])


def test_a_file_with_more_in_it_is_named(path):
    with (path.parent / FIRST).open("ab") as file:
        file.write(b"x")
    with pytest.raises(PerceptError, match="bytes and should have"):
        store.read(path, [2])


@pytest.mark.parametrize("header", [b"{}", b"[1]", b"null", b'{"__metadata__": 3}', b"\xff\xfe"])
def test_a_file_of_another_kind_is_named(path, header):
    (path.parent / FIRST).write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(PerceptError, match="its header is not readable"):
        store.read(path, [2])


def test_a_header_that_claims_gigabytes_is_not_read(path):
    (path.parent / FIRST).write_bytes(struct.pack("<Q", 1 << 40))
    with pytest.raises(PerceptError, match="a header of 1099511627776 bytes"):
        store.read(path, [2])


@given(place=st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_a_flipped_bit_anywhere_is_found(stored, place):
    file = stored[0].parent / FIRST
    good = file.read_bytes()
    bad = bytearray(good)
    bad[int(place * len(bad))] ^= 4
    try:
        file.write_bytes(bad)
        with pytest.raises(PerceptError, match=r"ids-00000-00999.safetensors is damaged: its content is not"):
            store.verify(stored[0])
    finally:
        file.write_bytes(good)


def test_a_missing_file_is_named(path):
    (path.parent / FIRST).unlink()
    with pytest.raises(PerceptError, match=r"ids-00000-00999.safetensors is damaged: it is absent"):
        store.read(path, [2])


@pytest.mark.parametrize("text", ["{}", "[]", "7", '{"target": "x"}'])
def test_an_index_that_is_none_is_named(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(PerceptError, match="it is no index of features"):
        store.read(tmp_path / "index.json", [2])


def test_an_absent_index_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        store.read(tmp_path / "index.json", [2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_and_leave_nothing(tmp_path, value):
    broken = FEATURES.copy()
    broken[3, 1, 2] = value
    with pytest.raises(PerceptError, match=r"features of stimulus 8 .*its image is damaged, or the backbone"):
        store.write(tmp_path / "index.json", broken, IDS, {})
    assert list(tmp_path.iterdir()) == []


def test_what_float16_cannot_hold_is_refused_with_advice(tmp_path):
    large = FEATURES * np.float32(1e5)
    with pytest.raises(PerceptError, match="which float16 cannot hold: set `precision: bfloat16`"):
        store.write(tmp_path / "index.json", large, IDS, {}, precision="float16")
    store.write(tmp_path / "index.json", large, IDS, {}, precision="bfloat16")
    np.testing.assert_allclose(store.read(tmp_path / "index.json", IDS), large, rtol=2**-8)


@pytest.mark.parametrize(
    ("features", "ids", "message"),
    [
        (FEATURES, IDS[::-1], "ascending"),
        (FEATURES, np.repeat(IDS[:4], 2)[:7], "ascending and distinct"),
        (FEATURES[:0], IDS[:0], "there has to be one"),
        (FEATURES[:6], IDS, "6 rows of features for 7 stimuli"),
        (FEATURES, IDS[:5], "more rows of features than the 5 stimuli"),
    ],
)
def test_ids_and_rows_have_to_match(tmp_path, features, ids, message):
    with pytest.raises(ValueError, match=message):
        store.write(tmp_path / "index.json", features, ids, {})
