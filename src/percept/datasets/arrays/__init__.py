"""A lab's own data: betas, trial table and voxel table of a subject, as the NSD reader gives them.

Everything downstream is the same code, so the conventions of NSD are made here: ids are 0-based, a voxel has
coordinates and area names, a trial has a session, a run and a repeat.
"""

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.arrays import betas as _betas
from percept.datasets.arrays import trials as _trials
from percept.datasets.arrays import voxels as _voxels
from percept.datasets.arrays.stimuli import catalogue, identify, images, labels, source
from percept.datasets.arrays_config import ArraysDataset, locate
from percept.files import PerceptError

__all__ = ["catalogue", "images", "labels", "read_subject", "source"]

_log = logging.getLogger(__name__)


def read_subject(ds: ArraysDataset, subject: str) -> tuple[NDArray, pd.DataFrame, pd.DataFrame]:
    """Everything about one subject, in the form of the data contract.

    Returns
    -------
    betas : (trial, voxel) float32, percent signal change if `dataset.betas.scale` is right, not normalised;
        with `detrend: linear` without the mean and slope of each run. Sessions ascend; within a session, the
        trials are in the order of the trial table
    trials : a row per row of `betas`: session (1 where the table has none), run, trial (1-based within its
        run, counting those left out), stimulus (0-based), repeat (0-based), shared; split where given
    voxels : a row per column of `betas`: i, j, k (-1 where unknown), an area name or null per atlas, ncsnr
        (NaN where the voxel table has none), n_valid_sessions, n_sessions, valid; `attrs["labels"]` has the
        names of each atlas

    Raises
    ------
    PerceptError : a file is missing, damaged or refused; shapes, row counts or ids do not fit; betas are NaN
    """
    betas, coordinates, geometry = _betas.read(ds, subject)
    table = _trials.read_table(ds, subject)
    _same_length(betas, table, ds, subject)
    _betas.check_finite(betas, subject, ds)
    trials = _trials.numbered(table, ds, subject)
    if ds.betas.detrend == "linear":
        betas = _betas.detrended(betas, trials)
    rows = _rows_used(ds, table, trials, subject)
    trials = _with_stimuli(ds, trials.iloc[rows], table.iloc[rows], subject)
    betas = np.asarray(betas[rows] / ds.betas.scale, dtype=np.float32)
    voxels = _voxels.read(ds, subject, betas.shape[1], coordinates, geometry)
    _log.info("%s: %d of %d trials, %d voxels", subject, len(trials), len(table), len(voxels))
    return betas, trials, _voxels.with_validity(voxels, betas, trials)


def _rows_used(ds: ArraysDataset, table: pd.DataFrame, trials: pd.DataFrame, subject: str) -> NDArray:
    """Positions of the rows that are not left out, session after session, as the store needs them."""
    rows = np.flatnonzero(_trials.used(ds, table))
    if not rows.size:
        raise PerceptError(
            f"{locate(ds.trials.path, subject)} (subject {subject}): no trial remains after "
            "`dataset.trials.leave_out`. Shorten that list."
        )
    return rows[np.argsort(trials.session.to_numpy()[rows], kind="stable")]


def _with_stimuli(ds: ArraysDataset, trials: pd.DataFrame, table: pd.DataFrame, subject: str) -> pd.DataFrame:
    where = f"{locate(ds.trials.path, subject)} (subject {subject})"
    stimulus = identify(ds, table.stimulus.tolist(), catalogue(ds), where)
    return _trials.completed(trials.assign(stimulus=stimulus), table, ds, subject).reset_index(drop=True)


def _same_length(betas: NDArray, table: pd.DataFrame, ds: ArraysDataset, subject: str) -> None:
    if len(betas) != len(table):
        files = ", ".join(map(str, ds.betas.paths(subject)))
        raise PerceptError(
            f"{files} has {len(betas)} trials, {locate(ds.trials.path, subject)} has {len(table)} rows "
            f"(subject {subject}). Row i of the table describes row (or volume) i of the betas, so the "
            "numbers must be equal; a missing or surplus header line (`dataset.trials.names`) or transposed "
            "betas are the usual causes."
        )
