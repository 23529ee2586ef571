"""From stored betas to the matrix that a decoder sees: the z-score is the reader's choice.

`X = (betas - centre[session]) / spread[session]`, per voxel, where centre and spread come from

===============  =====================================================================================
`session`        all trials of the session, test trials too, ddof=0: the convention of NSD's authors
                 (Allen et al. 2022; Algonauts 2023; MindEye)
`session-train`  the training trials of the session, ddof=0: nothing of a test response is used
`train`          all training trials of all sessions together, ddof=1 (Brain-Diffuser): session drifts stay
`none`           0 and the scale: percent signal change
===============  =====================================================================================

A voxel that is constant, or not finite, among the trials that its z-score would come from has none. It is set
to 0 (the mean) in that session and this is logged; statistics over several sessions leave that session out.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from percept.files import PerceptError, create_hdf5, open_hdf5, put
from percept.voxels import roi as rois
from percept.voxels import store
from percept.voxels.store import SessionStatistics

log = logging.getLogger(__name__)

Normalisation = Literal["session", "session-train", "train", "none"]


@dataclass(frozen=True)
class Applied:
    """What a normalisation subtracted and divided by.

    Attributes
    ----------
    how : see the module
    sessions : int (session,), their numbers
    mean, sd : (session, voxel), raw units; where the sd is 0 or NaN the voxel was set to 0. With `train` all
        rows are equal
    kept : bool (voxel,), False where a mask set the voxel to 0 in every trial; None where there was no mask
    """

    how: str
    sessions: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    kept: np.ndarray | None = None


def load(
    folder: str | Path,
    roi: str,
    normalisation: Normalisation,
    custom_rois: rois.Custom = rois.NONE,
    train_rows: np.ndarray | None = None,
) -> tuple[np.ndarray, pd.DataFrame, pd.DataFrame]:
    """Everything a decoder needs of one subject.

    Parameters
    ----------
    folder : of the subject, with betas.h5, trials.parquet, voxels.parquet
    roi : name of an ROI set
    normalisation : see the module
    custom_rois : sets of the config
    train_rows : trials whose statistics may be used (bool or int); default: `split == "train"`. A fold of
        leave-one-run-out passes its own

    Returns
    -------
    X : float32 (trial, voxel), of all trials, in the order of the table
    trials : the trial table
    voxels : the rows of the voxel table that the set selects

    Raises
    ------
    PerceptError : as of `roi.select`, `normalise` and the readers of the store
    """
    X, _ = load_recorded(folder, roi, normalisation, custom_rois, train_rows)
    return X, store.read_trials(folder), selected(folder, roi, custom_rois)


def selected(folder: str | Path, roi: str, custom_rois: rois.Custom = rois.NONE) -> pd.DataFrame:
    """Rows of the voxel table that an ROI set selects, in the order of the columns of the matrix."""
    table = store.read_voxels(folder)
    return table[rois.select(table, roi, custom_rois)].reset_index(drop=True)


def load_recorded(
    folder: str | Path,
    roi: str,
    normalisation: Normalisation,
    custom_rois: rois.Custom = rois.NONE,
    train_rows: np.ndarray | None = None,
    mask: str | None = None,
) -> tuple[np.ndarray, Applied]:
    """The matrix of `load`, and the statistics that made it: for the record and for the audit.

    Parameters
    ----------
    mask : name of an ROI set; voxels outside it are 0 in all trials, whether they train, validate or test
    """
    trials, table = store.read_trials(folder), store.read_voxels(folder)
    inside = rois.select(table, roi, custom_rois)
    if train_rows is None:
        train_rows = (trials["split"] == "train").to_numpy()
    kept = None if mask is None else rois.kept(table, roi, mask, custom_rois)
    X = store.read_betas(folder, columns=inside, raw=True, dtype=np.float32)
    applied = normalise_in_place(X, trials, store.read_statistics(folder, inside), normalisation, train_rows)
    if kept is not None:
        X[:, ~kept] = 0
    return X, replace(applied, kept=kept)


def write_statistics(path: str | Path, applied: Applied) -> None:
    """Write what was applied as hdf5: `sessions`, `mean`, `sd`, the attribute `how`, and `kept` of a mask."""
    with create_hdf5(path) as file:
        file.attrs["how"] = applied.how
        for name in ("sessions", "mean", "sd"):
            put(file, name, getattr(applied, name))
        if applied.kept is not None:
            put(file, "kept", applied.kept)


def read_statistics(path: str | Path) -> Applied:
    """Read what `write_statistics` wrote.

    Raises
    ------
    PerceptError : the file is missing, truncated or damaged
    """
    try:
        with open_hdf5(path) as file:
            kept = file["kept"][:] if "kept" in file else None
            return Applied(file.attrs["how"], file["sessions"][:], file["mean"][:], file["sd"][:], kept)
    except (OSError, KeyError, PerceptError) as error:
        raise PerceptError(
            f"{path} is missing or damaged ({error}): the statistics of a decoder's input cannot be audited. "
            "Delete it and run the same command again; the workflow makes it anew."
        ) from error


def normalise(
    betas: np.ndarray,
    trials: pd.DataFrame,
    stats: SessionStatistics,
    how: Normalisation,
    train_rows: np.ndarray | None = None,
) -> np.ndarray:
    """Normalised copy of `betas`; parameters and errors as of `normalise_in_place`."""
    X = np.array(betas, dtype=np.float32)
    normalise_in_place(X, trials, stats, how, train_rows)
    return X


def normalise_in_place(
    X: np.ndarray,
    trials: pd.DataFrame,
    stats: SessionStatistics,
    how: Normalisation,
    train_rows: np.ndarray | None = None,
) -> Applied:
    """Normalise float32 betas (trial, voxel), in raw units, one session at a time.

    Parameters
    ----------
    trials : table with the column `session`, a row per row of `X`
    stats : of the same voxels, over all trials of each session
    how : see the module
    train_rows : bool or int; needed by `session-train` and `train`

    Returns
    -------
    applied : the statistics that were subtracted and divided by

    Raises
    ------
    PerceptError : `session-train` and a session has fewer than 2 training trials; `train` and there are fewer
        than 2 in all
    """
    session = trials["session"].to_numpy()
    usable = (stats.sd > 0) & np.isfinite(stats.sd)  # (session, voxel)
    centre, spread = _coefficients(X, session, stats, how, train_rows)
    if how == "none":
        usable = np.isfinite(stats.sd)  # a constant voxel has a percent signal change, NaN has none
    else:
        usable &= (spread > 0) & np.isfinite(spread)
    for row, number in enumerate(stats.sessions):
        _standardise(X, session == number, centre[row], np.where(usable[row], spread[row], np.inf))
    n_unusable = int((~usable).any(axis=0).sum())
    if n_unusable:
        log.warning(
            "%d of %d voxels are constant or not finite in some session: set to 0 there (normalisation %s)",
            n_unusable,
            X.shape[1],
            how,
        )
    return Applied(how, stats.sessions, centre, spread)


def _standardise(X: np.ndarray, rows: np.ndarray, centre: np.ndarray, spread: np.ndarray) -> None:
    """(X - centre) / spread on some rows, in place; 0 where the spread is infinite."""
    block = X[rows]
    block -= centre.astype(np.float32)
    block /= spread.astype(np.float32)
    block[:, np.isinf(spread)] = 0  # also where betas or centre are NaN
    X[rows] = block


def _coefficients(
    X: np.ndarray,
    session: np.ndarray,
    stats: SessionStatistics,
    how: Normalisation,
    train_rows: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and spread, (session, voxel), in raw units."""
    if how not in get_args(Normalisation):
        raise ValueError(f"unknown normalisation {how!r}; there are: {', '.join(get_args(Normalisation))}")
    if how == "none":
        return np.zeros_like(stats.mean), np.full_like(stats.sd, stats.scale)
    if how == "session":
        return stats.mean, stats.sd
    train = _as_mask(train_rows, len(X))
    n_train = np.array([(train & (session == number)).sum() for number in stats.sessions])
    if how == "session-train":
        _need_training_trials(n_train, stats.sessions)
        return _training_moments(X, session, stats, train)
    if n_train.sum() < 2:
        raise PerceptError(
            f"there are {n_train.sum()} training trials, so voxels cannot be normalised by them. Choose "
            "another split, pass the training rows, or set voxels.normalisation to session or none."
        )
    return _pool(*_training_moments(X, session, stats, train), n_train, stats)


