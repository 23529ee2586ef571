"""Rows to train on and to predict: single trials, or means over the repeats of an image."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Unit = Literal["average", "single", "run"]
KEYS = {"average": ["stimulus"], "run": ["session", "run", "stimulus"]}


def units(
    X: NDArray[np.float32], trials: pd.DataFrame, rows: NDArray[np.intp], unit: Unit
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Responses of the rows, averaged over the repeats of an image, over those within a run, or not at all.

    Returns
    -------
    averaged : (unit, voxel) float32
    frame : stimulus, n_repeats, session, run of each; session and run are -1 where averaged over them.
        Ordered by (session, run,) stimulus; single trials keep their order
    """
    frame, code = grouping(trials, rows, unit)
    return average(X, rows, code, len(frame)), frame


def grouping(
    trials: pd.DataFrame, rows: NDArray[np.intp], unit: Unit
) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """The units that some rows of the trial table form, and the unit of each row (see `units`).

    Raises
    ------
    ValueError : an unknown unit
    """
    table = trials.iloc[rows][["session", "run", "stimulus"]].reset_index(drop=True)
    if unit == "single":
        return table.assign(n_repeats=1), np.arange(len(table))
    if unit not in KEYS:
        raise ValueError(f"`split.test_units` knows average, single and run, not {unit!r}")
    by = table.groupby(KEYS[unit], sort=True)
    frame = by.size().rename("n_repeats").reset_index()
    missing = {name: -1 for name in ("session", "run") if name not in frame}
    return frame.assign(**missing), by.ngroup().to_numpy()


def average(
    X: NDArray[np.float32], rows: NDArray[np.intp], code: NDArray[np.intp], n_units: int
) -> NDArray[np.float32]:
    """Mean response (unit, voxel) of the rows of each unit; X is read in place, never copied."""
    if len(rows) == n_units:  # one row each
        out = np.empty((n_units, X.shape[1]), dtype=np.float32)
        out[code] = X[rows]
        return out
    from scipy import sparse

    share = (1 / np.bincount(code, minlength=n_units)[code]).astype(np.float32)
    return np.asarray(sparse.csr_array((share, (code, rows)), shape=(n_units, len(X))) @ X)
