"""What a search finds is what sorting all similarities finds, and memory does not grow with the pool."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file

from percept.files import PerceptError
from percept.targets import pool, store

METRICS = ("cosine", "correlation", "dot")


def brute_force(queries, rows, k, metric):
    """All similarities in float64, sorted."""
    queries, rows = (each.reshape(len(each), -1).astype(np.float64) for each in (queries, rows))
    if metric == "correlation":
        queries, rows = (each - each.mean(axis=1, keepdims=True) for each in (queries, rows))
    scores = queries @ rows.T
    if metric != "dot":
        scores /= np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return best, np.take_along_axis(scores, best, axis=1)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 13 rows of 5 x 3: the last one is ragged."""
    monkeypatch.setattr(pool, "BLOCK", 4 * 15 * 13)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 2, 7, 30, 101])
def test_finds_what_sorting_everything_finds(metric, k):
    rng = np.random.default_rng(k)
    rows, queries = rng.standard_normal((101, 5, 3)), rng.standard_normal((11, 5, 3))
    found = pool.search(queries, pool.ArrayPool(rows), k, metric)
    expected, scores = brute_force(queries, rows, k, metric)
    np.testing.assert_array_equal(found.row, expected)
    np.testing.assert_allclose(found.score, scores, rtol=1e-5, atol=1e-6)


