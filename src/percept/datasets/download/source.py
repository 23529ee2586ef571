"""Bytes of one file by position, near or far: a file on the disk, or an object of the bucket over ranges."""

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from percept.config import DownloadConfig
from percept.datasets.download.bucket import Bucket, Patience, Transient
from percept.files import PerceptError

GAP = 1 << 14  # bytes between two wanted pieces that cost less to read along than another request
LONGEST = 1 << 23  # bytes per request: a dropped one is asked for again whole
PAGE = 1 << 14  # bytes that the hdf5 library's own small reads are rounded up to


class Source(Protocol):
    """A file of `size` bytes called `name`, of which any range can be read, several at a time."""

    name: str
    size: int
    n_read: int  # bytes moved so far

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start`..`stop` (exclusive)."""

    def read_all(self, spans: NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of all spans, (span, 2) start and stop, in their order."""


class LocalFile:
    """A file on the disk.

    Raises
    ------
    PerceptError : there is no such file
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.n_read = 0
        try:
            self._file = Path(path).open("rb", buffering=0)
        except FileNotFoundError as error:
            raise PerceptError(
                f"{path} is missing, so its voxels cannot be read: fetch it again, or list fewer sessions in "
                "`dataset.sessions`."
            ) from error
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start`..`stop` (exclusive)."""
        found = os.pread(self._file.fileno(), stop - start, start)
        if len(found) != stop - start:
            raise _truncated(self.name, start + len(found), stop)
        self.n_read += len(found)
        return found

    def read_all(self, spans: NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of all spans, in their order."""
        return (self.read(int(start), int(stop)) for start, stop in spans)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class RemoteFile:
    """An object of the bucket, read by ranges of the one version that it had when this was made.

    Nothing vouches for single ranges but the connection itself (S3 keeps checksums of whole objects only).
    """

    def __init__(self, key: str, cfg: DownloadConfig) -> None:
        self._bucket = Bucket(cfg)
        self._remote = self._bucket.head(key)
        self._lock = threading.Lock()
        self.name = key
        self.size = self._remote.size
        self.n_read = 0
        self.n_requests = 0

    def read(self, start: int, stop: int) -> bytes:
        """Bytes `start`..`stop` (exclusive).

        Raises
        ------
        Changed : the object was replaced since this was made
        Refused : 403, 404
        PerceptError : the server stays out of reach, or ignores ranges
        """
        patience = Patience(self._bucket, self.name)
        while True:
            try:
                found = b"".join(self._bucket.stream(self._remote, start, stop))
            except Transient as error:
                patience.wait(error)
                continue
            with self._lock:
                self.n_read += len(found)
                self.n_requests += 1
            return found

    def read_all(self, spans: NDArray[np.int64]) -> Iterator[bytes]:
        """The bytes of all spans, in their order, `connections` at a time."""
        with ThreadPoolExecutor(self._bucket.cfg.connections, thread_name_prefix="ranges") as pool:
            try:
                yield from pool.map(lambda span: self.read(int(span[0]), int(span[1])), spans)
            except BaseException:
                self._bucket.stop.set()
                pool.shutdown(cancel_futures=True)
                raise


class Seekable(io.RawIOBase):
    """A source as the file object that h5py asks for; reads are rounded up to pages, which are kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._pages: dict[int, bytes] = {}
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte and return it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._source.size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the present byte."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer from the present byte on; returns how many bytes there were."""
        stop = min(self._at + len(buffer), self._source.size)
        pages = range(self._at // PAGE, -(-stop // PAGE))
        found = b"".join(self._page(page) for page in pages)[self._at % PAGE :][: max(stop - self._at, 0)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _page(self, page: int) -> bytes:
        if page not in self._pages:
            stop = min((page + 1) * PAGE, self._source.size)
            self._pages[page] = self._source.read(page * PAGE, stop)
        return self._pages[page]


def gather(source: Source, starts: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    """Pieces of equal length, (piece, length), in any order; neighbours share a request.

    Parameters
    ----------
    starts : (piece,) first byte of each; may repeat
    length : bytes per piece

    Raises
    ------
    PerceptError : a piece lies beyond the end of the file
    """
    pieces = np.empty((len(starts), length), np.uint8)
    if not len(starts):
        return pieces
    if starts.max() + length > source.size:
        raise _truncated(source.name, source.size, starts.max() + length)
    order = np.argsort(starts, kind="stable")
    groups = np.split(order, _breaks(starts[order], length))
    spans = np.array([(starts[group[0]], starts[group[-1]] + length) for group in groups])
    for group, (first, _), found in zip(groups, spans, source.read_all(spans), strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(found, np.uint8), length)
        pieces[group] = windows[starts[group] - first]
    return pieces


def _truncated(name: str, size: int, wanted: int) -> PerceptError:
    return PerceptError(
        f"{name} ends at byte {size}, but its own index points to byte {wanted}: it is truncated or "
        "damaged, and its voxels cannot be trusted. Delete the local copy and run the same command again, "
        "or set `dataset.format: nii.gz`."
    )


def _breaks(starts: NDArray[np.int64], length: int) -> list[int]:
    """Where sorted pieces are too far apart, or together too long, for one request."""
    breaks, first = [], 0
    far = np.diff(starts) - length > GAP
    for piece in range(1, len(starts)):
        if far[piece - 1] or starts[piece] + length - starts[first] > LONGEST:
            breaks.append(piece)
            first = piece
    return breaks
