"""One file of features: the stimuli of a range of ids, as safetensors to which rows can be appended.

The header comes first and is known before the first row is: it names the stimuli, the shape and what made the
features. Then follow `inputs` (a digest of what each row was computed from), `stimulus` and `features`.
"""

import json
import struct
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones.fingerprint import differences
from percept.files import PerceptError, crc32_of
from percept.sections import Precision

SHARD = 1000  # ids per file
FOLDER = "shards"  # beside the index
STORED = {"float32": ("F32", "<f4"), "float16": ("F16", "<f2"), "bfloat16": ("BF16", "<u2")}
ALL = slice(None)
BLOCK = 1 << 24  # bytes of stored values decoded at a time
HEADER_LIMIT = 100_000_000  # bytes, as of the reference implementation of safetensors


def pack(values: NDArray[np.float32], precision: Precision) -> NDArray:
    """Values as they are stored, rounded to nearest even; what overflows becomes infinite.

    numpy has no bfloat16, so its bit patterns are uint16: the upper half of a float32.
    """
    if precision != "bfloat16":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values, dtype=STORED[precision][1])
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def unpack(stored: NDArray, precision: Precision) -> NDArray[np.float32]:
    """Stored values as float32, which is exact."""
    if precision != "bfloat16":
        return np.asarray(stored, dtype=np.float32)
    return (np.asarray(stored, dtype=np.uint32) << 16).view(np.float32)


@dataclass(frozen=True)
class Identity:
    """What makes features the same: rows of two identities are never mixed.

    target : name of the target; only for messages
    fingerprint : settings, backbone, its answer to a fixed image (compared with a tolerance)
    precision : of the stored values
    code : hash of the code that computes them; empty where nothing tracks it
    """

    target: str
    fingerprint: dict[str, Any]
    precision: Precision = "float32"
    code: str = ""

    def same(self, other: "Identity") -> bool:
        """Whether features of the two may stand side by side."""
        settings = (self.precision, self.code) == (other.precision, other.code)
        return settings and not differences(self.fingerprint, other.fingerprint)


@dataclass(frozen=True)
class Layout:
    """Where everything lies in the file of some stimuli.

    stimuli : (row,) int32, ascending
    shape : of the features of one stimulus
    """

    identity: Identity
    stimuli: NDArray[np.int32]
    shape: tuple[int, ...]

    @cached_property
    def header(self) -> bytes:
        """Length and text of the header, filled up with blanks so that what follows is aligned to 8 bytes."""
        n, identity = len(self.stimuli), self.identity
        ends = np.cumsum([0, 8 * n, 4 * n, n * self.row_bytes]).tolist()
        tensors = {
            "inputs": ("U64", [n]),
            "stimulus": ("I32", [n]),
            "features": (STORED[identity.precision][0], [n, *self.shape]),
        }
        about = {
            "target": identity.target,
            "fingerprint": json.dumps(identity.fingerprint, sort_keys=True),
            "code": identity.code,
        }
        text = {"__metadata__": about} | {
            name: {"dtype": dtype, "shape": shape, "data_offsets": ends[place : place + 2]}
            for place, (name, (dtype, shape)) in enumerate(tensors.items())
        }
        encoded = json.dumps(text, separators=(",", ":")).encode()
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded

    @property
    def row_bytes(self) -> int:
        """Size of the features of one stimulus."""
        return prod(self.shape) * np.dtype(STORED[self.identity.precision][1]).itemsize

    @property
    def start(self) -> int:
        """Where the features begin."""
        return len(self.header) + 12 * len(self.stimuli)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.start + len(self.stimuli) * self.row_bytes


def read_layout(path: Path) -> Layout:
    """What the header of a file says, finished or not.

    Raises
    ------
    PerceptError : it is cut off, or not of this format
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEADER_LIMIT:
                raise ValueError(f"a header of {length} bytes")
            text = json.loads(file.read(length))
            about, features = text["__metadata__"], text["features"]
            n, *shape = features["shape"]
            precision = next(name for name, (dtype, _) in STORED.items() if dtype == features["dtype"])
            file.seek(8 * n, 1)
            ids = np.frombuffer(file.read(4 * n), "<i4")
            identity = Identity(about["target"], json.loads(about["fingerprint"]), precision, about["code"])
            layout = Layout(identity, ids, tuple(shape))
            if len(ids) != n or 8 + length + 12 * n != layout.start:
                raise ValueError("tensors that do not follow one another as they should")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise damaged(path, f"its header is not readable: {type(error).__name__} {error}") from error
    return layout


class Shard:
    """A finished file: (row, feature), flattened, of which any part is read from the disk.

    Parameters
    ----------
    crc32 : of the whole file, as hex digits; compared before the first row is read, once per process. None:
        nothing is known of it

    Raises
    ------
    PerceptError : the file is cut off, or not of this format
    """

    def __init__(self, path: Path, crc32: str | None = None) -> None:
        self.path, self.crc32 = path, crc32
        self.layout = read_layout(path)
        self.stimuli = self.layout.stimuli
        self.identity = self.layout.identity
        if (found := path.stat().st_size) != self.layout.size:
            raise damaged(path, f"it has {found} bytes and should have {self.layout.size}")

    @property
    def values(self) -> NDArray:
        """Stored values (row, feature), mapped for as long as they are looked at.

        A pool of a million images has more files than a process may keep open.
        """
        layout, stored = self.layout, STORED[self.identity.precision][1]
        shape = (len(self.stimuli), prod(layout.shape))
        return np.memmap(self.path, stored, mode="r", offset=layout.start, shape=shape)

    def _require_whole(self) -> None:
        about = self.path.stat()
        found = _crc32_at(self.path.resolve(), about.st_size, about.st_mtime_ns) if self.crc32 else None
        if found != self.crc32:
            raise damaged(self.path, "its content does not have the checksum that the index says")

    @property
    def inputs(self) -> NDArray[np.uint64]:
        """Digest, (row,), of what each row was computed from."""
        return read_inputs(self.layout, self.path)

    def read_into(
        self, out: NDArray[np.float32], where: NDArray, rows: NDArray, columns: slice = ALL
    ) -> None:
        """Write rows and columns into rows `where` of `out`, a block at a time.

        Raises
        ------
        PerceptError : the file is not what was written
        """
        self._require_whole()
        step, values = max(1, BLOCK // max(1, out.shape[1] * 4)), self.values
        for first in range(0, len(rows), step):
            part = np.s_[first : first + step]
            out[where[part]] = unpack(values[rows[part], columns], self.identity.precision)


@cache
def _crc32_at(file: Path, size: int, modified_ns: int) -> str:
    """Checksum of a file; size and time keep the cache honest within a long-lived process."""
    return f"{crc32_of(file):08x}"


def read_inputs(layout: Layout, path: Path) -> NDArray[np.uint64]:
    """Digest, (row,), of what each row of a file, finished or not, was computed from."""
    return np.fromfile(path, "<u8", count=len(layout.stimuli), offset=len(layout.header))


def name_of(first: int) -> str:
    """Name of the file that begins with the id `first`."""
    return f"ids-{first:05d}-{first + SHARD - 1:05d}.safetensors"


def damaged(path: Path, why: str) -> PerceptError:
    """What to raise when features cannot be read."""
    return PerceptError(
        f"{path} is damaged: {why}. Features read from it could be wrong without any error, so nothing was "
        "read. Delete the `index.json` beside its folder and run the same command again: damaged files are "
        "made anew, the others are kept."
    )
