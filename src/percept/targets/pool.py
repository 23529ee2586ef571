"""Exact search among embeddings that lie on disk, in bounded memory.

Rows of the pool are read in blocks; every query keeps its best rows so far. Scores are computed in float32,
by one matrix product per block. A few rows more than asked for are kept, and where the best lie within
rounding of each other these are compared again in float64, each by itself: equal rows then have equal scores
wherever in the pool they lie, and the lower row wins.
"""

import json
import tokenize
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from percept.files import UNREADABLE, PerceptError
from percept.shortage import damage
from percept.targets import store

Metric = Literal["cosine", "correlation", "dot"]
Index = Literal["exact", "faiss"]
INDICES: tuple[Index, ...] = ("exact", "faiss")
BLOCK = 1 << 25  # bytes of a block of the pool as float32: 32 MiB; a search holds about six times that
SPARE = 8  # rows kept beyond those asked for, among which ties are settled
ROUNDING = 32 * np.finfo(np.float32).eps  # of a float32 product of unit vectors, generously


class Found(NamedTuple):
    """The nearest rows of a pool, best first: (query, k) each; `score` is the similarity, float32."""

    row: NDArray[np.int64]
    score: NDArray[np.float32]


class Pool(Protocol):
    """Embeddings of which any rows can be read."""

    shape: tuple[int, int]  # (row, dim)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows, (row, dim), in the order asked."""


class ArrayPool:
    """A matrix (row, ...) in memory or mapped from a file; float16 and float64 become float32 when read."""

    def __init__(self, values: NDArray) -> None:
        self.values = values.reshape(len(values), -1)
        self.shape = self.values.shape

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows, (row, dim), in the order asked."""
        consecutive = len(rows) and rows[-1] - rows[0] == len(rows) - 1
        chosen = slice(rows[0], rows[-1] + 1) if consecutive and np.all(np.diff(rows) == 1) else rows
        return self._float32(self.values[chosen])

    def _float32(self, values: NDArray) -> NDArray[np.float32]:
        return np.asarray(values, dtype=np.float32)


class Bfloat16Pool(ArrayPool):
    """A matrix of bfloat16, which numpy holds as uint16: the upper halves of float32."""

    def _float32(self, values: NDArray[np.uint16]) -> NDArray[np.float32]:
        return (values.astype(np.uint32) << 16).view(np.float32)


class FeaturesPool:
    """Rows of cached features: row i is the i-th of `stimuli`."""

    def __init__(self, features: store.Features, stimuli: NDArray[np.int32]) -> None:
        self.features, self.stimuli = features, np.asarray(stimuli)
        self.shape = (len(self.stimuli), features.n_dims)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows, (row, dim), in the order asked."""
        return self.features.read(self.stimuli[rows])


@dataclass(frozen=True)
class Centred:
    """A pool of embeddings with a mean, (dim,), taken off every row."""

    pool: Pool
    mean: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and dimensions."""
        return self.pool.shape

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows, (row, dim), in the order asked."""
        return self.pool.read(rows) - self.mean


def mean(pool: Pool) -> NDArray[np.float32]:
    """Mean (dim,) over the rows of a pool, a block of them in memory at a time."""
    total = np.zeros(pool.shape[1])
    for rows in _blocks(pool, 1):
        total += pool.read(rows).sum(axis=0, dtype=np.float64)
    return (total / pool.shape[0]).astype(np.float32)


@contextmanager
def open_pool(path: str | Path, name: str | None = None) -> Iterator[Pool]:
    """Embeddings in a file: `.npy`, `.safetensors`, or the index of a target's cached features (all stimuli).

    Parameters
    ----------
    name : tensor of the .safetensors file; needed if it holds several

    Raises
    ------
    PerceptError : another format, several tensors and no name, a type that is no floating point number, or a
        damaged file
    """
    path = Path(path)
    if path.suffix == ".npy":
        yield _map_npy(path)
    elif path.suffix == ".safetensors":
        yield _map_safetensors(path, name)
    elif path.suffix == ".json":
        with store.open_features(path) as features:
            yield FeaturesPool(features, features.stimuli)
    else:
        raise PerceptError(
            f"{path} cannot be searched: a pool is a .npy or .safetensors file of embeddings, (row, ...), or "
            "the index.json of a target. Convert it to one of these."
        )


