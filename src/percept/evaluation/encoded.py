"""Predicted responses beside measured ones: what an encoding model leaves for scoring and submission."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.files import create_hdf5, open_hdf5, put

ROW = NDArray[np.float32]


@dataclass(frozen=True)
class Encoded:
    """Predicted beside measured responses.

    Attributes
    ----------
    predicted, measured : (image, voxel), test images, in the units that the normalisation leaves
    stimulus, n_repeats : (image,), 0-based id and how many trials were averaged
    columns : (voxel,), rows of the voxel table
    withheld_stimulus : (image,), test images without responses
    withheld : (image, voxel), what is predicted for them, in the units of the stored responses
    """

    predicted: ROW
    measured: ROW
    stimulus: NDArray[np.int32]
    n_repeats: NDArray[np.int32]
    columns: NDArray[np.int64]
    withheld_stimulus: NDArray[np.int32]
    withheld: ROW


def write(encoded: Encoded, path: str | Path) -> None:
    """Write predicted and measured responses as hdf5."""
    with create_hdf5(path) as file:
        for name, values in vars(encoded).items():
            put(file, name, values)


def read(path: str | Path) -> Encoded:
    """Read what `write` wrote; errors as of `files.open_hdf5`."""
    with open_hdf5(path) as file:
        return Encoded(**{name: file[name][:] for name in Encoded.__dataclass_fields__})
