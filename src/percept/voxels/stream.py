"""Selected voxels of one session, read without ever holding the session.

A session of NSD is int16 (X, Y, Z, 750). Decompressed nii.gz holds it volume after volume, each in Fortran
order; the hdf5 copy holds `/betas` (750, Z, Y, X) with one uncompressed chunk per voxel. Both readers return
the same bits (reference: NSD data manual, "Betas").
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib

from percept.files import UNREADABLE, PerceptError
from percept.shortage import damage

N_TRIALS = 750  # of every session of NSD
HEADER = 348  # bytes of a NIfTI-1 header
SLAB = 32 << 20  # bytes of a hdf5 session held at a time, where its layout lets us choose
AGAIN = "Delete the file and fetch it again; no result was written from it."

Shape = tuple[int, int, int]


def fortran_index(index: np.ndarray, shape: Shape) -> np.ndarray:
    """Flat Fortran-order positions of flat C-order positions in a volume (X, Y, Z)."""
    return np.ravel_multi_index(np.unravel_index(index, shape), shape, order="F")


def read_nifti(
    path: str | Path, index: np.ndarray, shape: Shape, where: str = "", n_trials: int = N_TRIALS
) -> np.ndarray:
    """Betas of some voxels from a nii.gz, as stored (int16), streamed one volume at a time.

    Parameters
    ----------
    path : gzipped NIfTI-1 of shape (X, Y, Z, trial)
    index : int (voxel,), flat C-order positions in (X, Y, Z)
    shape : (X, Y, Z) of the mask that `index` refers to
    where : subject and session, for messages
    n_trials : volumes that there must be

    Returns
    -------
    betas : int16 (trial, voxel), columns in the order of `index`

    Raises
    ------
    PerceptError : the file is truncated, corrupt (its CRC is checked) or longer than its header says, is no
        NIfTI-1 of int16, carries a scaling, or its shape is not `shape` + (n_trials,)
    """
    place = _place(path, where)
    with _gzip(path, place) as stream:
        header = _header(_read(stream, HEADER), place)
        check_shape(header.get_data_shape(), (*shape, n_trials), place)
        _read(stream, header.get_data_offset() - HEADER)
        betas = _take_volumes(
            stream, fortran_index(index, shape), (*shape, n_trials), header.get_data_dtype()
        )
        if stream.read(1):  # reading past the last volume is also what makes gzip check its CRC
            raise PerceptError(f"{place} holds more data than its header announces. {AGAIN}")
    return betas


def _place(path: str | Path, where: str) -> str:
    return f"{path} ({where})" if where else str(path)


@contextmanager
def _gzip(path: str | Path, place: str) -> Iterator[io.BufferedIOBase]:
    """An open gzip stream whose failures are named; they may come with any byte that is read."""
    try:
        with igzip.open(path, "rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise PerceptError(
            f"{place} does not exist. Fetch it, or set voxels.missing_sessions to skip."
        ) from error
    except damage(path, *UNREADABLE, isal_zlib.error) as error:
        raise PerceptError(
            f"{place} is truncated or corrupt ({error}): its betas cannot be trusted. {AGAIN}"
        ) from error


def _read(stream: io.BufferedIOBase, n_bytes: int) -> bytes:
    data = stream.read(n_bytes)
    if len(data) < n_bytes:
        raise EOFError("the data end before the header says so")
    return data


def _header(data: bytes, place: str) -> nib.Nifti1Header:
    """The checked header of an int16 NIfTI-1 without scaling, of either byte order."""
    try:
        header = nib.Nifti1Header(data)
        slope, intercept = header.get_slope_inter()
    except (nib.spatialimages.HeaderDataError, nib.wrapstruct.WrapStructError) as error:
        raise PerceptError(f"{place} has no valid NIfTI-1 header ({error}). {AGAIN}") from error
    if header["magic"].item() != b"n+1":
        raise PerceptError(f"{place} has no valid NIfTI-1 header (its magic bytes are not 'n+1'). {AGAIN}")
    if header.get_data_dtype().newbyteorder("=") != np.int16:
        raise PerceptError(
            f"{place} holds {header.get_data_dtype().name}, but the betas of NSD are int16 (percent signal "
            "change x 300), and reading anything else would change their unit. Use the file as released."
        )
    if (slope, intercept) not in {(None, None), (1.0, 0.0)}:
        raise PerceptError(
            f"{place} carries a scaling (scl_slope {slope:g}, scl_inter {intercept:g}), but the betas of NSD "
            "are unscaled int16 (percent signal change x 300), so their unit is unknown. Use the file as "
            "released."
        )
    return header


def check_shape(found: tuple[int, ...], expected: tuple[int, ...], place: str) -> None:
    """Raise unless (X, Y, Z, trial) is as the mask and the session want it."""
    if len(found) != 4 or found[:3] != expected[:3]:
        raise PerceptError(
            f"{place} has the shape {tuple(found)}, but the masks of the subject have {expected[:3]}: their "
            "voxels do not correspond. Use betas and ROIs of the same subject and the same space."
        )
    if found[3] != expected[3]:
        raise PerceptError(
            f"{place} holds {found[3]} trials, but a session has {expected[3]}: its rows could not be "
            f"matched to images. {AGAIN}"
        )


def _take_volumes(
    stream: io.BufferedIOBase, positions: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Pick the Fortran-order `positions` of each volume; only one volume is in memory."""
    betas = np.empty((shape[3], len(positions)), np.int16)
    buffer = bytearray(int(np.prod(shape[:3])) * dtype.itemsize)
    view, volume = memoryview(buffer), np.frombuffer(buffer, dtype)
    swapped = not dtype.isnative
    for row in betas:
        _fill(stream, view)
        if swapped:
            row[:] = volume[positions]
        else:  # mode: the positions are known to be inside, and "raise" would buffer each row
            np.take(volume, positions, out=row, mode="clip")
    return betas


