"""Exact search among embeddings on disk against one matrix product over the whole pool in memory.

    python benchmarks/pool.py                       # 100,000 x 512, 1,000 queries
    python benchmarks/pool.py --rows 9000 --dims 197376 --queries 100   # tokens of ViT-L/14 (7 GB on disk)

Each way runs in a process of its own; memory is anonymous memory, without mapped files, whose pages the
system drops when memory is short. `numpy` reads the file and sorts nothing but what `argpartition` leaves.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

WAYS = ("percept", "numpy")


def write_pool(path, n_rows, n_dims, seed=0):
    """Random embeddings, a block at a time."""
    rng = np.random.default_rng(seed)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_rows, n_dims))
    step = max((1 << 26) // (4 * n_dims), 1)
    for start in range(0, n_rows, step):
        block = rows[start : start + step]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)


def percept(path, queries, k):
    """Blocks from disk."""
    from percept.targets import pool

    with pool.open_pool(path) as opened:
        return pool.search(queries, opened, k).row


def in_one_piece(path, queries, k):
    """Everything in memory, one product."""
    rows = np.load(path)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scores = queries @ rows.T
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


@contextmanager
def sampled_memory():
    """A list: anonymous memory in MB before, and its peak as the last entry (Linux)."""
    status, done = Path("/proc/self/status"), threading.Event()

    def now():
        line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) / 1e3

    peaks = [now()]

    def sample():
        while not done.wait(0.01):
            peaks.append(max(peaks[-1], now()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        done.set()
        sampler.join()


def one(way, path, queries, k):
    """Time one way, in this process; prints a line of JSON."""
    call = {"percept": percept, "numpy": in_one_piece}[way]
    queries = np.load(queries)
    with tempfile.TemporaryDirectory() as folder:  # imports are not what is compared
        write_pool(Path(folder, "tiny.npy"), 20, queries.shape[1])
        call(Path(folder, "tiny.npy"), queries[:2], k)
    with sampled_memory() as peaks:
        start, cpu = time.perf_counter(), time.process_time()
        found = call(path, queries, k)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"way": way, "seconds": seconds, "cpu_s": cpu, "peak_mb": peaks[-1] - peaks[0],
                      "found": found.tolist()}))  # fmt: skip


def main():
    """Write the pool, run every way, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one[0], Path(chosen.one[1]), chosen.one[2], chosen.k)
        return
    print(f"{chosen.queries} queries, pool of {chosen.rows} x {chosen.dims} "
          f"({chosen.rows * chosen.dims * 4e-6:.0f} MB), the {chosen.k} nearest by cosine")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path, queries = Path(folder, "pool.npy"), Path(folder, "queries.npy")
        write_pool(path, chosen.rows, chosen.dims)
        np.save(queries, np.random.default_rng(1).standard_normal((chosen.queries, chosen.dims)).astype("f4"))
        results = []
        for way in WAYS:
            command = [sys.executable, __file__, "--k", str(chosen.k), "--one", way, str(path), str(queries)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    for result in results:
        same = np.mean(np.array(result["found"]) == np.array(results[0]["found"]))
        print(f"{result['way']:10} {result['seconds']:7.2f} s ({result['cpu_s']:.2f} s of CPU), peak "
              f"{result['peak_mb']:7.0f} MB, same rows in {100 * same:.2f} % of places")  # fmt: skip


if __name__ == "__main__":
    main()
