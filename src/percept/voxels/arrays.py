"""Matrices (a lab's own, a challenge's) into the same three files as NSD's data: betas, voxels, trials."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import VoxelsConfig
from percept.datasets import algonauts, arrays
from percept.datasets.algonauts_config import AlgonautsDataset
from percept.datasets.arrays_config import ArraysDataset
from percept.files import PerceptError
from percept.voxels import normalise, reliability, store

log = logging.getLogger(__name__)

MIN_REPEATS = 2  # own designs have no full number of repeats: every repeated stimulus tells of noise


def store_subject(
    ds: ArraysDataset | AlgonautsDataset, config: VoxelsConfig, subject: str, folder: str | Path
) -> pd.DataFrame:
    """Write betas.h5 (float32, in the units of the reader) and voxels.parquet; return the trials of its rows.

    Parameters
    ----------
    ds : the data set
    config : what to do with invalid voxels; all voxels of the betas are stored, whatever `extract` names
    folder : where the files go; `store.write_trials` adds the returned table once it has its split

    Raises
    ------
    PerceptError : as of `read_subject` of the kind of data; `config.invalid` is "error" and some voxel is
        constant in a session; no voxel is valid
    """
    read_subject = {"arrays": arrays.read_subject, "algonauts": algonauts.read_subject}[ds.kind]
    betas, trials, voxels = read_subject(ds, subject)
    labels = voxels.attrs["labels"]
    keep = kept(voxels, config.invalid, f"{subject} of data set {ds.name}")
    if not keep.all():  # a copy of gigabytes otherwise
        betas, voxels = betas[:, keep], voxels[keep].reset_index(drop=True)
    sessions = trials["session"].unique()
    attrs = {"subject": subject, "scale": 1.0, "dtype": "float32"}
    with store.writing(folder, betas.shape, len(sessions), **attrs) as writer:
        for session in sessions:
            writer.add(int(session), betas[(trials["session"] == session).to_numpy()])
    if not trials["stimulus"].duplicated().any():
        log.info("%s: no image was shown twice, so its noise ceiling cannot be measured", subject)
    elif voxels["ncsnr"].isna().all():
        voxels = voxels.assign(ncsnr=_ncsnr(folder, betas, trials))
    store.write_voxels(folder, voxels, labels)
    return trials


def kept(voxels: pd.DataFrame, policy: Literal["drop", "zero", "error"], where: str) -> NDArray[np.bool_]:
    """Voxels that stay, (voxel,): those that vary in every session, or with policy "zero" all of them.

    Raises
    ------
    PerceptError : some voxel is constant in a session and the policy is "error", or no voxel would stay
    """
    valid = voxels["valid"].to_numpy(bool)
    if policy == "zero" or valid.all():
        return np.ones(len(valid), bool)
    counted = f"{(~valid).sum()} of {len(valid)} voxels of {where} are constant or NaN in some session"
    if policy == "error" or not valid.any():
        raise PerceptError(
            f"{counted} (first: column {int(np.flatnonzero(~valid)[0])} of the betas, 0-based) and cannot be "
            "z-scored. Set voxels.invalid to drop (leave them out of all sessions) or zero (keep them, 0 "
            "where constant), or mask them; if all are constant, check the betas and the session column."
        )
    log.warning("%s: left out (voxels.invalid: drop)", counted)
    return valid


def _ncsnr(folder: str | Path, betas: NDArray, trials: pd.DataFrame) -> NDArray[np.float32]:
    """(voxel,), from the stimuli that were shown at least twice; NaN where hardly any was."""
    z = normalise.normalise(betas, trials, store.read_statistics(folder), "session")
    return reliability.ncsnr(z, trials["stimulus"], MIN_REPEATS, too_few="nan")
