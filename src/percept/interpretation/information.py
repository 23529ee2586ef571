"""What a region carries of the target: alone, alone among all, and what a decoder loses without it.

The triple of every region, of ridge decoders (Kriegeskorte and Douglas 2019 on why one number misleads):

``r2_solo``      R2 of a decoder trained on the region alone: what it carries, shared or not
``r2_unique``    R2 of the decoder of all voxels, less that of one trained without the region: what it alone
                 carries
``r2_zero``      R2 that the decoder of all voxels loses if the region is set to its mean: not information but
                 reliance, larger than unique wherever regions share signal

Decoders are trained again, with their penalties chosen again, on training images only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from percept.decoders import ridge
from percept.files import PerceptError
from percept.interpretation.groups import Group
from percept.interpretation.leave_one_out import Effect

NAMES = ("r2_solo", "r2_unique", "r2_zero")
MOST_DIMS = 8192  # target columns that are solved at once, with their held-out residuals in float64


@dataclass(frozen=True)
class Samples:
    """Responses and targets of training and test images.

    train, test : (image, voxel); target, true : (image, dim) of the two; groups : (image,) training images
    """

    train: NDArray[np.float32]
    test: NDArray[np.float32]
    target: NDArray[np.float32]
    true: NDArray[np.float32]
    groups: NDArray


def triples(
    cfg: ridge.RidgeConfig, samples: Samples, regions: Sequence[Group], seed: int
) -> Iterator[Effect]:
    """The triple of each region; values of images are influences, whose mean is the R2 or the difference.

    Raises
    ------
    PerceptError : the target has too many columns to be solved again for every region
    """
    if samples.target.shape[1] > MOST_DIMS:
        raise PerceptError(
            f"the target has {samples.target.shape[1]} columns, and `information` trains two decoders of all "
            f"of them per region: leave it out for targets of more than {MOST_DIMS}, or analyse a decoder of "
            "a pooled embedding."
        )
    everything = np.arange(samples.train.shape[1])
    full = _fitted(cfg, samples, everything, seed)
    intact = _shares(samples, full.predict(samples.test))
    for region in regions:
        rest = np.setdiff1d(everything, region.voxels)
        solo = _shares(
            samples, _fitted(cfg, samples, region.voxels, seed).predict(samples.test[:, region.voxels])
        )
        without = _shares(samples, _fitted(cfg, samples, rest, seed).predict(samples.test[:, rest]))
        zeroed = samples.test.copy()
        zeroed[:, region.voxels] = samples.train[:, region.voxels].mean(axis=0)
        found = np.stack([solo, intact - without, intact - _shares(samples, full.predict(zeroed))], axis=1)
        size = len(region.voxels)
        yield Effect(region, NAMES, size, found, found.mean(axis=0), np.empty((0, 3)), used=1)


def _fitted(cfg: ridge.RidgeConfig, samples: Samples, voxels: NDArray[np.intp], seed: int) -> ridge.Fitted:
    return ridge.fit(cfg, samples.train[:, voxels], samples.target, samples.groups, seed)


def _shares(samples: Samples, predicted: NDArray[np.float32]) -> NDArray[np.float64]:
    """Values (image,) whose mean is R2 over all columns, 1 - sum of errors / sum about the training mean."""
    errors = np.square(samples.true - predicted, dtype=np.float64).sum(axis=1)
    about_mean = np.square(samples.true - samples.target.mean(axis=0), dtype=np.float64).sum(axis=1)
    return 1 - errors / about_mean.mean()
