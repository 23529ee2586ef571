"""Which of the responses to an image stand for it in a batch."""

import numpy as np
import torch
from torch import Tensor

from percept.decoders.networks.settings import Repeats
from percept.decoders.training.learner import Data, send

CYCLE = 3  # NSD shows an image three times
COMBINED, MEANT = (
    0.5,
    0.3,
)  # shares of the batches of `mixed`; the rest takes one repeat (MindEye's low level)


def shares(policy: Repeats, n_trials: Tensor, most: int, step: int, rng: np.random.Generator) -> Tensor:
    """Share of each repeat in the response that stands for an image, (row, repeat) float32;
    rows sum to 1.

    Parameters
    ----------
    policy : see `settings.REPEATS`
    n_trials : (row,) int64, repeats of each image, 1 or more; `most` of any. Nothing of them is read by the
        host, which would wait for the device
    step : of the training
    """
    if policy == "mixed":
        policy = _policy_of_batch(rng.random())
    numbers = send(rng.random((len(n_trials), most)), n_trials.device)  # [0, 1), float64
    repeat = torch.arange(most, device=n_trials.device)
    there = repeat < n_trials[:, None]
    if policy == "combined":
        weights = (1 - numbers) * there  # of those there are, in (0, 1]: never all zero
    elif policy == "averaged":
        weights = there.double()
    else:
        chosen = step % CYCLE % n_trials if policy == "cycled" else (numbers[:, 0] * n_trials).long()
        weights = (repeat == chosen[:, None]).double()
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def _policy_of_batch(drawn: float) -> str:
    """What a batch of `mixed` does, from a uniform number."""
    if drawn < COMBINED:
        return "combined"
    return "averaged" if drawn < COMBINED + MEANT else "sampled"


def responses(data: Data, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of the repeats of some images, (row, voxel).

    Parameters
    ----------
    data : with `voxels` (trial, voxel) and `trials` (image, most), -1 where there is none
    rows : (row,) images
    weights : (row, most), 0 where there is no trial
    """
    trials = data.tensors["trials"][rows].clamp(min=0)
    found = torch.zeros(len(rows), data.tensors["voxels"].shape[1], device=rows.device)
    for repeat in range(trials.shape[1]):  # one after the other: memory does not grow with the repeats
        found += weights[:, repeat, None] * data.tensors["voxels"][trials[:, repeat]]
    return found


def response(data: Data, rows: Tensor, policy: Repeats, step: int, rng: np.random.Generator) -> Tensor:
    """Responses (row, voxel) to some images under a policy; see `shares`."""
    n_trials, most = data.tensors["n_trials"][rows], data.tensors["trials"].shape[1]
    return responses(data, rows, shares(policy, n_trials, most, step, rng))


def averages(data: Data, rows: Tensor) -> Tensor:
    """Mean responses (row, voxel) to some images."""
    return response(data, rows, "averaged", 0, np.random.default_rng(0))
