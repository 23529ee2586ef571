"""Weights larger than memory, written as safetensors a block at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from percept.files import atomic

ENCODER = "encoder."  # what the names of weights begin with that another decoder may begin with
NAMES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"}
Shapes = dict[str, tuple[tuple[int, ...], str]]


@contextmanager
def create(path: str | Path, tensors: Shapes, metadata: dict[str, str]) -> Iterator[dict[str, NDArray]]:
    """Arrays, by name, that are mapped to a safetensors file; whole when the block ends, else absent.

    The format is eight bytes with the length of a JSON header, the header (type, shape and place of each
    tensor), then the bytes; `safetensors.safe_open` reads slices of it. Its own writer wants every tensor in
    memory, which 200,000 targets of 15,724 voxels (12.6 GB) may not fit.

    Parameters
    ----------
    tensors : name -> (shape, dtype)
    """
    header, places, end = {"__metadata__": metadata}, {}, 0
    for name, (shape, dtype) in tensors.items():
        start, end = end, end + int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        places[name] = (start, shape, dtype)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the bytes of the tensors start aligned
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + end)
        yield {
            name: np.memmap(temporary, dtype, "r+", offset=8 + len(text) + start, shape=shape)
            if np.prod(shape)
            else np.empty(shape, dtype)
            for name, (start, shape, dtype) in places.items()
        }


def encoder(path: str | Path, prefix: str = "") -> dict[str, NDArray]:
    """Weights of the encoder that a training saved, without the beginning of their names.

    Parameters
    ----------
    prefix : of the fold, such as `fold-0/`, where there are several
    """
    start = f"{prefix}{ENCODER}"
    with safe_open(str(path), "np") as file:
        names = [name for name in file.keys() if name.startswith(start)]
        return {name.removeprefix(start): file.get_tensor(name) for name in names}
