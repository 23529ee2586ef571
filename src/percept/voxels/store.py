"""One matrix, one row table and one column table per subject: betas.h5, trials.parquet, voxels.parquet.

Betas stay as released (int16, percent signal change x 300): the store is lossless, and z-scoring is a choice
of whoever reads.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from percept.files import PerceptError, crc32, create_hdf5, open_hdf5, put, read_parquet, write_parquet

BETAS, TRIALS, VOXELS = "betas.h5", "trials.parquet", "voxels.parquet"
CHECKSUMS = "checksums"  # of the rows of the betas
BLOCK = 16 << 20  # bytes of betas held while copying or converting
AGAIN = "Delete it and run the same command again; the workflow makes it anew."


@dataclass(frozen=True)
class SessionStatistics:
    """Per-session mean and sd of each voxel over all trials of the session, in raw units.

    Attributes
    ----------
    sessions : int (session,), their numbers
    mean, sd : float32 (session, voxel); the sd has ddof=0 and is 0 exactly where a voxel is constant
    scale : raw units per percent signal change
    """

    sessions: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    scale: float


class BetasWriter:
    """Rows of a betas.h5 in the making, session after session; made by `writing`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._row = 0
        self._session = 0
        self._checksums: list[int] = []

    def add(self, session: int, betas: np.ndarray) -> np.ndarray:
        """Append the betas (trial, voxel) of a session and its statistics; return where its sd is 0.

        Returns
        -------
        invalid : bool (voxel,), constant or not finite in this session
        """
        mean, sd = moments(betas)
        self._file["betas"][self._row : self._row + len(betas)] = betas
        self._file["session_mean"][self._session] = mean
        self._file["session_sd"][self._session] = sd
        self._file["sessions"][self._session] = session
        self._checksums += _checksums(betas.astype(self._file["betas"].dtype, copy=False))
        self._row += len(betas)
        self._session += 1
        return ~(sd > 0)


@contextmanager
def writing(
    folder: str | Path, shape: tuple[int, int], n_sessions: int, **attrs: str | float
) -> Iterator[BetasWriter]:
    """Write betas.h5 session by session; the file appears, whole, when the block succeeds.

    Parameters
    ----------
    folder : of the subject
    shape : (trial, voxel) of all sessions together
    n_sessions : sessions that will be added
    attrs : `subject`, `scale` (raw units per percent signal change), and `dtype` ("int16", "float32")

    Raises
    ------
    PerceptError : the disk has no room for the matrix, or not all rows were added
    """
    dtype = np.dtype(attrs.pop("dtype", "int16")).newbyteorder("<")
    check_room(folder, shape[0] * shape[1] * dtype.itemsize)
    with create_hdf5(Path(folder) / BETAS) as file:
        file.create_dataset("betas", shape, dtype)
        file.create_dataset("session_mean", (n_sessions, shape[1]), "<f4", fletcher32=True)
        file.create_dataset("session_sd", (n_sessions, shape[1]), "<f4", fletcher32=True)
        file.create_dataset("sessions", (n_sessions,), "<i2", fletcher32=True)
        file.attrs.update(attrs)
        writer = BetasWriter(file)
        yield writer
        if (writer._row, writer._session) != (shape[0], n_sessions):
            raise PerceptError(
                f"{Path(folder) / BETAS}: {writer._row} of {shape[0]} trials in {writer._session} of "
                f"{n_sessions} sessions were written, so the matrix would not match its tables. Nothing was "
                "kept."
            )
        put(file, CHECKSUMS, np.array(writer._checksums, "<u4"))


def _checksums(betas: np.ndarray) -> list[int]:
    """CRC-32 of the bytes of each row: a matrix whose rows lie one after the other has none of HDF5's."""
    return [crc32(np.ascontiguousarray(row).view(np.uint8)) for row in betas]


