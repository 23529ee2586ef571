"""The challenge's pickled tables of names are taken apart, and nothing in them is ever executed."""

import io
import json
import os
import pickle
import time
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.datasets.algonauts import mapping
from percept.files import PerceptError

TABLE = {0: "Unknown", 1: "V1v", 2: "V1d", 300: "hV4"}
NAMES = {number: name for number, name in TABLE.items() if number}


class Evil:
    """Runs a command where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def save(folder, content, pickled=None):
    """An npy file as numpy writes object arrays: header, then a pickle (or another one in its place)."""
    buffer = io.BytesIO()
    np.save(buffer, np.array(content, dtype=object), allow_pickle=True)
    data = buffer.getvalue()
    if pickled is not None:
        buffer = io.BytesIO(data)
        np.lib.format.read_magic(buffer)
        np.lib.format.read_array_header_1_0(buffer)
        data = data[: buffer.tell()] + pickled
    (folder / "mapping_streams.npy").write_bytes(data)


def test_the_released_form_is_read(tmp_path):
    save(tmp_path, TABLE)
    assert mapping.read(tmp_path, "streams") == NAMES


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_protocol_of_pickle_is_understood(tmp_path, protocol):
    save(tmp_path, TABLE, pickle.dumps(np.array(TABLE, dtype=object), protocol=protocol))
    assert mapping.read(tmp_path, "streams") == NAMES


@given(st.dictionaries(st.integers(0, 2**31), st.text(min_size=1, max_size=20), max_size=30))
def test_any_table_of_numbers_and_names_comes_back(table):
    pickled = pickle.dumps(np.array(table, dtype=object), protocol=3)
    assert mapping.taken_apart(pickled) == table


@pytest.mark.parametrize(
    ("evil", "named"),
    [
        (lambda path: Evil(os.system, f"touch {path}"), "system"),
        (lambda path: Evil(exec, f"open({str(path)!r}, 'w')"), "exec"),
        (lambda path: Evil(eval, f"open({str(path)!r}, 'w')"), "eval"),
        (lambda path: Evil(open, str(path), "w"), "open"),
        (lambda path: Evil(np.save, str(path), 1), "numpy.save"),
        (lambda path: Evil(getattr, os, "system"), "getattr"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_foreign_code_is_refused_and_never_runs(tmp_path, evil, named, inside, protocol):
    """As the whole content, and as a name within a table; `numpy.load` would have run it."""
    touched = tmp_path / "touched"
    content = evil(touched) if named != "getattr" else Evil(getattr, "text", "upper")
    content = np.array({1: content}, dtype=object) if inside else content
    save(tmp_path, TABLE, pickle.dumps(content, protocol=protocol))
    with pytest.raises(PerceptError, match=r"can run foreign code.*mapping_streams\.json"):
        mapping.read(tmp_path, "streams")
    assert not touched.exists()


def test_the_attack_of_the_test_above_is_real(tmp_path):
    touched = tmp_path / "touched"
    save(tmp_path, TABLE, pickle.dumps(Evil(os.system, f"touch {touched}"), protocol=3))
    with pytest.raises(Exception), (tmp_path / "mapping_streams.npy").open("rb") as file:  # noqa: B017
        np.load(file, allow_pickle=True).item()
    assert touched.exists()


@pytest.mark.parametrize(
    ("pickled", "named"),
    [
        (b"\x80\x03cos\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
        (b"\x80\x03(i__main__\nEvil\n.", "INST"),
        (b"\x80\x03P12\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x03)\x81.", "NEWOBJ"),
    ],
)
def test_operations_that_make_or_find_objects_are_refused_by_name(tmp_path, pickled, named):
    save(tmp_path, TABLE, pickled)
    with pytest.raises(PerceptError, match=named):
        mapping.read(tmp_path, "streams")


# One tuple, forty times the pair of the one before: 2^40 numbers to whoever hashes it or writes it out.
SHARED = b"K\x01q\x00" + b"h\x00\x86q\x00" * 40


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02}" + SHARED + b"X\x02\x00\x00\x00V1s.",
        b"\x80\x02}K\x01" + SHARED + b"s.",
        b"\x80\x04" + SHARED + b"\x8c\x01a\x93.",
        b"\x80\x02" + SHARED + b"h\x00\x86(K\x02X\x01\x00\x00\x00au.",
        b"\x80\x02}K\x01" + b"\x85" * 60_000 + b"X\x02\x00\x00\x00V1s.",
        b"\x80\x02}K\x01K\x01" + b"\x85" * 60_000 + b"s.",
        b"\x80\x02" + b")" * 30_000 + b"(t" * 15_000 + b".",
    ],
    ids=["key", "value", "function", "what is filled", "deep key", "deep value", "marks"],
)
def test_a_file_that_would_hang_whoever_looks_at_its_values_is_refused_at_once(tmp_path, pickled):
    save(tmp_path, TABLE, pickled)
    assert min(seconds_to_refuse(tmp_path) for _ in range(3)) < 1


def seconds_to_refuse(folder):
    """Of this thread: a twentieth of one is needed; once, other things on the machine may add to it."""
    begun = time.thread_time()
    with pytest.raises(PerceptError, match=r"mapping_streams\.npy is no table of region names"):
        mapping.read(folder, "streams")
    return time.thread_time() - begun


@pytest.mark.parametrize("header", [b"{'descr': (((((", b"{'descr': " + b"-" * 9000 + b"1}", b"\xff"])
def test_a_broken_header_is_named(tmp_path, header):
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    (tmp_path / "mapping_streams.npy").write_bytes(data)
    with pytest.raises(PerceptError, match=r"mapping_streams\.npy is no table of region names"):
        mapping.read(tmp_path, "streams")


@pytest.mark.parametrize(
    "text",
    ['{"1": "a", "01": "b"}', '{"1": "a", "1": "b"}', '[["1", "a"]]', '{"1": {"2": "a"}}', "{", "[" * 99_999],
    ids=["one number", "one text", "list", "nested", "cut", "deep"],
)
def test_a_json_table_that_is_none_or_says_two_things_is_refused(tmp_path, text):
    (tmp_path / "mapping_streams.json").write_text(text)
    with pytest.raises(PerceptError, match=r"mapping_streams\.json is no table"):
        mapping.read(tmp_path, "streams")


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_truncated_file_is_named(tmp_path, cut):
    save(tmp_path, TABLE)
    path = tmp_path / "mapping_streams.npy"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(PerceptError, match=r"mapping_streams\.npy is no table of region names"):
        mapping.read(tmp_path, "streams")


@pytest.mark.parametrize(
    "table",
    [
        {1: 2}, {"1": "V1"}, {1.0: "V1"}, {True: "V1"}, {-1: "V1"}, {1: "V1", 2: "V1"}, {0: "Unknown"},
        {1: ""}, OrderedDict({1: "V1"}), ["V1"], {1: b"V1"}, {1: ["V1"]},
    ],
)  # fmt: skip
def test_what_is_no_table_of_numbers_and_names_is_refused(tmp_path, table):
    content = np.empty((), dtype=object)
    content[()] = table
    save(tmp_path, TABLE, pickle.dumps(content, protocol=3))
    with pytest.raises(PerceptError, match="no table of region names"):
        mapping.read(tmp_path, "streams")


def test_a_numeric_array_is_refused(tmp_path):
    np.save(tmp_path / "mapping_streams.npy", np.arange(3))
    with pytest.raises(PerceptError, match=r"array of int64 with the shape \(3,\)"):
        mapping.read(tmp_path, "streams")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mapping_streams.json", json.dumps(TABLE)),
        ("mapping_streams.csv", "number,name\n0, Unknown\n1,V1v\n2,V1d\n300,hV4\n"),
        ("mapping_streams.csv", "0,Unknown\n1,V1v\n\n2,V1d\n300,hV4\n"),
    ],
)
def test_a_plain_table_is_read_instead(tmp_path, name, text):
    save(tmp_path, {1: "another"})
    (tmp_path / name).write_text(text)
    assert mapping.read(tmp_path, "streams") == NAMES


@pytest.mark.parametrize("text", ["number,name\n1,V1v\n1,V1d\n", "1;V1v\n", ""])
def test_a_plain_table_that_says_nothing_or_two_things_is_refused(tmp_path, text):
    (tmp_path / "mapping_streams.csv").write_text(text)
    with pytest.raises(PerceptError, match=r"mapping_streams\.csv is no table"):
        mapping.read(tmp_path, "streams")


def test_a_missing_table_is_named_with_what_to_do(tmp_path):
    with pytest.raises(PerceptError, match=r"mapping_streams\.npy is not there.*mapping_streams\.json"):
        mapping.read(tmp_path, "streams")
