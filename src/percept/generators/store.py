"""The file of one reconstruction: `generators/{subject}/{reconstruction}/images.h5`."""

from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError, atomic


class Images(NamedTuple):
    """Images and the stimuli that they show or reconstruct, row by row."""

    images: NDArray  # (n, height, width, 3) uint8
    stimulus: NDArray  # (n,) int32, 0-based


def write_images(path: str | Path, images: NDArray, stimulus: NDArray) -> None:
    """Write reconstructions atomically, one chunk per image.

    Parameters
    ----------
    images : (n, height, width, 3) uint8
    stimulus : (n,) int, the 0-based stimulus that each image reconstructs

    Raises
    ------
    ValueError : not 8-bit colour images, or not one stimulus per image
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"{path} holds uint8 images of axes (n, height, width, 3), not {images.dtype} of shape "
            f"{images.shape}: clip to 0..255 and convert before writing."
        )
    if len(images) != len(stimulus):
        raise ValueError(
            f"{path}: {len(images)} images came with {len(stimulus)} stimuli; give one for each."
        )
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        chunks = (1, *images.shape[1:]) if len(images) else None
        file.create_dataset("images", data=images, chunks=chunks, compression="lzf" if chunks else None)
        file["stimulus"] = np.asarray(stimulus, dtype=np.int32)


def read_images(path: str | Path) -> Images:
    """Read what `write_images` wrote.

    Raises
    ------
    PerceptError : the file is truncated or lacks one of the two datasets
    """
    try:
        with h5py.File(path, "r") as file:
            return Images(file["images"][:], file["stimulus"][:])
    except FileNotFoundError:
        raise
    except (OSError, KeyError) as error:
        raise PerceptError(
            f"{path} does not hold the images of a reconstruction ({error}): the file is truncated or was "
            "written by something else, so nothing can be scored or shown from it. Delete it and run the "
            "same command again; the workflow makes it anew."
        ) from error
