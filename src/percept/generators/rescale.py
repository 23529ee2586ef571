r"""Give predictions back the spread that regression took from them.

Ridge shrinks its predictions towards the mean, and images made from shrunken latents are grey and vague.
Brain-Diffuser (Ozcelik & VanRullen 2023, code) therefore z-scores the predictions of each dimension and gives
them mean and sd of the training targets,

    y' = (y - mean(p)) / sd(p) * sd(t) + mean(t),      t: training targets,

where p are the predictions of the whole test set: `transductive`, since one test image then depends on the
others. Here p are by default the cross-validated predictions of the training images, `cross_validated`, which
are shrunken just as those of new images are, and which no test image enters.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.decoders.predictions import Predictions
from percept.files import PerceptError, open_hdf5
from percept.targets.store import Features

How = Literal["cross_validated", "transductive"]
BLOCK = 1 << 26  # bytes of one block of rows in float64: 64 MiB, whatever the number of dimensions
CONSTANT = 1e-6  # sd of float32 values below this share of their mean is rounding


class Spread(NamedTuple):
    """Mean and sd (ddof 0) of each dimension, (dim,) float64."""

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]


def spread(pieces: Iterable[NDArray]) -> Spread:
    """Mean and sd over the rows of all pieces, (row, dim) each, which are read once and in their order.

    Dimensions whose values differ by rounding alone have sd 0. Means and squared deviations of the pieces
    are joined as by Chan et al. (1983), which does not cancel where the mean is far from 0.
    """
    n_rows, mean, squares = 0, np.zeros(1), np.zeros(1)
    for piece in pieces:
        values = np.array(piece, dtype=np.float64)
        own, n_own = values.mean(axis=0), len(values)
        values -= own
        shift, share = own - mean, n_own / (n_rows + n_own)
        squares = squares + np.einsum("nd,nd->d", values, values) + shift**2 * n_rows * share
        n_rows, mean = n_rows + n_own, mean + shift * share
    sd = np.sqrt(squares / n_rows)
    return Spread(mean, np.where(sd > CONSTANT * np.abs(mean), sd, 0.0))


def rescale(predicted: NDArray, before: Spread, after: Spread) -> NDArray[np.float32]:
    """Predictions (row, dim) with the mean and sd `before` brought to mean and sd `after`.

    A dimension in which the decoder always says the same (sd 0) carries nothing that could be stretched: it
    becomes the mean of `after`.
    """
    varies = before.sd > 0
    z = (predicted - before.mean) / np.where(varies, before.sd, 1.0)
    return np.where(varies, z * after.sd + after.mean, after.mean).astype(np.float32)


def apply(path: Path, test: Predictions, features: Features, how: How | None) -> NDArray[np.float32]:
    """Predictions of test images, rescaled: (row, dim); training rows are read once, a block at a time.

    Parameters
    ----------
    path : predictions.h5 of the decoder, whose group `train` holds its cross-validated predictions
    test : its predictions of the test images; where runs are left out, each fold is rescaled by itself
    features : the true targets
    how : None returns the predictions as they are

    Raises
    ------
    PerceptError : the decoder kept no predictions of its training images
    """
    if how is None:
        return test.predicted
    out = np.empty_like(test.predicted)
    with open_hdf5(path) as file:
        if "train/predicted" not in file:
            raise PerceptError(
                f"{path} has no predictions of training images, which rescaling measures spread and mean on: "
                "remove the role from `rescale` of this reconstruction, or name a decoder that "
                "cross-validates, such as ridge."
            )
        train = file["train"]
        stimulus, fold = train["stimulus"][:], train["fold"][:]
        for number in np.unique(test.fold):
            tested = np.flatnonzero(test.fold == number)
            after = spread(_targets(features, stimulus[fold == number]))
            if how == "cross_validated":
                before = spread(_rows(train["predicted"], fold == number))
            else:
                before = spread(test.predicted[tested[part]] for part in blocks(len(tested), out.shape[1]))
            for part in blocks(len(tested), out.shape[1]):
                out[tested[part]] = rescale(test.predicted[tested[part]], before, after)
    return out


def _rows(predicted: h5py.Dataset, wanted: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    """The wanted rows of a dataset. Whole rows: of narrow columns HDF5 would read many times the file."""
    for part in blocks(*predicted.shape):
        if wanted[part].any():
            yield predicted[part][wanted[part]]


def _targets(features: Features, stimulus: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
    """True targets of the stimuli, block by block."""
    return (features.read(stimulus[part]) for part in blocks(len(stimulus), features.n_dims))


def blocks(n_rows: int, n_dims: int) -> Iterator[slice]:
    """Ranges of rows of which `n_dims` values of float64 fill at most `BLOCK` bytes (at least one row)."""
    step = max(BLOCK // (8 * max(n_dims, 1)), 1)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))
