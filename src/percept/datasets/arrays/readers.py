"""Readers of a lab's own files: matrices, volumes and tables, chosen by suffix. None of them unpickles."""

import tokenize
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.files import UNREADABLE, PerceptError, gzip_damage, read_parquet
from percept.shortage import damage

NO_NIFTI = (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError)
BLOCK_BYTES = 64 << 20  # of volumes held at a time while a file is streamed


def read_array(path: Path, variable: str | None = None) -> NDArray:
    """A numeric array from an npy, h5, parquet or mat file, in the axis order of the program that wrote it.

    Raises
    ------
    PerceptError : the file is absent or of another kind, holds Python objects, text or cells, or does not
        hold `variable`
    """
    path = Path(path)
    if path.suffix not in ARRAY_READERS:
        raise PerceptError(
            f"{path}: arrays are read from {', '.join(ARRAY_READERS)} files, not from "
            f"{path.suffix or 'a folder'}. Convert the file, or correct its path in the config."
        )
    _must_exist(path)
    array = ARRAY_READERS[path.suffix](path, variable)
    if array.dtype.kind not in "biuf":
        raise PerceptError(
            f"{path} holds values of type {array.dtype}, but betas, labels and images are real numbers. "
            "Save a plain numeric array."
        )
    return array


def _read_npy(path: Path, variable: str | None) -> NDArray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except damage(path, *UNREADABLE, tokenize.TokenError) as error:
        raise PerceptError(
            f"{path} is not a plain npy array ({error}). Pickled arrays (dtype object) are refused, because "
            "loading one can run foreign code: save a rectangular numeric array with numpy.save(..., "
            "allow_pickle=False)."
        ) from error


def _read_h5(path: Path, variable: str | None) -> NDArray:
    with _open_h5(path) as file:
        return file[_choose(_datasets(file), variable, path)][...]


def _read_parquet(path: Path, variable: str | None) -> NDArray:
    return read_parquet(path).to_numpy()


def _read_mat(path: Path, variable: str | None) -> NDArray:
    """Versions up to 7.2 through scipy; 7.3 is HDF5, whose axes MATLAB writes in reverse."""
    if h5py.is_hdf5(path):
        with _open_h5(path) as file:
            return file[_choose(_datasets(file), variable, path)][...].T
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        name = _choose([entry[0] for entry in whosmat(path)], variable, path)
        return loadmat(path, variable_names=[name])[name]
    except damage(path, *UNREADABLE, MatReadError) as error:
        raise PerceptError(
            f"{path} is not readable as a mat file ({error}): save it again, as -v7 or -v7.3."
        ) from error


ARRAY_READERS: dict[str, Callable[[Path, str | None], NDArray]] = {
    ".npy": _read_npy,
    ".h5": _read_h5,
    ".hdf5": _read_h5,
    ".parquet": _read_parquet,
    ".mat": _read_mat,
}


def read_rows(path: Path, variable: str | None, rows: NDArray) -> NDArray:
    """Some rows of a first axis, in the order asked for; of an npy or h5 file nothing else is read."""
    if path.suffix not in (".h5", ".hdf5"):
        return np.asarray(read_array(path, variable)[rows])
    _must_exist(path)
    wanted, place = np.unique(rows, return_inverse=True)  # h5py reads ascending, distinct rows only
    with _open_h5(path) as file:
        return file[_choose(_datasets(file), variable, path)][wanted][place]


def n_rows(path: Path, variable: str | None) -> int:
    """Length of the first axis of an array file."""
    if path.suffix not in (".h5", ".hdf5"):
        return len(read_array(path, variable))
    _must_exist(path)
    with _open_h5(path) as file:
        return len(file[_choose(_datasets(file), variable, path)])


@contextmanager
def _open_h5(path: Path) -> Iterator[h5py.File]:
    """A file of which whatever cannot be read is named, when it is opened or later."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except damage(path, *UNREADABLE) as error:
        raise PerceptError(
            f"{path} is not readable as HDF5 ({error}): it is truncated or of another kind."
        ) from error


def _datasets(file: h5py.File) -> list[str]:
    """Names of the arrays of a file; MATLAB keeps its own below #refs# and #subsystem#."""
    found: list[str] = []
    file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return [name for name in found if not name.startswith("#")]


