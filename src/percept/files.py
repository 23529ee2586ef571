"""Files that are whole or absent: everything is written beside its final name, then renamed.

Tables and arrays that the workflow makes carry checksums, so that a bit that flips on a disk is an error and
never another number. They are ordinary parquet and HDF5 all the same. Parquet has a CRC-32 per page; one over
the whole file stands before the footer, where readers do not look. HDF5 has checksums of its own: of metadata
since version 1.10 of the format, of values by its filter fletcher32, and of attributes by one more of them.
"""

import errno
import glob
import hashlib
import io
import json
import os
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from percept.shortage import damage, lacked

STARTED = time.time()
BLOCK = 1 << 20  # bytes read at a time while hashing
GZIP_BLOCK = 1 << 16  # at most 1032 times as much when inflated: 68 MB
SEAL = b"percept-crc32:"  # before the checksum in a parquet file
CHECKED = "attributes_crc32"  # an attribute of the first object of a HDF5 file: of the attributes of the file
END = 8  # bytes at the end of a parquet file: length of the footer, magic number
FORMAT = ("v110", "v110")  # versions of HDF5 in which all metadata have checksums
COMPACT = 1 << 15  # bytes; what is not larger lies in a header of HDF5, which has a checksum

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
UNREADABLE = (  # what readers of other packages raise at a damaged file, besides errors of their own
    OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, MemoryError, ArithmeticError,
    EOFError, SyntaxError, AssertionError, struct.error, zlib.error,
)  # fmt: skip


class PerceptError(Exception):
    """A failure that the user can understand and mend.

    Its message is one paragraph: what happened, where (file, subject, session), why it matters, what to do.
    """


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary sibling of `path`, renamed onto it when the block succeeds and removed when it fails.

    The sibling keeps the suffixes of `path`, because several writers choose their format by them. Missing
    parent folders are made. The file is flushed to disk before it is renamed, so that a power cut leaves
    either the old file or the new one.

    Raises
    ------
    PerceptError : the disk is full, or may not be written to
    """
    path = Path(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    with _named(path), _renamed(Path(folder), path) as temporary:
        yield temporary


@contextmanager
def _renamed(folder: Path, path: Path) -> Iterator[Path]:
    temporary = folder / path.name
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        folder.rmdir()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say in words that a disk is full or closed; HDF5 hides the number of such an error in its text."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL or any(said in str(error) for said in map(os.strerror, FULL)):
            raise PerceptError(
                f"{path} cannot be written, because its disk is full or a quota or limit of the size of "
                "files is reached; nothing half-written was kept. Make room, or put `dataset.root` and the "
                "working folder on a larger disk, and run the same command again: what is there is not made "
                "again."
            ) from error
        if error.errno in CLOSED:
            raise PerceptError(
                f"{path} cannot be written ({error.strerror}): nothing was changed. Make its folder writable "
                "for you, or run the workflow in a working folder (`snakemake --directory`) that is, and run "
                "the same command again."
            ) from error
        raise


def _sweep(path: Path) -> None:
    """Remove what a killed process left beside `path`; a file has one writer at a time, so what is older than
    this process has none any more.
    """
    for folder in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        if folder.is_dir() and folder.stat().st_mtime < STARTED:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(text: str, path: str | Path) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(data: Any, path: str | Path) -> None:  # noqa: ANN401 (whatever json can hold)
    """Write `data` as indented JSON with sorted keys: equal data give equal bytes."""
    write_text(json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n", path)


def read_json(path: str | Path) -> Any:  # noqa: ANN401
    """Read a JSON file.

    Raises
    ------
    PerceptError : the file is not JSON
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PerceptError(
            f"{path} is not readable as JSON ({error}): the file is damaged or was edited by hand. "
            "Delete it and run the same command again; the workflow makes it anew."
        ) from error