def _as_mask(rows: np.ndarray | None, n_rows: int) -> np.ndarray:
    if rows is None:
        raise ValueError("normalisation by training trials needs train_rows")
    mask = np.zeros(n_rows, bool)
    mask[np.asarray(rows)] = True
    return mask


def _need_training_trials(n_train: np.ndarray, sessions: np.ndarray) -> None:
    too_few = sessions[n_train < 2]
    if too_few.size:
        raise PerceptError(
            f"the sessions {too_few.tolist()} have fewer than 2 training trials, so `session-train` has no "
            "mean and sd for them: whole sessions or runs are held out by this split. Set "
            "voxels.normalisation to `session` (statistics of all trials of a session, no labels) or `train` "
            "(of all training trials)."
        )


def _training_moments(
    X: np.ndarray, session: np.ndarray, stats: SessionStatistics, train: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (ddof=0) of the training trials of each session, (session, voxel); NaN without any."""
    mean = np.full(stats.mean.shape, np.nan)
    sd = np.full(stats.mean.shape, np.nan)
    for row, number in enumerate(stats.sessions):
        rows = train & (session == number)
        if rows.any():
            mean[row], sd[row] = store.moments(X[rows])
    return mean, sd


def _pool(
    mean: np.ndarray, sd: np.ndarray, n_train: np.ndarray, stats: SessionStatistics
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sd (ddof=1) over the trials of all sessions, from those of each: Chan et al. 1979.

    A voxel counts only in the sessions where it is valid. Returns the same row for every session.
    """
    valid = (stats.sd > 0) & np.isfinite(stats.sd) & (n_train[:, None] > 0)
    n = np.where(valid, n_train[:, None], 0)
    mean, sd = np.where(valid, mean, 0), np.where(valid, sd, 0)
    total = n.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # no valid session: NaN, which the caller sets to 0
        pooled = (n * mean).sum(axis=0) / total
        squares = (n * (sd**2 + (mean - pooled) ** 2)).sum(axis=0)
        spread = np.sqrt(squares / (total - 1))
    return np.broadcast_to(pooled, mean.shape), np.broadcast_to(spread, sd.shape)
