"""The box around a mask: from a vector of voxels to a volume, and back. Nothing here imports torch."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from percept.files import PerceptError

AXES = ["i", "j", "k"]


@dataclass(frozen=True)
class Box:
    """The smallest box along the axes of the volume that holds all voxels of a mask.

    It depends on where the voxels are and on nothing that was measured in them, so that training, validation
    and test responses lie in the same volume.

    Attributes
    ----------
    origin : (3,), the voxel i, j, k that is cell 0, 0, 0 of the box; negative where a margin reaches out of
        the volume
    shape : cells along i, j, k
    cell : int64 (voxel,), cell of each voxel, counted in C order (k fastest): `volume.flat[cell]` are the
        voxels again, in their order
    """

    origin: NDArray[np.int64]
    shape: tuple[int, int, int]
    cell: NDArray[np.int64]

    @property
    def n_cells(self) -> int:
        """Cells of the box, those outside the mask included."""
        return int(np.prod(self.shape))

    def scatter(self, responses: NDArray) -> NDArray:
        """Volumes (row, i, j, k) of responses (row, voxel); 0 outside the mask."""
        volumes = np.zeros((len(responses), self.n_cells), responses.dtype)
        volumes[:, self.cell] = responses
        return volumes.reshape(len(responses), *self.shape)

    def gather(self, volumes: NDArray) -> NDArray:
        """Values (row, voxel) of volumes (row, i, j, k), such as maps of what a network looked at."""
        return volumes.reshape(len(volumes), self.n_cells)[:, self.cell]


def around(coordinates: ArrayLike, margin: int = 0, multiple: int = 1) -> Box:
    """The box around voxels (voxel, 3) of int coordinates i, j, k.

    Parameters
    ----------
    margin : empty cells on each side
    multiple : each side is lengthened at its end to a multiple of this, such as the product of the strides

    Raises
    ------
    PerceptError : there is no voxel, or two are in the same place
    """
    places = np.asarray(coordinates, dtype=np.int64)
    if len(places) == 0:
        raise PerceptError("there is no voxel to put into a volume: choose an ROI set that selects some.")
    origin = places.min(axis=0) - margin
    size = places.max(axis=0) + margin + 1 - origin
    size = -(-size // multiple) * multiple
    cell = np.ravel_multi_index(tuple((places - origin).T), tuple(size))
    if len(np.unique(cell)) < len(cell):
        raise PerceptError(
            f"{len(cell) - len(np.unique(cell))} voxels share their coordinates i, j, k with another, so one "
            "of each pair would overwrite the other in the volume: correct the table of voxels."
        )
    return Box(origin, (int(size[0]), int(size[1]), int(size[2])), cell)


def of_table(voxels: pd.DataFrame | None, margin: int = 0, multiple: int = 1) -> Box:
    """`around` the voxels of a table with the columns i, j, k, a row per column of the responses.

    Raises
    ------
    PerceptError : as of `around`; also where the coordinates are not known (-1, or no such columns)
    """
    known = voxels is not None and set(AXES) <= set(voxels.columns)
    if not known or (voxels[AXES].to_numpy() < 0).any():
        raise PerceptError(
            "the data set does not say where its voxels are (columns i, j, k of the table of voxels), so "
            "they cannot be put into a volume for a three-dimensional network: give `dataset.voxels` "
            "coordinates, or use a decoder of voxels as a list (`variant: flat_transformer`, `kind: ridge`)."
        )
    return around(voxels[AXES].to_numpy(), margin, multiple)