def _choose(names: list[str], variable: str | None, path: Path) -> str:
    if variable is None and len(names) == 1:
        return names[0]
    if variable is not None and variable.strip("/") in names:
        return variable.strip("/")
    asked = "no array is named in the config" if variable is None else f"there is no array {variable!r}"
    raise PerceptError(
        f"{path}: {asked}; the file holds {', '.join(sorted(names)) or 'none'}. Set `variable` to one of "
        "them."
    )


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise PerceptError(
            f"{path} is not there (paths are relative to {Path.cwd()}). Correct the path in `dataset`, or "
            "put the file there."
        )


def open_volumes(path: Path) -> nib.spatialimages.SpatialImage:
    """Header and lazy data of a NIfTI file.

    Raises
    ------
    PerceptError : the file is absent or not NIfTI
    """
    _must_exist(Path(path))
    if Path(path).suffix == ".gz" and (problem := gzip_damage(path)):  # nibabel stops before the checksum
        raise PerceptError(
            f"{path} cannot be read to its end ({problem}): it is truncated or damaged; copy it again."
        )
    try:
        return nib.load(path, keep_file_open=True)  # one pass through a compressed file, not one per block
    except damage(path, *NO_NIFTI) as error:
        raise PerceptError(f"{path} is not readable as NIfTI ({error}).") from error


def blocks(image: nib.spatialimages.SpatialImage, path: Path) -> Iterator[NDArray]:
    """Consecutive volumes, scaled as the header says, a (x, y, z, trial) block at a time.

    Raises
    ------
    PerceptError : the file has no fourth axis, or ends early
    """
    if len(image.shape) != 4:
        raise PerceptError(
            f"{path} has the shape {image.shape}, but volumes as trials need four axes (x, y, z, trial)."
        )
    step = max(1, BLOCK_BYTES // (8 * int(np.prod(image.shape[:3]))))
    for start in range(0, image.shape[3], step):
        try:
            yield np.asarray(image.dataobj[..., start : start + step])
        except damage(path, *NO_NIFTI) as error:
            raise PerceptError(
                f"{path} cannot be read to its end ({error}): it is truncated; copy it again."
            ) from error


def read_volume(path: Path) -> tuple[NDArray, NDArray]:
    """A three-dimensional volume (x, y, z) and its affine; a fourth axis of length 1 is dropped.

    Raises
    ------
    PerceptError : the file is absent, damaged, or holds more than one volume
    """
    image = open_volumes(path)
    try:
        volume = np.asarray(image.dataobj)
    except damage(path, *NO_NIFTI) as error:
        raise PerceptError(
            f"{path} cannot be read to its end ({error}): it is truncated; copy it again."
        ) from error
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise PerceptError(
            f"{path} has the shape {volume.shape}, but a mask or atlas is one volume (x, y, z)."
        )
    return volume, image.affine


def read_table(path: Path, names: tuple[str, ...] = ()) -> pd.DataFrame:
    """A table whose text stays text: `NA` or `none` may be the name of a stimulus.

    Parameters
    ----------
    path : csv, tsv, parquet; any other suffix is text with columns parted by blanks
    names : columns of a text file without a header line; empty: its first line names them

    Raises
    ------
    PerceptError : the file is absent, damaged, or has another number of columns than `names`
    """
    path = Path(path)
    _must_exist(path)
    if path.suffix == ".parquet":
        return read_parquet(path)
    header = {"header": None} if names else {}
    separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix, r"\s+")
    try:
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, **header)
    except damage(path, *UNREADABLE) as error:  # pandas' own are ValueErrors
        raise PerceptError(f"{path} is not readable as a table ({error}).") from error
    if names and len(names) != table.shape[1]:
        raise PerceptError(
            f"{path} has {table.shape[1]} columns, but `trials.names` lists {len(names)} "
            f"({', '.join(names)})."
        )
    return table.set_axis(names, axis=1) if names else table


def as_text(value: object) -> str:
    """A cell as text; 7.0 is 7, because tables turn whole numbers into floats where a column has gaps."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
