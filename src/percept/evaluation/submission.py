"""The challenge's submission: predicted responses to the test images whose measured ones are withheld."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.algonauts_config import HEMISPHERES, TRAINING_FMRI
from percept.datasets.arrays.readers import read_array
from percept.files import PerceptError, atomic

log = logging.getLogger(__name__)


def full(
    predicted: NDArray[np.float32], columns: NDArray[np.int64], voxels: pd.DataFrame, sizes: dict[str, int]
) -> dict[str, NDArray[np.float32]]:
    """Predictions with a column for every vertex of the release, per hemisphere (image, vertex) float32.

    Vertices that were left out, by `voxels.invalid` or by an ROI set, are 0: no prediction.

    Parameters
    ----------
    predicted : (image, predicted vertex)
    columns : (predicted vertex,) rows of the voxel table
    voxels : with `hemisphere` and `file_column`
    sizes : vertices of each hemisphere in the release
    """
    made = {}
    table = voxels.iloc[columns]
    for side, n_vertices in sizes.items():
        own = (table["hemisphere"] == side).to_numpy()
        made[side] = np.zeros((len(predicted), n_vertices), np.float32)
        made[side][:, table["file_column"].to_numpy()[own]] = predicted[:, own]
    return made


def sizes_of(folder: Path) -> dict[str, int]:
    """Vertices of each hemisphere in the released training responses of a subject's folder."""
    return {side: read_array(folder / TRAINING_FMRI.format(side)).shape[1] for side in HEMISPHERES}


def write(predicted: dict[str, NDArray[np.float32]], folder: str | Path) -> None:
    """Write `lh_pred_test.npy` and `rh_pred_test.npy`, float32 (image, vertex).

    Raises
    ------
    PerceptError : a prediction is not finite, which the challenge's server would refuse
    """
    for side, values in predicted.items():
        if not np.isfinite(values).all():
            raise PerceptError(
                f"the submission of {side} holds values that are not finite, which the challenge refuses: "
                "see the log of encode_responses."
            )
        with atomic(Path(folder) / f"{side}_pred_test.npy") as temporary, temporary.open("wb") as file:
            np.save(file, values.astype(np.float32), allow_pickle=False)
        log.info("%s: %d images, %d vertices", side, *values.shape)