def write_parquet(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as parquet atomically, without its index, with checksums."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False, write_page_checksum=True)
        data = temporary.read_bytes()
        footer = _footer(data)
        temporary.write_bytes(data[:footer] + SEAL + crc32(data).to_bytes(4, "big") + data[footer:])


def _footer(data: bytes) -> int:
    """Where the footer of a parquet file begins; 0 if it says something impossible."""
    return max(len(data) - END - int.from_bytes(data[-END:-4], "little"), 0)


def _broken_seal(data: bytes) -> bool:
    """Whether a parquet file has a checksum that its content does not have."""
    footer = _footer(data)
    start = footer - len(SEAL) - 4
    if start < 0 or data[start : footer - 4] != SEAL:  # written by something else
        return False
    return crc32(data[:start] + data[footer:]) != int.from_bytes(data[footer - 4 : footer], "big")


def read_parquet(path: str | Path) -> pd.DataFrame:
    """Read a parquet table.

    Raises
    ------
    PerceptError : the file is truncated, damaged or not parquet
    """
    data = Path(path).read_bytes()
    try:
        if _broken_seal(data):
            raise ValueError("its content does not have the checksum that was written")
        return pd.read_parquet(
            io.BytesIO(data),
            page_checksum_verification=True,
            # Tables are small; and where there is no memory for a thread, Arrow waits for it without end.
            use_threads=False,
            pre_buffer=False,
            to_pandas_kwargs={"use_threads": False},
        )
    except damage(path, *UNREADABLE) as error:
        raise PerceptError(
            f"{path} is not readable as parquet ({error}): the file is truncated or damaged. "
            "Delete it and run the same command again; the workflow makes it anew."
        ) from error


class Hdf5(h5py.File):
    """An HDF5 file that is read; what HDF5 finds wrong within its `with` block is a PerceptError."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        path = self.filename
        super().__exit__(kind, error, trace)
        foreign = isinstance(error, (OSError, KeyError, RuntimeError))
        if foreign and any(said in str(error) for said in ("Unable to", "Can't")) and not lacked(error, path):
            raise _no_hdf5(path, error) from error


def open_hdf5(path: str | Path) -> Hdf5:
    """Open an HDF5 file that the workflow made, for reading; its attributes are compared with their checksum.

    Raises
    ------
    PerceptError : the file is truncated, damaged or not HDF5; also from the `with` block, where a dataset is
        absent or its checksum is not that of its values
    """
    try:
        file = Hdf5(path, "r")
    except FileNotFoundError:
        raise
    except damage(path, OSError, RuntimeError) as error:
        raise _no_hdf5(path, error) from error
    try:
        _check_attributes(file)
    except damage(path, *UNREADABLE) as error:
        file.close()
        raise _no_hdf5(path, error) from error
    return file


def _no_hdf5(path: str | Path, error: Exception) -> PerceptError:
    return PerceptError(
        f"{path} is not readable as HDF5 ({error}): the file is truncated or damaged. "
        "Delete it and run the same command again; the workflow makes it anew."
    )


@contextmanager
def create_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """A new HDF5 file, atomically, all metadata and attributes of which get checksums.

    Values get theirs from `put`, or `create_dataset(..., fletcher32=True)`.

    Raises
    ------
    PerceptError : the disk is full, or may not be written to
    """
    with atomic(path) as temporary, _Remembering(temporary, "w+") as raw:
        try:
            with h5py.File(raw, "w", libver=FORMAT) as file:
                yield file
                _seal_attributes(file)
        finally:
            if raw.failed is not None:
                raise raw.failed


class _Remembering(io.FileIO):
    """A file that keeps its first failure to write for whoever made it.

    HDF5 writes much of what it was given when datasets and files are closed; failures are lost then, and the
    interpreter may be with them.
    """

    failed: OSError | None = None

    def write(self, data: bytes) -> int:
        """Write all of it, unless something could not be written before."""
        rest = memoryview(data)
        try:
            while len(rest) and self.failed is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failed = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Shorten or lengthen the file, unless something could not be written before."""
        try:
            if self.failed is None:
                return super().truncate(size)
        except OSError as error:
            self.failed = error
        return 0


def put(group: h5py.Group, name: str, values: ArrayLike) -> None:
    """Write an array, or a single number, with a checksum: within a header if it is small, else in chunks."""
    values = np.asarray(values)
    if values.nbytes > COMPACT:
        group.create_dataset(name, data=values, fletcher32=True)
        return
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    group.create_dataset(name, data=values, dcpl=properties)


def _seal_attributes(file: h5py.File) -> None:
    """Note a checksum of the attributes: HDF5 keeps texts of any length where it has none of its own."""
    if len(file.attrs) and len(file):
        file[min(file)].attrs[CHECKED] = np.uint32(_crc_of_attributes(file))


def _check_attributes(file: h5py.File) -> None:
    said = file[min(file)].attrs.get(CHECKED) if len(file) else None
    if said is not None and int(said) != _crc_of_attributes(file):
        raise OSError("the attributes do not have the checksum that was written")


def _crc_of_attributes(file: h5py.File) -> int:
    return crc32(repr(sorted((name, str(value)) for name, value in file.attrs.items())).encode())


def crc32(data: bytes, start: int = 0) -> int:
    """CRC-32, as of gzip; `start` is that of the bytes before."""
    return zlib.crc32(data, start)


def crc32_of(path: str | Path) -> int:
    """CRC-32 of a file's content, read in blocks; ten times as fast as a digest that nobody could forge."""
    found = 0
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK):
            found = crc32(block, found)
    return found


def inside(folder: str | Path, name: str, source: str | Path) -> Path:
    """The path of a file of a folder whose name stands in `source`: a table, an index, a manifest.

    Raises
    ------
    PerceptError : the name leads out of the folder
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name:
        raise PerceptError(
            f"{source} names the file {name!r}, which is not in {folder}: whatever lies there would be read "
            "instead, so nothing was. The file is damaged or was made by somebody else: delete it and run "
            "the same command again."
        )
    return Path(folder) / name


def gzip_damage(path: str | Path) -> str | None:
    """What is wrong with a gzip file by the CRC-32 and length at the end of each of its members."""
    stream = zlib.decompressobj(wbits=31)
    try:
        with Path(path).open("rb") as file:
            while rest := file.read(GZIP_BLOCK):
                while rest:
                    if stream.eof:  # another member follows
                        stream = zlib.decompressobj(wbits=31)
                    stream.decompress(rest)
                    rest = stream.unused_data
    except zlib.error as error:
        return f"damaged gzip stream ({error})"
    return None if stream.eof else "gzip stream without an end"


def sha256(path: str | Path) -> str:
    """Hex digest of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_text(text: str, n: int = 12) -> str:
    """First `n` hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()[:n]
