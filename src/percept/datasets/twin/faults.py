"""Faults that can be planted in a twin, so that an audit can prove that it would find them.

``leaked-test-image`` (written): a shared image is shown to each subject again under the id of one of its
    own images, with the same pixels and the same responses. Shows as equal pixels, and equal betas, under two
    ids, one of them in training and one in test.
``shuffled-trials`` (written): within each session the betas are in another order than every table says.
    Shows as a noise ceiling near 0 where the released one is not, and as decoders at chance.
``statistics-from-test`` (analysis, `apply_statistics`): normalisation takes mean and sd from test trials.
    Shows when the normalised data are looked at: training voxels no longer have mean 0 and sd 1.
``swapped-direction`` (analysis, `percept.evaluation.run.Swapped`): the two directions of a scorer are
    exchanged. Shows when the published numbers are recounted from the predictions.
"""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from percept.config import TwinDataset
from percept.datasets.nsd_keys import N_SHARED, TRIALS_PER_SESSION
from percept.datasets.nsd_tables import Design
from percept.datasets.twin import design as experiment

LEAK, SHUFFLE = "leaked-test-image", "shuffled-trials"
STATISTICS, SWAP = "statistics-from-test", "swapped-direction"


def leaks(ds: TwinDataset, design: Design) -> dict[str, tuple[int, int]]:
    """The leaked image of each subject: subject -> (shared image, own image that copies it), 0-based nsd ids.

    Both are shown three times in the released sessions. Empty without the fault.
    """
    if LEAK not in ds.faults:
        return {}
    pairs = {}
    for number, (subject, n_sessions) in enumerate(experiment.released(ds).items()):
        tenk = design.masterordering[: n_sessions * TRIALS_PER_SESSION]
        images, counts = np.unique(tenk, return_counts=True)
        whole = images[counts == experiment.N_REPEATS]
        shared, own = whole[whole < N_SHARED], whole[whole >= N_SHARED]
        rng = np.random.default_rng([ds.seed, 2, number])
        table = dict(zip(whole.tolist(), design.stimuli(subject)[_first(tenk, whole)].tolist(), strict=True))
        pairs[subject] = (table[int(rng.choice(shared))], table[int(rng.choice(own))])
    return pairs


def _first(trials: NDArray[np.int32], images: NDArray[np.int32]) -> NDArray[np.int64]:
    known, place = np.unique(trials, return_index=True)
    return place[np.searchsorted(known, images)]


def copy_responses(betas: NDArray[np.int16], trials: NDArray[np.int32], pair: tuple[int, int]) -> None:
    """Overwrite the responses to the second image of `pair` by those to the first, in place, repeat by
    repeat.

    Parameters
    ----------
    betas : (trial, voxel)
    trials : (trial,) 0-based nsd ids
    """
    source, copy = (np.flatnonzero(trials == image) for image in pair)
    betas[copy] = betas[source]


def shuffled_order(ds: TwinDataset, n_sessions: int, subject: int) -> NDArray[np.int64]:
    """Row of the true order that each written trial holds, (trial,): the identity without the fault."""
    order = np.arange(n_sessions * TRIALS_PER_SESSION)
    if SHUFFLE in ds.faults:
        rng = np.random.default_rng([ds.seed, 3, subject])
        order = rng.permuted(order.reshape(n_sessions, -1), axis=1).ravel()
    return order


def apply_statistics(
    faults: Collection[str], train_rows: NDArray[np.intp], test_rows: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Rows from which normalisation takes its mean and sd: training rows, or test rows if that fault is
    planted.
    """
    return test_rows if STATISTICS in faults else train_rows
