"""A file that exists is whole, and a damaged one is named."""

import json
import os

import h5py
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept import files
from percept.files import PerceptError


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failing_writer_leaves_neither_file_nor_debris(tmp_path):
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "a.h5") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert entries(tmp_path) == []


def test_a_failing_writer_keeps_the_older_file(tmp_path):
    files.write_text("old", tmp_path / "a.txt")
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"


def test_the_temporary_file_keeps_the_suffixes_writers_choose_by(tmp_path):
    with files.atomic(tmp_path / "deep" / "a.nii.gz") as temporary:
        temporary.write_bytes(b"")
        assert temporary.name.endswith(".nii.gz")
    assert entries(tmp_path / "deep") == ["a.nii.gz"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), files.atomic(tmp_path / "a"):
        pass
    assert entries(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"no table at all"])
def test_a_damaged_parquet_file_is_named(tmp_path, damage):
    path = tmp_path / "trials.parquet"
    path.write_bytes(damage)
    with pytest.raises(PerceptError, match=r"trials\.parquet is not readable as parquet.*Delete it"):
        files.read_parquet(path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_parquet_file_is_named(tmp_path, share):
    path = tmp_path / "voxels.parquet"
    files.write_parquet(pd.DataFrame({"i": range(1000)}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(PerceptError, match=r"voxels\.parquet.*truncated or damaged"):
        files.read_parquet(path)


@pytest.mark.parametrize("kept", [0, 7, 500])
def test_a_truncated_hdf5_file_is_named(tmp_path, kept):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = [1.0] * 500
    with files.open_hdf5(path) as file:
        assert file["x"].shape == (500,)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PerceptError, match=r"a\.h5 is not readable as HDF5 .* Delete it and run"):
        files.open_hdf5(path)


@pytest.mark.parametrize("reader", [files.read_parquet, files.read_json, files.open_hdf5])
def test_an_absent_file_is_said_to_be_absent(tmp_path, reader):
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "absent")


@pytest.mark.parametrize("damage", ["", "{", '{"a": 1', "\x00"])
def test_damaged_json_is_named(tmp_path, damage):
    (tmp_path / "split.json").write_text(damage)
    with pytest.raises(PerceptError, match=r"split\.json is not readable as JSON"):
        files.read_json(tmp_path / "split.json")


def test_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="nan"):
        files.write_json({"value": float("nan")}, tmp_path / "a.json")
    assert entries(tmp_path) == []


@given(data=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_equal_data_give_equal_bytes_whatever_their_order(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("json")
    files.write_json(data, folder / "a.json")
    files.write_json(dict(reversed(data.items())), folder / "b.json")
    assert (folder / "a.json").read_bytes() == (folder / "b.json").read_bytes()
    assert json.loads((folder / "a.json").read_text()) == data


def test_sha256_is_that_of_the_standard_vector(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files.sha256(tmp_path / "abc") == expected
    assert files.hash_text("abc") == expected[:12]


def test_what_a_killed_process_left_beside_a_file_goes_when_the_file_is_written(tmp_path):
    left, other, fresh = (
        tmp_path / name for name in (".a.txt.abcd_123", ".b.txt.abcd_123", ".a.txt.efgh_456")
    )
    for folder in (left, other, fresh):
        folder.mkdir()
        (folder / "a.txt").write_text("half")
    for folder in (left, other):
        os.utime(folder, (files.STARTED - 10, files.STARTED - 10))
    files.write_text("whole", tmp_path / "a.txt")
    assert entries(tmp_path) == sorted(["a.txt", other.name, fresh.name])