@given(
    rows=arrays(np.float32, (23, 3), elements=st.integers(-2, 2).map(float)),
    queries=arrays(np.float32, (4, 3), elements=st.integers(-2, 2).map(float)),
    k=st.integers(1, 23),
    size=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_of_equal_rows_the_lower_one_wins_in_blocks_of_any_size(rows, queries, k, size):
    """Small integers: dot products are exact, and full of ties."""
    found = pool.Found(np.full((4, k), -1), np.full((4, k), -np.inf, dtype=np.float32))
    for start in range(0, 23, size):
        found = pool.merge(found, queries @ rows[start : start + size].T, start)
    np.testing.assert_array_equal(found.row, brute_force(queries, rows, k, "dot")[0])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("copies", [(3, 60), (0, 1, 100), (12, 13, 14, 99)])
@pytest.mark.usefixtures("small_blocks")
def test_copies_of_a_row_tie_wherever_they_lie(metric, copies):
    rng = np.random.default_rng(0)
    rows, query = rng.standard_normal((101, 15)), rng.standard_normal((1, 15))
    rows[list(copies)] = 3 * query
    found = pool.search(query, pool.ArrayPool(rows), len(copies), metric)
    np.testing.assert_array_equal(found.row[0], copies)
    assert len(set(found.score[0])) == 1


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_a_vector_without_length_is_similar_to_none(metric):
    rows = np.eye(4, dtype=np.float32)
    rows[2] = 0.0
    found = pool.search(rows[2:3], pool.ArrayPool(rows), 4, metric)
    np.testing.assert_array_equal(found.score, 0)
    np.testing.assert_array_equal(found.row, [[0, 1, 2, 3]])


@pytest.mark.parametrize("metric", ["cosine", "correlation"])
def test_scale_does_not_matter_and_for_correlation_neither_does_an_offset(metric):
    rng = np.random.default_rng(1)
    rows, queries = rng.standard_normal((40, 9)), rng.standard_normal((6, 9))
    shift = 5.0 if metric == "correlation" else 0.0
    scaled = rows * rng.uniform(0.1, 10, (40, 1)) + shift
    one, other = (pool.search(queries, pool.ArrayPool(each), 5, metric) for each in (rows, scaled))
    np.testing.assert_array_equal(one.row, other.row)


def write_npy(path, values):
    np.save(path, values)


def write_safetensors(path, values):
    save_file({"embeddings": values}, path)


@pytest.mark.parametrize(
    ("name", "write", "dtype"),
    [
        ("pool.npy", write_npy, np.float32),
        ("pool.npy", write_npy, np.float16),
        ("pool.npy", write_npy, np.float64),
        ("pool.safetensors", write_safetensors, np.float32),
        ("pool.safetensors", write_safetensors, np.float16),
    ],
)
def test_every_format_is_searched_where_it_lies(tmp_path, name, write, dtype):
    rng = np.random.default_rng(2)
    values, queries = rng.standard_normal((30, 4, 2)).astype(dtype), rng.standard_normal((5, 8))
    write(tmp_path / name, values)
    with pool.open_pool(tmp_path / name) as opened:
        assert opened.shape == (30, 8)
        assert isinstance(opened.values.base, np.memmap) or isinstance(opened.values, np.memmap)
        read = opened.read(np.array([7, 3]))
        np.testing.assert_array_equal(read, values.reshape(30, 8)[[7, 3]].astype(np.float32))
        found = pool.search(queries, opened, 3)
    np.testing.assert_array_equal(found.row, brute_force(queries, values, 3, "cosine")[0])


def test_bfloat16_is_read_as_torch_wrote_it(tmp_path):
    import torch
    from safetensors.torch import save_file as save_tensors

    values = torch.randn(9, 6, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_tensors({"one": torch.zeros(2, 2), "embeddings": values}, tmp_path / "pool.safetensors")
    with pool.open_pool(tmp_path / "pool.safetensors", "embeddings") as opened:
        np.testing.assert_array_equal(opened.read(np.arange(9)), values.float().numpy())


def test_cached_features_are_searched_among_the_stimuli_asked_for(features_of):
    values = np.random.default_rng(3).standard_normal((12, 2, 3)).astype(np.float32)
    stimuli = np.arange(12) * 3
    path = features_of(values, stimuli)
    some = stimuli[[2, 5, 6, 11]]
    with store.open_features(path) as features:
        found = pool.search(values, pool.FeaturesPool(features, some), 1)
    expected = brute_force(values, values[[2, 5, 6, 11]], 1, "cosine")[0]
    np.testing.assert_array_equal(found.row, expected)
    with pool.open_pool(path) as everything:
        np.testing.assert_array_equal(pool.search(values, everything, 1).row[:, 0], np.arange(12))


@pytest.fixture
def features_of(tmp_path):
    """Writes cached features of a target and returns what readers open."""

    def write(values, stimuli):
        store.write(tmp_path / "index.json", values, stimuli, {"kind": "test"})
        return tmp_path / "index.json"

    return write


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (np.ones((2, 5)), 1, "queries of 5 dimensions .* pool of 4"),
        (np.ones((2, 4)), 0, "0 nearest rows .* pool has 7"),
        (np.ones((2, 4)), 8, "ask for 1 to 7"),
        (np.full((2, 4), np.nan), 1, "query is not finite"),
    ],
)
def test_what_cannot_be_asked_is_refused(queries, k, message):
    with pytest.raises(PerceptError, match=message):
        pool.search(queries, pool.ArrayPool(np.ones((7, 4))), k)


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_row_of_the_pool_is_named():
    rows = np.ones((80, 15), dtype=np.float32)
    rows[41, 2] = np.inf
    with pytest.raises(PerceptError, match="row 41 of the pool"):
        pool.search(rows[:1], pool.ArrayPool(rows), 1)


def test_files_that_hold_no_embeddings_are_refused(tmp_path):
    np.save(tmp_path / "ids.npy", np.arange(6).reshape(2, 3))
    save_file({"a": np.ones((2, 3)), "b": np.ones((2, 3))}, tmp_path / "two.safetensors")
    save_file({"ids": np.ones((2, 3), dtype=np.int32)}, tmp_path / "ids.safetensors")
    (tmp_path / "pool.csv").touch()
    (tmp_path / "features.h5").touch()
    for name, message in {
        "ids.npy": "int64 of shape",
        "two.safetensors": "holds the tensors a, b",
        "ids.safetensors": "has type I32",
        "pool.csv": "cannot be searched",
        "features.h5": "cannot be searched",
    }.items():
        with pytest.raises(PerceptError, match=message), pool.open_pool(tmp_path / name):
            pass


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x93NUM", b"PK", bytes(40), (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{x",
    ],
    ids=["empty", "start", "archive", "zeros", "length", "list", "text"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["pool.npy", "pool.safetensors", "index.json"])
