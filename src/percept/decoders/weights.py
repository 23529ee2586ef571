"""Weights larger than memory, written as safetensors a block at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.files import atomic

NAMES = {"float16": "F16", "float32": "F32", "float64": "F64"}
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
