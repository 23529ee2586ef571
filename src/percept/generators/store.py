"""The files of one reconstruction: `generators/{subject}/{reconstruction}/images.h5` and `recovery.h5`."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError, create_hdf5, open_hdf5


class Images(NamedTuple):
    """Images and the stimuli that they show or reconstruct, row by row."""

    images: NDArray  # (n, height, width, 3) uint8
    stimulus: NDArray  # (n,) int32, 0-based


@dataclass(frozen=True)
class Piece:
    """Some rows of a file of images.

    images, lowlevel (the blurry images they started from, or None) : (n, height, width, 3) uint8
    stimulus : (n,) int, the 0-based stimulus that each image reconstructs
    """

    images: NDArray[np.uint8]
    stimulus: NDArray
    lowlevel: NDArray[np.uint8] | None = None


def write_images(
    path: str | Path,
    images: NDArray,
    stimulus: NDArray,
    lowlevel: NDArray | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write reconstructions that lie in memory; see `write_pieces`."""
    write_pieces(path, [Piece(images, np.asarray(stimulus), lowlevel)], attributes)


def write_pieces(
    path: str | Path, pieces: Iterable[Piece], attributes: Mapping[str, Any] | None = None
) -> None:
    """Write reconstructions atomically, some rows at a time, one chunk per image.

    Parameters
    ----------
    pieces : consecutive rows, at least one piece; all with images of the same size, all with low-level
        images or none
    attributes : JSON values kept with the images: the settings that they were made with

    Raises
    ------
    ValueError : no piece, not 8-bit colour images, sizes that differ, or not one stimulus per image
    """
    with create_hdf5(path) as file:
        for piece in pieces:
            _check(path, piece)
            _append(file, path, "images", piece.images)
            if piece.lowlevel is not None:
                _append(file, path, "lowlevel", piece.lowlevel)
            _append(file, path, "stimulus", np.asarray(piece.stimulus, dtype=np.int32))
        if "images" not in file:
            raise ValueError(f"{path} was given no images: there is nothing to write.")
        if "lowlevel" in file and len(file["lowlevel"]) != len(file["images"]):
            raise ValueError(
                f"{path}: {len(file['lowlevel'])} low-level images for {len(file['images'])} images; give "
                "one for each, or none at all."
            )
        for name, value in (attributes or {}).items():
            file.attrs[name] = json.dumps(value, sort_keys=True)


def _check(path: str | Path, piece: Piece) -> None:
    for images in (piece.images, piece.lowlevel):
        if images is not None and (images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3):
            raise ValueError(
                f"{path} holds uint8 images of axes (n, height, width, 3), not {images.dtype} of shape "
                f"{images.shape}: clip to 0..255 and convert before writing."
            )
    if len(piece.images) != len(piece.stimulus):
        raise ValueError(
            f"{path}: {len(piece.images)} images came with {len(piece.stimulus)} stimuli; give one for each."
        )


def _append(file: h5py.File, path: str | Path, name: str, rows: NDArray) -> None:
    """Add rows to a dataset, made with the first of them; images are compressed one by one."""
    if name not in file:
        chunks = (1, *rows.shape[1:]) if rows.ndim > 1 else (1024,)
        file.create_dataset(
            name, data=rows, chunks=chunks, maxshape=(None, *rows.shape[1:]),
            compression="lzf" if rows.ndim > 1 else None, fletcher32=True,
        )  # fmt: skip
        return
    data = file[name]
    if data.shape[1:] != rows.shape[1:]:
        raise ValueError(f"{path}: {name} of shape {rows.shape[1:]} after others of {data.shape[1:]}.")
    data.resize(len(data) + len(rows), axis=0)
    data[len(data) - len(rows) :] = rows


def read_images(path: str | Path, rows: Sequence[int] | NDArray | None = None) -> Images:
    """Images and their stimuli.

    Parameters
    ----------
    rows : which, in the order wanted; only these are read. None: all of them

    Raises
    ------
    PerceptError : the file is truncated or lacks one of the two datasets
    """
    with _reading(path) as file:
        stimulus = file["stimulus"][:]
        return Images(_read_rows(file["images"], rows), stimulus if rows is None else stimulus[_index(rows)])


def read_stimulus(path: str | Path) -> NDArray[np.int32]:
    """The stimulus of each row, without the images.

    Raises
    ------
    PerceptError : the file is truncated
    """
    with _reading(path) as file:
        return file["stimulus"][:]


def read_lowlevel(path: str | Path, rows: Sequence[int] | NDArray | None = None) -> NDArray[np.uint8] | None:
    """The low-level images, row by row of `read_images`; None where the generator has none.

    Raises
    ------
    PerceptError : the file is truncated
    """
    with _reading(path) as file:
        return _read_rows(file["lowlevel"], rows) if "lowlevel" in file else None


def _read_rows(data: h5py.Dataset, rows: Sequence[int] | NDArray | None) -> NDArray[np.uint8]:
    """Some rows of a dataset, one by one: each is a chunk of its own, and any order will do."""
    if rows is None:
        return data[:]
    out = np.empty((len(rows), *data.shape[1:]), dtype=data.dtype)
    for place, row in enumerate(_index(rows)):
        out[place] = data[row]
    return out


def _index(rows: Sequence[int] | NDArray) -> NDArray[np.intp]:
    return np.asarray(rows, dtype=np.intp)


def read_attributes(path: str | Path) -> dict[str, Any]:
    """What was kept with the images: the settings that they were made with.

    Raises
    ------
    PerceptError : the file is truncated
    """
    with _reading(path) as file:
        return {name: json.loads(value) for name, value in file.attrs.items()}


@contextmanager
def _reading(path: str | Path) -> Iterator[h5py.File]:
    try:
        with open_hdf5(path) as file:
            yield file
    except FileNotFoundError:
        raise
    except (OSError, KeyError, ValueError, PerceptError) as error:
        raise PerceptError(
            f"{path} does not hold the images of a reconstruction ({error}): the file is truncated or was "
            "written by something else, so nothing can be scored or shown from it. Delete it and run the "
            "same command again; the workflow makes it anew."
        ) from error