def test_a_damaged_file_is_named_whatever_its_format(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PerceptError, match=rf"{name} is not readable as"), pool.open_pool(tmp_path / name):
        pass


@pytest.mark.parametrize(("name", "write"), [("a.npy", write_npy), ("a.safetensors", write_safetensors)])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(tmp_path, name, write, share):
    write(tmp_path / name, np.ones((300, 4), dtype=np.float32))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with (
        pytest.raises(PerceptError, match=rf"{name} is not readable.*cut off"),
        pool.open_pool(tmp_path / name),
    ):
        pass


@pytest.mark.parametrize(
    "about",
    [
        [], {}, {"dtype": "F32", "shape": [3, 2]}, {"dtype": "F32", "shape": 3, "data_offsets": None},
        {"dtype": "F32", "shape": [3, -2], "data_offsets": [0, 24]}, {"dtype": ["F32"]},
        {"dtype": "F32", "shape": [3, 2], "data_offsets": [1 << 70, 24]},
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_damage(tmp_path, about):
    header = json.dumps({"embeddings": about}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    with pytest.raises(PerceptError, match="not readable as"), pool.open_pool(tmp_path / "a.safetensors"):
        pass


@pytest.mark.usefixtures("small_blocks")
def test_a_pool_without_its_mean_is_read_as_such():
    rows = np.random.default_rng(6).standard_normal((101, 15)).astype(np.float32) + 3
    known = pool.ArrayPool(rows)
    centred = pool.Centred(known, pool.mean(known))
    np.testing.assert_allclose(centred.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-6)
    some = np.array([100, 2, 2])
    np.testing.assert_array_equal(centred.read(some), rows[some] - centred.mean)
    assert centred.shape == (101, 15)


def test_without_faiss_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # an import of it fails
    with pytest.raises(PerceptError, match="pip install faiss-cpu"):
        pool.search(np.ones((1, 3)), pool.ArrayPool(np.eye(3)), 1, index="faiss")


@pytest.mark.parametrize("metric", METRICS)
def test_faiss_finds_most_of_the_nearest(metric):
    pytest.importorskip("faiss", reason="faiss is optional")
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((5000, 16), dtype=np.float32)
    queries = rows[:200] + 0.1 * rng.standard_normal((200, 16), dtype=np.float32)
    exact, quick = (pool.search(queries, pool.ArrayPool(rows), 1, metric, index) for index in pool.INDICES)
    assert np.mean(exact.row == quick.row) > 0.8
    same = exact.row == quick.row
    np.testing.assert_allclose(exact.score[same], quick.score[same], rtol=1e-5)


SEARCH = """
import sys
from pathlib import Path
import numpy as np
from percept.targets import pool

def anonymous():  # MB; pages of mapped files are left out: the system drops them when memory is short
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3

read, peak = pool.ArrayPool.read, [anonymous()]
def sampled(self, rows):
    peak.append(anonymous())
    return read(self, rows)
pool.ArrayPool.read = sampled
with pool.open_pool(sys.argv[1]) as opened:
    found = pool.search(np.load(sys.argv[2]), opened, 5)
print(max(peak) - peak[0])
np.save(sys.argv[3], found.row)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc (Linux)")
def test_a_hundred_thousand_embeddings_on_disk_are_searched_in_bounded_memory(tmp_path):
    rng = np.random.default_rng(5)
    path = tmp_path / "pool.npy"
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(100_000, 512))
    for start in range(0, 100_000, 10_000):
        rows[start : start + 10_000] = rng.standard_normal((10_000, 512), dtype=np.float32)
    queries = rows[[99_999, 5, 50_000]] + rng.standard_normal((3, 512), dtype=np.float32)
    np.save(tmp_path / "queries.npy", queries)
    arguments = [str(tmp_path / name) for name in ("pool.npy", "queries.npy", "found.npy")]
    done = subprocess.run([sys.executable, "-c", SEARCH, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 8 * pool.BLOCK / 1e6  # the pool alone is 205 MB, in float64 410 MB
    expected = np.argsort(-(queries @ rows.T) / np.linalg.norm(rows, axis=1), axis=1)[:, :5]
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), expected)