def check_room(folder: str | Path, n_bytes: int) -> None:
    """Raise a PerceptError unless the disk of `folder` has room for `n_bytes`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise PerceptError(
            f"{folder} needs {n_bytes / 1e9:.2f} GB for the betas of this subject, and its disk has "
            f"{free / 1e9:.2f} GB left. Make room, extract fewer ROI sets (voxels.extract) or fewer sessions."
        )


def moments(betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (ddof=0) over the rows of (trial, voxel), float64; sd is 0 exactly for a constant voxel.

    In double precision and in blocks of voxels, so that little memory is needed beside `betas`. A voxel with
    a value that is not finite has a mean and sd of NaN.
    """
    n_voxels = betas.shape[1]
    mean, sd = np.empty(n_voxels), np.empty(n_voxels)
    step = max(1, BLOCK // (8 * max(1, len(betas))))
    for start in range(0, n_voxels, step):
        here = slice(start, start + step)
        block = betas[:, here].astype(np.float64)
        block[:, ~np.isfinite(block).all(axis=0)] = np.nan
        mean[here], sd[here] = block.mean(axis=0), block.std(axis=0)
        sd[here][(block == block[0]).all(axis=0)] = 0  # rounding of the mean must not make it 1e-17
    return mean, sd


def keep_columns(folder: str | Path, keep: np.ndarray) -> None:
    """Rewrite betas.h5 with some of its voxels, bool (voxel,), a block of rows at a time."""
    path = Path(folder) / BETAS
    check_room(folder, int(path.stat().st_size * keep.mean()))
    with _open(folder) as old, create_hdf5(path) as new:
        new.attrs.update(old.attrs)
        put(new, "sessions", old["sessions"][:])
        for name in ("session_mean", "session_sd"):
            put(new, name, old[name][:][:, keep])
        betas = new.create_dataset("betas", (len(old["betas"]), int(keep.sum())), old["betas"].dtype)
        checksums = []
        for rows in _blocks(old["betas"]):
            kept = _rows(old, rows.start, rows.stop)[:, keep]
            betas[rows] = kept
            checksums += _checksums(kept)
        put(new, CHECKSUMS, np.array(checksums, "<u4"))


def _rows(file: h5py.File, first: int, last: int) -> np.ndarray:
    """Consecutive rows of the betas, each of which has to have the checksum that it was written with."""
    rows = file["betas"][first:last]
    if CHECKSUMS in file and not np.array_equal(_checksums(rows), file[CHECKSUMS][first:last]):
        raise PerceptError(
            f"{file.filename} is damaged: some of its rows {first} to {last - 1} (0-based) are not what was "
            f"written, so betas read from it would be wrong. {AGAIN}"
        )
    return rows


def _blocks(betas: h5py.Dataset) -> Iterator[slice]:
    step = max(1, BLOCK // max(1, betas.shape[1] * betas.dtype.itemsize))
    for start in range(0, len(betas), step):
        yield slice(start, min(start + step, len(betas)))


@contextmanager
def _open(folder: str | Path) -> Iterator[h5py.File]:
    path = Path(folder) / BETAS
    try:
        file = open_hdf5(path)
    except FileNotFoundError as error:
        raise PerceptError(f"{path} does not exist: extract the voxels of this subject first.") from error
    except PerceptError as error:
        raise PerceptError(f"{path} is truncated or damaged ({error.__cause__}). {AGAIN}") from error
    with file:
        yield file


def read_statistics(folder: str | Path, columns: np.ndarray | None = None) -> SessionStatistics:
    """Session statistics of some voxels (bool or int; default: all)."""
    columns = slice(None) if columns is None else columns
    with _open(folder) as file:
        return SessionStatistics(
            file["sessions"][:],
            file["session_mean"][:][:, columns],
            file["session_sd"][:][:, columns],
            float(file.attrs["scale"]),
        )


def extent(folder: str | Path) -> tuple[int, int]:
    """(trials, voxels) of the stored betas."""
    with _open(folder) as file:
        return file["betas"].shape


def read_betas(
    folder: str | Path,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    raw: bool = False,
    dtype: np.dtype | type | None = None,
) -> np.ndarray:
    """Betas of some trials and voxels, in blocks of rows: little is held beside the result.

    Parameters
    ----------
    rows, columns : bool masks or int positions in any order, repetitions allowed; default: all
    raw : in stored units (NSD: 300 per percent signal change) instead of percent signal change
    dtype : of the result; default: float32, or as stored where `raw`

    Returns
    -------
    betas : (row, column)
    """
    with _open(folder) as file:
        betas = file["betas"]
        rows, columns = (_positions(which, n) for which, n in zip((rows, columns), betas.shape, strict=True))
        dtype = dtype or (betas.dtype.newbyteorder("=") if raw else np.float32)
        out = np.empty((len(rows), len(columns)), dtype)
        order = np.argsort(rows, kind="stable")
        for block in _blocks(betas):
            low, high = np.searchsorted(rows[order], (block.start, block.stop))
            if low < high:
                wanted = order[low:high]
                first, last = rows[wanted[0]], rows[wanted[-1]] + 1
                out[wanted] = _rows(file, first, last)[np.ix_(rows[wanted] - first, columns)]
        if not raw:
            out /= np.float32(file.attrs["scale"])
    return out


def _positions(which: np.ndarray | None, n: int) -> np.ndarray:
    if which is None:
        return np.arange(n)
    which = np.asarray(which)
    return np.flatnonzero(which) if which.dtype == bool else which


def write_trials(folder: str | Path, trials: pd.DataFrame) -> None:
    """Write trials.parquet, whose row i is row i of the stored betas.

    Raises
    ------
    PerceptError : the rows or the sessions are not those of betas.h5
    """
    _check_trials(folder, trials)
    write_parquet(trials, Path(folder) / TRIALS)


def _check_trials(folder: str | Path, trials: pd.DataFrame) -> None:
    with _open(folder) as file:
        n_trials, sessions = len(file["betas"]), file["sessions"][:]
    if len(trials) != n_trials:
        raise PerceptError(
            f"{folder}: {len(trials)} trials are listed, but {BETAS} has {n_trials} rows, so images and "
            "betas would be paired wrongly. Delete the folder and extract again."
        )
    listed = trials["session"].to_numpy()
    listed = listed[
        np.r_[True, listed[1:] != listed[:-1]]
    ]  # a session that goes on after another comes twice
    if not np.array_equal(listed, sessions):
        raise PerceptError(
            f"{folder}: the trials list the sessions {', '.join(map(str, listed[:50]))}, but {BETAS} holds "
            f"{', '.join(map(str, sessions))}, one after the other. Delete the folder and extract again."
        )


def read_trials(folder: str | Path) -> pd.DataFrame:
    """trials.parquet, checked against betas.h5; errors as of `write_trials`."""
    path = Path(folder) / TRIALS
    trials = read_parquet(path)
    missing = [name for name in ("session", "stimulus") if name not in trials]
    if missing or trials["stimulus"].dtype.kind not in "iu":
        what = f"no column {missing[0]!r}" if missing else f"stimuli of type {trials['stimulus'].dtype}"
        raise PerceptError(
            f"{path} has {what}, where each row is a trial with its session and its stimulus, a "
            f"whole number: images and betas could not be paired. {AGAIN}"
        )
    _check_trials(folder, trials)
    return trials


def write_voxels(
    folder: str | Path, voxels: pd.DataFrame, labels: dict[str, list[str]] | None = None
) -> None:
    """Write voxels.parquet, whose row j is column j of the stored betas.

    Parameters
    ----------
    labels : atlas column -> all names that the atlas has, kept in the table's `attrs["labels"]`, so that a
        label without a voxel in this subject can be told from one that does not exist

    Raises
    ------
    PerceptError : betas.h5 has another number of voxels
    """
    _check_voxels(folder, voxels)
    voxels = voxels.copy()
    if labels is not None:
        voxels.attrs["labels"] = labels
    write_parquet(voxels, Path(folder) / VOXELS)


def _check_voxels(folder: str | Path, voxels: pd.DataFrame) -> None:
    n_voxels = extent(folder)[1]
    if len(voxels) != n_voxels:
        raise PerceptError(
            f"{folder}: {len(voxels)} voxels are listed, but {BETAS} has {n_voxels} columns, so regions "
            "would be taken from the wrong places. Delete the folder and extract again."
        )


def read_voxels(folder: str | Path) -> pd.DataFrame:
    """voxels.parquet with its `attrs["labels"]`, checked against betas.h5; errors as of `write_voxels`."""
    voxels = read_parquet(Path(folder) / VOXELS)
    _check_voxels(folder, voxels)
    return voxels
