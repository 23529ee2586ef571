"""Damage of files, seeded: what bytes a disk, a line or another program may leave in the place of a file."""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

SHARES = (0.0, 0.1, 0.33, 0.5, 0.75, 0.95)
ENDS = 24  # bytes at both ends in which formats keep what they are known by


class Mutant(NamedTuple):
    """Some damage, its kind, and what the file holds after it."""

    kind: str
    where: str
    data: bytes

    def __str__(self):
        return f"{self.kind} {self.where}"


def mutants(whole: bytes, name: str, suffix: str, n_flips: int = 10) -> Iterator[Mutant]:
    """Some forty damaged copies, the same ones for the same name.

    Parameters
    ----------
    suffix : of the file; another file of its format is no damage
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    yield from truncated(whole)
    yield from flipped(whole, rng, n_flips)
    yield from blocks(whole, rng)
    yield from swapped(whole, rng)
    yield Mutant("appended", "64 bytes", whole + rng.bytes(64))
    yield Mutant("doubled", "", whole + whole)
    yield from (Mutant("replaced", f"by {kind}", data) for kind, data in others(suffix))


def truncated(whole):
    lengths = dict.fromkeys([int(share * len(whole)) for share in SHARES] + [1, len(whole) - 1])
    return (Mutant("truncated", f"to {n} of {len(whole)} bytes", whole[:n]) for n in lengths)


def flipped(whole, rng, n_flips):
    anywhere = rng.integers(0, len(whole), n_flips)
    head, tail = rng.integers(0, min(ENDS, len(whole)), (2, 4))
    for at in map(int, np.concatenate([anywhere, head, len(whole) - 1 - tail])):
        bit = int(rng.integers(8))
        yield Mutant("flipped", f"bit {bit} of byte {at}", changed(whole, at, bytes([whole[at] ^ 1 << bit])))


def blocks(whole, rng):
    size = max(1, min(512, len(whole) // 8))
    for at in map(int, [0, *rng.integers(0, len(whole) - size + 1, 3)]):
        zeroed = changed(whole, at, bytes(size))
        if zeroed != whole:
            yield Mutant("zeroed", f"bytes {at} to {at + size}", zeroed)


def swapped(whole, rng):
    for one, other in rng.integers(0, len(whole), (4, 2)).tolist():
        if whole[one] != whole[other]:
            half = changed(whole, one, whole[other : other + 1])
            yield Mutant("swapped", f"bytes {one} and {other}", changed(half, other, whole[one : one + 1]))


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def others(suffix):
    """A small whole file of every format that has no business under the suffix of another."""
    table, png, npy = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pd.DataFrame({"a": [1, 2]}).to_parquet(table)
    Image.new("RGB", (3, 2)).save(png, "PNG")
    np.save(npy, np.arange(3))
    contents = {
        "parquet": (table.getvalue(), (".parquet",)),
        "an image": (png.getvalue(), (".png", ".jpg")),
        "npy": (npy.getvalue(), (".npy",)),
        "gzip": (gzip.compress(b"text", mtime=0), ()),
        "a page": (b"<!DOCTYPE html><html><title>404 Not Found</title></html>\n", ()),
        "JSON": (b'{"a": [1, 2]}\n', (".json",)),
    }
    return [(kind, data) for kind, (data, own) in contents.items() if suffix not in own]


def plain(value):
    """What was read, as nested tuples that are equal where every bit and type is."""
    if isinstance(value, pd.DataFrame):
        columns = [(str(name), str(value[name].dtype), plain(value[name].to_numpy())) for name in value]
        return ("table", tuple(columns), repr(value.attrs))
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return ("array", value.shape, str(value.dtype), content)
    if hasattr(value, "numpy"):  # a tensor
        return plain(value.numpy())
    if is_dataclass(value) and not isinstance(value, type):
        return (
            type(value).__name__,
            *((field.name, plain(getattr(value, field.name))) for field in fields(value)),
        )
    if isinstance(value, dict):
        return ("dict", tuple((repr(key), plain(one)) for key, one in value.items()))
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, *map(plain, value))
    return repr(str(value) if isinstance(value, Path) else value)
