"""Views of the responses to an image: repeats, missing voxels, missing regions, added noise.

Views should share what was seen and not the noise of a scan. In order of quality: different repeats; random
voxels left out; whole regions left out; noise added, as repeats differ by it. Voxels are never moved or
mirrored: their places are their meaning. A voxel that is left out is 0, its mean.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """How responses to the same image differ: covariance patterns' patterns + diag(own^2), of one response.

    patterns : (pattern, voxel), each as long as its standard deviation
    own : (voxel,), standard deviation that the patterns leave
    """

    patterns: NDArray[np.float32]
    own: NDArray[np.float32]


def estimate_noise(X: NDArray[np.float32], stimulus: NDArray, rank: int) -> Noise:
    """Noise of a single response, from the residuals of repeats about the mean of their image.

    Residuals of n repeats have n - 1 degrees of freedom, so each is scaled by sqrt(n / (n - 1)). Images that
    were shown once say nothing; without any repeat there is no noise to add, and all is 0.

    Parameters
    ----------
    X : (row, voxel); stimulus : (row,), the image of each
    rank : patterns at most; fewer where the residuals have fewer dimensions
    """
    _, code, count = np.unique(stimulus, return_inverse=True, return_counts=True)
    mean = np.zeros((len(count), X.shape[1]), np.float64)
    np.add.at(mean, code, X)
    mean /= count[:, None]
    again = count[code] > 1
    if not again.any():
        return Noise(np.zeros((1, X.shape[1]), np.float32), np.zeros(X.shape[1], np.float32))
    n = count[code[again]]
    residuals = (X[again] - mean[code[again]]) * np.sqrt(n / (n - 1))[:, None]
    return _factored(residuals, rank)


def _factored(residuals: NDArray[np.float64], rank: int) -> Noise:
    """The leading patterns, from the smaller of the two Gram matrices, and each voxel's remainder."""
    n_rows, n_voxels = residuals.shape
    wide = n_rows <= n_voxels
    values, vectors = np.linalg.eigh(residuals @ residuals.T if wide else residuals.T @ residuals)
    first = np.argsort(values)[::-1][: min(rank, n_rows, n_voxels)]
    scale = np.sqrt(np.clip(values[first], 0, None))
    kept = vectors[:, first].T
    if wide:
        kept = kept @ residuals / np.where(scale > 0, scale, 1)[:, None]
    patterns = scale[:, None] / np.sqrt(n_rows) * kept
    own = np.square(residuals).mean(axis=0) - np.square(patterns).sum(axis=0)
    return Noise(patterns.astype(np.float32), np.sqrt(np.clip(own, 0, None)).astype(np.float32))


def two_repeats(n_trials: Tensor, numbers: Tensor) -> Tensor:
    """Two different repeats of each image, (row, 2) int64; the same twice where there is only one.

    Every pair is equally likely.

    Parameters
    ----------
    n_trials : (row,), 1 or more
    numbers : (row, 2), uniform in [0, 1)
    """
    first = (numbers[:, 0] * n_trials).long()
    step = 1 + (numbers[:, 1] * (n_trials - 1)).long()  # 1 to n - 1
    return torch.stack([first, (first + step) % n_trials], dim=1)


def shares(n_rows: int, ranges: list[tuple[float, float]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Share of the voxels that each view lacks, (row, view), uniform in the range of the view."""
    low, high = np.array(ranges, dtype=float).reshape(-1, 2).T
    return low + (high - low) * rng.random((n_rows, len(low)))


def lacking(
    n_rows: int, views: NDArray[np.bool_], n_regions: int, probability: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which regions each view lacks, (row, view, region); never all of them.

    Parameters
    ----------
    views : (view,), whether a view may lack any
    """
    missing = rng.random((n_rows, len(views), n_regions)) < probability
    kept = rng.integers(max(1, n_regions), size=(n_rows, len(views)))  # in any case
    missing &= np.arange(n_regions) != kept[..., None]
    return missing & views[:, None]


def within(missing: Tensor, members: Tensor) -> Tensor:
    """Voxels (..., voxel) bool of missing regions: each that carries the label of one, whatever others.

    Parameters
    ----------
    missing : (..., region) bool; members : (region, voxel) bool
    """
    return (missing.to(members.device).float() @ members.float()) > 0


def thinned(responses: Tensor, share: Tensor, missing: Tensor | None = None) -> Tensor:
    """Responses without random voxels, the others scaled so that sums keep their mean; then without regions.

    What is left out is drawn from torch's own generator.

    Parameters
    ----------
    responses : (row, voxel); share : (row,), of the voxels to leave out, below 1
    missing : (row, voxel) bool, voxels of regions to leave out
    """
    kept = torch.rand_like(responses) >= share[:, None]
    seen = responses * kept / (1 - share[:, None])
    return seen if missing is None else seen.masked_fill(missing, 0)


def noisy(responses: Tensor, patterns: Tensor, own: Tensor, scale: float) -> Tensor:
    """Responses (row, voxel) plus noise as of `Noise`, times `scale`, from torch's generator."""
    common = torch.randn(len(responses), len(patterns), device=responses.device) @ patterns
    return responses + scale * (common + torch.randn_like(responses) * own)
