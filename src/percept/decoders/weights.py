"""Weights larger than memory, written as safetensors a block at a time."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from percept.files import BLOCK, PerceptError, atomic, crc32
from percept.shortage import damage

ENCODER = "encoder."  # what the names of weights begin with that another decoder may begin with
CRC32 = '"crc32": "{:08x}"'.format  # in the header: of the whole file while this number is 0
NAMES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64"}
SAID = re.compile(rb'"crc32": "([0-9a-f]{8})"')
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
    header, places, end = {"__metadata__": {"crc32": f"{0:08x}", **metadata}}, {}, 0
    for name, (shape, dtype) in tensors.items():
        start, end = end, end + int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        places[name] = (start, shape, dtype)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the bytes of the tensors start aligned
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.flush()
            os.posix_fallocate(file.fileno(), 0, 8 + len(text) + end)  # a full disk kills who writes to a map
        mapped = {
            name: np.memmap(temporary, dtype, "r+", offset=8 + len(text) + start, shape=shape)
            if np.prod(shape)
            else np.empty(shape, dtype)
            for name, (start, shape, dtype) in places.items()
        }
        yield mapped
        with temporary.open("r+b") as file:
            file.seek(8 + text.index(CRC32(0).encode()))
            file.write(CRC32(_checksum(temporary)).encode())


def _checksum(path: Path) -> int:
    """CRC-32 of a file in whose header the checksum itself is 0."""
    length, text = _head(path)
    found = crc32(length + SAID.sub(CRC32(0).encode(), text, count=1))
    with path.open("rb") as file:
        file.seek(len(length) + len(text))
        while block := file.read(BLOCK):
            found = crc32(block, found)
    return found


def require_whole(path: str | Path) -> None:
    """Refuse weights whose bytes are not those that were written.

    Of safetensors that `create` did not write only the form is known.

    Raises
    ------
    PerceptError : the file is damaged
    """
    path = Path(path)
    try:
        with safe_open(str(path), "np"):  # the length of the header, for one, can be trusted then
            said = SAID.search(_head(path)[1])
        if said and int(said[1], 16) != _checksum(path):
            raise ValueError("its content does not have the checksum that was written")
    except FileNotFoundError:
        raise
    except damage(path, OSError, ValueError, SafetensorError) as error:
        raise PerceptError(
            f"{path} is missing or damaged ({error}), so what it "
            "predicts would be wrong without any error. Delete it and run the same command again; the "
            "workflow trains the decoder anew."
        ) from error


def _head(path: Path) -> tuple[bytes, bytes]:
    """The length of the header, as it stands in the file, and its text."""
    with path.open("rb") as file:
        length = file.read(8)
        return length, file.read(int.from_bytes(length, "little"))


def encoder(path: str | Path, prefix: str = "") -> dict[str, NDArray]:
    """Weights of the encoder that a training saved, without the beginning of their names.

    Parameters
    ----------
    prefix : of the fold, such as `fold-0/`, where there are several
    """
    start = f"{prefix}{ENCODER}"
    require_whole(path)
    with safe_open(str(path), "np") as file:
        names = [name for name in file.keys() if name.startswith(start)]
        return {name.removeprefix(start): file.get_tensor(name) for name in names}
