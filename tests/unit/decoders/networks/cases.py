"""Small data and settings that the tests of the learners share."""

from types import SimpleNamespace

import numpy as np
import torch

from percept.decoders.networks.settings import (
    LowLevelLosses,
    LowLevelNetwork,
    MindEyeLosses,
    MindEyeNetwork,
    PriorSettings,
)
from percept.decoders.training.learner import Data, When

N_VOXELS, SHAPE, LATENT = 23, (3, 8), (4, 8, 12)
TRIALS = ((0, 1, 2), (3, -1, -1), (4, 5, -1), (6, 7, 8), (9, 10, 11), (12, 13, 14), (15, 16, 17))


def data(shape=SHAPE, seed=0, **further):
    """Seven images with one to three trials each, in an order of their own."""
    rng = np.random.default_rng(seed)
    trials = torch.tensor(TRIALS)
    n = len(trials)
    tensors = {
        "voxels": torch.from_numpy(rng.standard_normal((18, N_VOXELS), dtype=np.float32)),
        "trials": trials,
        "n_trials": (trials >= 0).sum(dim=1),
        "target": torch.from_numpy(rng.standard_normal((n, *shape), dtype=np.float32)).half(),
    }
    for name, size in further.items():
        tensors[name] = torch.from_numpy(rng.standard_normal((n, *size), dtype=np.float32))
    return Data(n, tensors)


def when(epoch=0, n_epochs=240, steps_per_epoch=3, step=0):
    return When(epoch * steps_per_epoch + step, n_epochs * steps_per_epoch, steps_per_epoch)


def mindeye(prior=None, repeats="sampled", network=None, **losses):
    """Settings of a tiny high level."""
    small = {"width": 16, "blocks": 2, "projector_width": 12}
    return SimpleNamespace(
        network=MindEyeNetwork(**small | (network or {})),
        losses=MindEyeLosses(**losses),
        prior=PriorSettings(**prior) if prior is not None else None,
        repeats=repeats,
    )


TINY_PRIOR = {"depth": 1, "heads": 2, "head_width": 4, "timesteps": 5, "sampling_steps": 5}


def lowlevel(repeats="mixed", **losses):
    """Settings of a tiny low level."""
    network = LowLevelNetwork(width=16, blocks=1, map_channels=8, up_channels=(4, 8, 8), teacher_width=6)
    return SimpleNamespace(network=network, losses=LowLevelLosses(**losses), repeats=repeats)