def search(queries: NDArray, pool: Pool, k: int, metric: Metric = "cosine", index: Index = "exact") -> Found:
    """The `k` nearest rows of a pool for each query, exact unless `index` says otherwise.

    Parameters
    ----------
    queries : (query, ...) float, flattened here
    metric : cosine; correlation (Pearson, the mean over dimensions taken off each vector); or dot product.
        Vectors without length (or variance) have similarity 0
    index : `exact` reads the whole pool once, in blocks, and keeps nothing of it; `faiss` (an optional
        package) holds it in memory and looks into an eighth of its cells: for pools that are asked often

    Raises
    ------
    PerceptError : other dimensions than the pool's, `k` beyond its rows, values that are not finite, or no
        faiss installed
    """
    queries = np.asarray(queries, dtype=np.float32).reshape(len(queries), -1)
    _check(queries, pool, k)
    queries = prepare(queries, metric)
    if index == "faiss":
        return _search_faiss(queries, pool, k, metric)
    found = _search_blocks(queries, pool, min(2 * k + SPARE, pool.shape[0]), metric)
    return _settle(queries, pool, found, k, metric)


def prepare(vectors: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Vectors (row, dim) whose dot products are the similarities: unit length, centred first, or as is."""
    if metric == "dot":
        return vectors
    if metric == "correlation":
        vectors = vectors - vectors.mean(axis=1, keepdims=True, dtype=np.float64).astype(vectors.dtype)
    norm = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))[:, None]
    return vectors / np.where(norm > 0, norm, 1).astype(vectors.dtype)


def merge(found: Found, scores: NDArray[np.float32], first_row: int) -> Found:
    """The best of what was found so far and of the next block, ties by the lower row.

    Parameters
    ----------
    found : (query, k), best first; -inf where nothing was found yet
    scores : (query, row) of the block, whose first row is `first_row` of the pool, beyond all found before
    """
    n_queries, k = found.score.shape
    if scores.shape[1] > 4 * k:  # what cannot be among the best k of this block alone is not sorted
        least = np.partition(scores, -k, axis=1)[:, -k]
        least = np.maximum(least, np.nextafter(found.score[:, -1], np.float32(np.inf)))
    else:
        least = np.nextafter(found.score[:, -1], np.float32(np.inf))
    query, column = np.nonzero(scores >= least[:, None])  # an equal score of a later row changes nothing
    queries = np.concatenate([np.repeat(np.arange(n_queries), k), query])
    rows = np.concatenate([found.row.ravel(), column + first_row])
    values = np.concatenate([found.score.ravel(), scores[query, column]])
    order = np.lexsort((rows, -values, queries))
    starts = np.searchsorted(queries[order], np.arange(n_queries))
    best = order[starts[:, None] + np.arange(k)]
    return Found(rows[best], values[best])


def _search_blocks(queries: NDArray[np.float32], pool: Pool, k: int, metric: Metric) -> Found:
    shape = (len(queries), k)
    found = Found(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32))
    for rows in _blocks(pool, len(queries)):
        scores = queries @ prepare(_finite(pool, rows), metric).T
        found = merge(found, scores, int(rows[0]))
    return found


def _blocks(pool: Pool, n_queries: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers of consecutive blocks: neither the rows nor their scores exceed `BLOCK` bytes."""
    n_rows, n_dims = pool.shape
    step = max(BLOCK // (4 * max(n_dims, n_queries, 1)), 1)
    for start in range(0, n_rows, step):
        yield np.arange(start, min(start + step, n_rows))


def _finite(pool: Pool, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    values = pool.read(rows)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise PerceptError(
            f"row {rows[bad][0]} of the pool of embeddings (and {bad.sum() - 1} more nearby) is not finite, "
            "so nothing can be compared with it: the file is damaged, or its network overflowed in half "
            "precision. Make it again."
        )
    return values


def _settle(queries: NDArray[np.float32], pool: Pool, found: Found, k: int, metric: Metric) -> Found:
    """The best `k`, those queries sorted anew whose best lie within rounding of each other."""
    gaps = np.abs(np.diff(found.score[:, : k + 1], axis=1))
    scale = np.maximum(np.abs(found.score[:, :1]), 1.0)
    row, score = found.row[:, :k].copy(), found.score[:, :k].copy()
    for query in np.flatnonzero((gaps <= ROUNDING * scale).any(axis=1)):
        rows = np.sort(found.row[query])
        vectors = prepare(pool.read(rows).astype(np.float64), metric)
        exact = np.einsum("nd,d->n", vectors, queries[query].astype(np.float64))
        best = np.argsort(-exact, kind="stable")[:k]
        row[query], score[query] = rows[best], exact[best]
    return Found(row, score)


def _check(queries: NDArray[np.float32], pool: Pool, k: int) -> None:
    n_rows, n_dims = pool.shape
    if queries.shape[1] != n_dims:
        raise PerceptError(
            f"queries of {queries.shape[1]} dimensions cannot be compared with a pool of {n_dims}: they come "
            "from different networks. Name a decoder and a pool of the same target."
        )
    if not 1 <= k <= n_rows:
        raise PerceptError(
            f"{k} nearest rows were asked for, and the pool has {n_rows}: ask for 1 to {n_rows}."
        )
    if not np.isfinite(queries).all():
        raise PerceptError("a query is not finite: the decoder diverged; see its log and history.")


def _search_faiss(queries: NDArray[np.float32], pool: Pool, k: int, metric: Metric) -> Found:
    """Approximate: inverted lists over about 4 sqrt(rows) cells, of which an eighth is looked into."""
    try:
        import faiss
    except ImportError as error:
        raise PerceptError(
            "`index: faiss` needs the package faiss, which is not installed with Percept: run `pip install "
            "faiss-cpu`, or leave `index: exact`, which reads the pool from disk and needs no more memory "
            "for larger ones."
        ) from error
    n_rows, n_dims = pool.shape
    cells = int(np.clip(4 * np.sqrt(n_rows), 1, max(n_rows // 39, 1)))  # faiss wants 39 points per cell
    lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(n_dims), n_dims, cells, faiss.METRIC_INNER_PRODUCT)
    lists.nprobe = max(cells // 8, 1)
    sample = np.unique(np.linspace(0, n_rows - 1, min(n_rows, 64 * cells)).astype(np.int64))
    lists.train(prepare(_finite(pool, sample), metric))
    for rows in _blocks(pool, 1):
        lists.add(prepare(_finite(pool, rows), metric))
    score, row = lists.search(queries, k)
    return Found(row, score)


def _map_npy(path: Path) -> ArrayPool:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except damage(path, *UNREADABLE, tokenize.TokenError) as error:
        raise _damaged(path, error) from error
    return ArrayPool(_floating(path, values))


def _map_safetensors(path: Path, name: str | None) -> ArrayPool:
    """A tensor of a .safetensors file, mapped: a JSON header, its length before it, says where it lies."""
    try:
        start, tensors = _header(path)
    except damage(path, *UNREADABLE) as error:
        raise _damaged(path, error) from error
    if name is None and len(tensors) == 1:
        name = next(iter(tensors))
    if name not in tensors:
        raise PerceptError(
            f"{path} holds the tensors {', '.join(sorted(tensors))}; the pool to search is one of them, not "
            f"{name!r}: give its name."
        )
    try:
        return _map_tensor(path, name, start, tensors[name])
    except damage(path, *UNREADABLE) as error:
        raise _damaged(path, error) from error


def _header(path: Path) -> tuple[int, dict[str, Mapping]]:
    """Where the values of a .safetensors file begin, and what it says about each tensor."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= path.stat().st_size - 8:
            raise ValueError(f"a header of {length} bytes in a file of {path.stat().st_size}")
        header = json.loads(file.read(length))
    return 8 + length, {key: about for key, about in header.items() if key != "__metadata__"}


def _map_tensor(path: Path, name: str, start: int, about: Mapping) -> ArrayPool:
    types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
    if about["dtype"] not in types:
        raise PerceptError(f"{path}: {name} has type {about['dtype']}, embeddings are {', '.join(types)}.")
    first, shape = start + about["data_offsets"][0], tuple(about["shape"])
    if prod(shape) * np.dtype(types[about["dtype"]]).itemsize != start + about["data_offsets"][1] - first:
        raise ValueError(f"the shape {shape} does not fit the bytes that {name} is said to have")
    values = np.memmap(path, types[about["dtype"]], mode="r", offset=first, shape=shape)
    return Bfloat16Pool(values) if about["dtype"] == "BF16" else ArrayPool(values)


def _damaged(path: Path, error: Exception) -> PerceptError:
    return PerceptError(
        f"{path} is not readable as embeddings ({type(error).__name__}: {error}): the file is cut off or "
        "damaged, so nothing can be searched in it. Write or copy it again."
    )


def _floating(path: Path, values: NDArray) -> NDArray:
    if values.dtype.kind != "f" or values.ndim < 2:
        raise PerceptError(
            f"{path} holds {values.dtype} of shape {values.shape}: a pool of embeddings is floating point of "
            "axes (row, feature)."
        )
    return values
