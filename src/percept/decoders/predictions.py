"""Files of predicted targets: one group per split and unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError, create_hdf5, open_hdf5, put

SAMPLED = "test/average"  # the group of which samples are kept: what images are made from
FIELDS = {"stimulus": np.int32, "n_repeats": np.int16, "run": np.int16, "fold": np.int16}


@dataclass(frozen=True)
class Predictions:
    """Predicted features and the trials behind them, row by row.

    predicted : (row, dim) float32; stimulus, n_repeats, run (-1: over runs), fold (-1: fixed split) : (row,)
    """

    predicted: NDArray[np.float32]
    stimulus: NDArray[np.int32]
    n_repeats: NDArray[np.int16]
    run: NDArray[np.int16]
    fold: NDArray[np.int16]


def write_predictions(
    path: str | Path, groups: Mapping[str, Predictions], attributes: Mapping[str, Any]
) -> None:
    """Write predictions that lie in memory, in the layout of `train_and_predict`."""
    with create_hdf5(path) as file:
        file.attrs.update(attributes)
        for name, predictions in groups.items():
            group = file.create_group(name)
            put(group, "predicted", np.asarray(predictions.predicted, dtype=np.float32))
            for column, dtype in FIELDS.items():
                put(group, column, np.asarray(getattr(predictions, column), dtype=dtype))


def read_predictions(path: str | Path, group: str, missing_ok: bool = False) -> Predictions | None:
    """One group of predictions: train, validation, test/average, test/single or test/run.

    Parameters
    ----------
    missing_ok : return None where there is no such group (no validation images), instead of raising

    Raises
    ------
    PerceptError : the file is damaged or has no such group
    """
    with open_hdf5(path) as file:
        if f"{group}/predicted" not in file and missing_ok:
            return None
        if f"{group}/predicted" not in file:
            found = [name for name in ("train", "validation", *_tests(file)) if name in file]
            raise PerceptError(
                f"{path} has no predictions of {group!r}; it has {', '.join(found)}: `split.test_units` and "
                "`split.validation_fraction` decide which are made."
            )
        return Predictions(file[group]["predicted"][:], *(file[group][column][:] for column in FIELDS))


def _tests(file: h5py.File) -> list[str]:
    return [f"test/{unit}" for unit in file.get("test", {})]