def _fill(stream: io.BufferedIOBase, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        n_bytes = stream.readinto(view[filled:])
        if not n_bytes:
            raise EOFError("the data end before the header says so")
        filled += n_bytes


def read_hdf5(
    path: str | Path, index: np.ndarray, shape: Shape, where: str = "", n_trials: int = N_TRIALS
) -> np.ndarray:
    """Betas of some voxels from a hdf5 session; parameters, result and errors as of `read_nifti`.

    Where a voxel is one uncompressed chunk, as NSD writes it, only the chunks of the voxels are read.
    Otherwise the session is read in slabs of at most about 32 MB, or of one chunk where that is larger.
    """
    place = _place(path, where)
    try:
        with h5py.File(path, "r") as file:
            betas = file["betas"]
            _check_betas(betas, (*shape, n_trials), place)
            return _pick(betas, np.unravel_index(index, shape))
    except FileNotFoundError as error:
        raise PerceptError(
            f"{place} does not exist. Fetch it, or set voxels.missing_sessions to skip."
        ) from error
    except KeyError as error:
        raise PerceptError(f"{place} has no dataset `betas`: it is no session of NSD. {AGAIN}") from error
    except damage(path, *UNREADABLE) as error:
        raise PerceptError(
            f"{place} is truncated or corrupt ({error}): its betas cannot be trusted. {AGAIN}"
        ) from error


def _check_betas(betas: h5py.Dataset, shape: tuple[int, ...], place: str) -> None:
    check_shape(betas.shape[::-1], shape, place)
    if betas.dtype.newbyteorder("=") != np.int16:
        raise PerceptError(
            f"{place} holds {betas.dtype.name}, but the betas of NSD are int16 (percent signal change x "
            "300), and reading anything else would change their unit. Use the file as released."
        )


def _pick(betas: h5py.Dataset, ijk: tuple[np.ndarray, ...]) -> np.ndarray:
    """Choose the reader that suits how the dataset lies on disk."""
    n_trials = betas.shape[0]
    if betas.chunks == (n_trials, 1, 1, 1) and not betas.id.get_create_plist().get_nfilters():
        return _pick_chunks(betas, ijk)
    if betas.chunks is None or betas.chunks[0] < n_trials:
        return _pick_trials(betas, ijk)
    return _pick_slices(betas, ijk)


def _pick_chunks(betas: h5py.Dataset, ijk: tuple[np.ndarray, ...]) -> np.ndarray:
    """Read one chunk per voxel, in the order of the file."""
    i, j, k = ijk
    picked = np.empty((betas.shape[0], len(i)), np.int16)
    for column in np.lexsort((i, j, k)):
        chunk = (0, int(k[column]), int(j[column]), int(i[column]))
        try:
            picked[:, column] = np.frombuffer(betas.id.read_direct_chunk(chunk)[1], betas.dtype)
        except (OSError, RuntimeError):  # never written (hdf5 then means its fill value), or truncated
            picked[:, column] = betas[:, chunk[1], chunk[2], chunk[3]]
    return picked


def _pick_trials(betas: h5py.Dataset, ijk: tuple[np.ndarray, ...]) -> np.ndarray:
    """Read whole volumes, a few at a time: chunks do not span the trials."""
    i, j, k = ijk
    n_trials, chunk = betas.shape[0], (betas.chunks or (1,))[0]
    step = max(chunk, SLAB // (int(np.prod(betas.shape[1:])) * 2) // chunk * chunk)
    picked = np.empty((n_trials, len(i)), np.int16)
    for start in range(0, n_trials, step):
        picked[start : start + step] = betas[start : start + step][:, k, j, i]
    return picked


def _pick_slices(betas: h5py.Dataset, ijk: tuple[np.ndarray, ...]) -> np.ndarray:
    """Read the bounding box of the voxels of each slab along z, as deep as a chunk."""
    i, j, k = ijk
    depth = betas.chunks[1]
    picked = np.empty((betas.shape[0], len(i)), np.int16)
    for slab in np.unique(k // depth):
        here = np.flatnonzero(k // depth == slab)
        low = [axis[here].min() for axis in (k, j, i)]
        box = [slice(axis[here].min(), axis[here].max() + 1) for axis in (k, j, i)]
        inside = (axis[here] - start for axis, start in zip((k, j, i), low, strict=True))
        picked[:, here] = betas[(slice(None), *box)][(slice(None), *inside)]
    return picked
