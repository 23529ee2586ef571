"""Files that are whole or absent: everything is written beside its final name, then renamed."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import h5py

STARTED = time.time()
BLOCK = 1 << 20  # bytes read at a time while hashing


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
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(folder) / path.name
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        Path(folder).rmdir()


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PerceptError(
            f"{path} is not readable as JSON ({error}): the file is damaged or was edited by hand. "
            "Delete it and run the same command again; the workflow makes it anew."
        ) from error


def write_parquet(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as parquet atomically, without its index."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def read_parquet(path: str | Path) -> pd.DataFrame:
    """Read a parquet table.

    Raises
    ------
    PerceptError : the file is truncated or not parquet
    """
    try:
        return pd.read_parquet(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are subclasses of these
        raise PerceptError(
            f"{path} is not readable as parquet ({error}): the file is truncated or damaged. "
            "Delete it and run the same command again; the workflow makes it anew."
        ) from error


def open_hdf5(path: str | Path) -> "h5py.File":
    """Open an HDF5 file that the workflow made, for reading.

    Raises
    ------
    PerceptError : the file is truncated or not HDF5
    """
    import h5py

    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PerceptError(
            f"{path} is not readable as HDF5 ({error}): the file is truncated or damaged. "
            "Delete it and run the same command again; the workflow makes it anew."
        ) from error


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
