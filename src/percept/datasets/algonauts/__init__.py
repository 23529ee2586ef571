"""The Algonauts 2023 challenge: responses, images and regions of a subject, as the NSD reader gives them.

The release has no repeats, no sessions and no official validation images, and keeps the test responses and
noise ceilings back. What follows from that is decided here: every row is one image, "repeat" 0 of session 1.
"""

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.algonauts import regions, responses, tree
from percept.datasets.algonauts.stimuli import catalogue, source, withheld
from percept.datasets.algonauts_config import AlgonautsDataset
from percept.datasets.arrays.voxels import with_validity

__all__ = ["catalogue", "read_subject", "source", "withheld"]

log = logging.getLogger(__name__)


def read_subject(ds: AlgonautsDataset, subject: str) -> tuple[NDArray, pd.DataFrame, pd.DataFrame]:
    """Everything about one subject, in the form of the data contract.

    Returns
    -------
    betas : (image, vertex) float32 as released: z-scored within sessions, then averaged over repeats; the
        left hemisphere first, training images first
    trials : a row per row of `betas`: session 1, run 1, trial (1-based), stimulus (0-based id), repeat 0,
        shared (False: the release does not say), part (train, or test where the organisers' responses are
        there)
    voxels : a row per column: what `regions.table` returns, ncsnr (NaN: it needs repeats), n_valid_sessions,
        n_sessions, valid

    Raises
    ------
    PerceptError : what is missing, damaged, or does not fit, with the file that shows it
    """
    folder = ds.folder(subject)
    scheme = tree.naming(folder)
    log.info("%s follows the %s naming scheme of the Algonauts 2023 tree", folder, scheme)
    images = tree.parts(ds, subject)
    betas, sizes = responses.read(folder, len(images["train"]), len(images["test"]))
    finite = responses.require_finite_rows(betas, folder)
    shown = [*images["train"], *images["test"]][: len(betas)]
    trials = _trials([image.stimulus for image in shown], len(images["train"]))
    voxels = regions.table(folder, scheme, sizes).assign(ncsnr=np.float32(np.nan))
    voxels = with_validity(voxels, betas, trials)
    valid = voxels["valid"] & finite
    voxels = voxels.assign(valid=valid, n_valid_sessions=valid.astype(np.int16))
    _tell_invalid(voxels, subject)
    responses.compare_with_release(subject, (len(images["train"]), len(images["test"]), *sizes))
    log.info("%s: %d training and %d test rows, %d vertices", subject, len(images["train"]),
             len(betas) - len(images["train"]), sum(sizes))  # fmt: skip
    return betas, trials, voxels


def _trials(stimulus: list[int], n_train: int) -> pd.DataFrame:
    n_rows = len(stimulus)
    part = np.where(np.arange(n_rows) < n_train, "train", "test")
    columns = {
        "session": np.int16(1),
        "run": np.int16(1),
        "trial": np.arange(1, n_rows + 1, dtype=np.int16),
        "stimulus": np.array(stimulus, dtype=np.int32),
        "repeat": np.int16(0),
        "shared": False,
        "part": pd.Series(part, dtype=str),
    }
    return pd.DataFrame(columns, index=range(n_rows))


def _tell_invalid(voxels: pd.DataFrame, subject: str) -> None:
    for side, own in voxels[~voxels["valid"]].groupby("hemisphere", sort=False):
        first = voxels.index[voxels["hemisphere"] == side][0]
        listed = ", ".join(str(column - first) for column in own.index[:5])
        log.warning(
            "%s: %d vertices of %s hold NaN or are constant (columns %s%s of its file, 0-based)",
            subject, len(own), side, listed, ", ..." if len(own) > 5 else "",
        )  # fmt: skip
