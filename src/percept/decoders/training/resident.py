"""What a network is trained on, resident in memory: responses, and the features of the images behind them.

An epoch of a contrastive decoder visits images, not trials, and chooses among the trials of an image anew
each time. So trials lie in one matrix, and a table names those of each image. Features keep the precision in
which they are stored: 8,859 images of 257 x 768 numbers take 3.5 GB in float16, and twice that in float32.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from percept.decoders.task import Targets, Task
from percept.decoders.training.learner import Data

AT_ONCE = 1 << 25  # numbers read in float32 before they are kept in the precision of the file (128 MB)
NO_TRIAL = -1  # fills the rows of images with fewer trials than others


def training(task: Task, further: Mapping[str, Targets] | None = None) -> Data:
    """The training responses and the features of their images.

    Parameters
    ----------
    further : tensor name -> features of another target, such as those of a teacher

    Returns
    -------
    data : a row per image, in the order of their ids. Tensors: `voxels` (trial, voxel) float32, which shares
        the memory of `task.X`; `trials` (image, most) int64, rows of `voxels`, -1 beyond the last trial of an
        image; `n_trials` (image,) int64; `target` (image, ...) in the precision of the file; those of
        `further` (image, ...)
    """
    images, trials, n_trials = by_image(task.stimulus)
    return _data(task.X, images, trials, n_trials, {"target": task.targets, **(further or {})})


def validation(task: Task) -> Data | None:
    """The validation responses, one averaged response per image, in the layout of `training`; None where the
    split keeps no validation images.
    """
    if "validation" not in task.evaluate:
        return None
    images = np.asarray(task.shown["validation"])
    rows = np.arange(len(images))
    return _data(
        task.evaluate["validation"], images, rows[:, None], np.ones_like(rows), {"target": task.targets}
    )


def _data(
    X: NDArray[np.float32],
    images: NDArray,
    trials: NDArray[np.int64],
    n_trials: NDArray[np.int64],
    features: Mapping[str, Targets],
) -> Data:
    voxels = torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))
    table = {"trials": torch.from_numpy(trials), "n_trials": torch.from_numpy(n_trials)}
    read = {name: resident(targets, images) for name, targets in features.items()}
    return Data(len(images), {"voxels": voxels, **table, **read})


def by_image(stimulus: NDArray) -> tuple[NDArray, NDArray[np.int64], NDArray[np.int64]]:
    """Group trials by the image that they show.

    Parameters
    ----------
    stimulus : (trial,) id of the image of each trial

    Returns
    -------
    images : (image,) ids, ascending
    trials : (image, most) rows of each image in their order, -1 beyond the last
    n_trials : (image,) how many there are
    """
    images, code, n_trials = np.unique(stimulus, return_inverse=True, return_counts=True)
    order = np.argsort(code, kind="stable")
    place = np.arange(len(order)) - np.repeat(np.cumsum(n_trials) - n_trials, n_trials)
    trials = np.full((len(images), n_trials.max(initial=0)), NO_TRIAL, dtype=np.int64)
    trials[code[order], place] = order
    return images, trials, n_trials.astype(np.int64)


def resident(targets: Targets, images: NDArray, at_once: int = AT_ONCE) -> Tensor:
    """Features (image, ...) in the precision of their file, read `at_once` numbers at a time."""
    dtype = getattr(torch, getattr(targets, "precision", "float32"))
    kept = torch.empty((len(images), targets.n_dims), dtype=dtype)
    step = max(1, at_once // targets.n_dims)
    for start in range(0, len(images), step):
        part = targets.read(images[start : start + step], slice(0, targets.n_dims))
        kept[start : start + step] = torch.from_numpy(part)
    return kept.reshape(len(images), *targets.shape)
