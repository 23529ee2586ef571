"""How reliable each voxel is: NSD's noise ceiling, from the spread of responses to repeated images.

Model (Allen et al. 2022, Methods; NSD data manual "noise ceiling"): the response of a voxel, z-scored within
each session, is signal + noise with variances that add up to 1. The noise variance is what varies between the
repeats of an image; the signal variance is the rest.
"""

import logging
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from percept.files import PerceptError

log = logging.getLogger(__name__)
MEMORY = 128 * 2**20  # bytes of working space
CONSTANT = 1e-12  # variance of a z-score below which a voxel only varies by rounding
TooFew = Literal["error", "nan", "pooled"]


class Repeats(NamedTuple):
    """Trials that repeat an image, sorted by image.

    Attributes
    ----------
    rows : (row,) int, indices of trials
    starts : (image,) int, where each image begins in `rows`
    counts : (image,) int, its number of repeats, at least 2
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]


def repeats(stimulus: ArrayLike, n_repeats: int = 3, too_few: TooFew = "error", least: int = 2) -> Repeats:
    """Trials whose images have the full number of repeats; no row at all where these are too few.

    Parameters
    ----------
    stimulus : (trial,) int
    n_repeats : the full number, at least 2; images shown more often count too
    too_few : where fewer than `least` images have it: "error"; "nan", no rows, so that every voxel's value is
        NaN; "pooled", all images with at least two repeats, each weighted by its degrees of freedom
    least : images needed

    Raises
    ------
    PerceptError : too few images are repeated and `too_few` is "error"
    """
    if n_repeats < 2:
        raise ValueError(f"noise is seen only between repeats: n_repeats must be at least 2, not {n_repeats}")
    _, image, n_shown = np.unique(np.asarray(stimulus), return_inverse=True, return_counts=True)
    full = n_shown >= n_repeats
    if full.sum() < least:
        if too_few == "error":
            raise PerceptError(_too_few(n_shown, n_repeats, least))
        full = n_shown >= 2 if too_few == "pooled" else np.zeros_like(full)
        log.warning(
            "%s Policy %r: %d images are used.", _too_few(n_shown, n_repeats, least), too_few, full.sum()
        )
    chosen = np.flatnonzero(full[image])
    rows = chosen[np.argsort(image[chosen], kind="stable")]
    counts = n_shown[full]
    return Repeats(rows, np.cumsum(counts) - counts, counts)


def _too_few(n_shown: NDArray[np.int64], n_repeats: int, least: int) -> str:
    times, images = np.unique(n_shown, return_counts=True)
    listed = [f"{many} images {n}x" for n, many in zip(times, images, strict=True)]
    return (
        f"the noise ceiling needs at least {least} images with {n_repeats} repeats; the trials in use show "
        f"{', '.join(listed) or 'no image'}: use more sessions, or set the policy for too few repeats to "
        "'pooled' (all images with two or more) or 'nan' (no noise ceiling)."
    )


def noise_variance(z: NDArray, repeated: Repeats) -> NDArray[np.float64]:
    """Variance of z between repeats of an image, (voxel,): unbiased within each image, mean over images.

    Images with unequal repeats are weighted by their degrees of freedom. An image with a NaN trial is left
    out for that voxel; NaN where none remains, and where nothing varies (a constant voxel has no noise to
    measure). Works through blocks of voxels in at most about `MEMORY` bytes.

    Parameters
    ----------
    z : (trial, voxel), z-scored within each session; an array, or anything that is sliced like one
    repeated : the trials that count (`repeats`)
    """
    n_voxels = z.shape[1]
    variance = np.full(n_voxels, np.nan)
    if repeated.rows.size == 0:
        return variance
    width = max(1, MEMORY // (32 * max(z.shape[0], 1)))
    for start in range(0, n_voxels, width):
        block = np.asarray(z[:, start : start + width])[repeated.rows].astype(np.float64)  # (row, voxel)
        variance[start : start + width] = _pooled_variance(block, repeated.starts, repeated.counts)
    return variance


def _pooled_variance(block: NDArray, starts: NDArray, counts: NDArray) -> NDArray[np.float64]:
    """Within-image sum of squares over its degrees of freedom, (voxel,)."""
    mean = np.add.reduceat(block, starts, axis=0) / counts[:, None]  # (image, voxel)
    block -= np.repeat(mean, counts, axis=0)
    squares = np.add.reduceat(block**2, starts, axis=0)
    freedom = np.isfinite(squares) * (counts[:, None] - 1)
    total = freedom.sum(axis=0)
    spread = np.nansum(np.where(np.isfinite(squares), squares, 0), axis=0)
    return np.divide(spread, total, out=np.full(total.shape, np.nan), where=spread > CONSTANT * total)


def ncsnr(
    z: NDArray, stimulus: ArrayLike, n_repeats: int = 3, too_few: TooFew = "error"
) -> NDArray[np.float32]:
    """Noise-ceiling signal-to-noise ratio of each voxel, (voxel,), as NSD releases it.

    ncsnr = sqrt(max(0, 1 - v)) / sqrt(v) with v the `noise_variance`: the standard deviation of the signal
    in units of that of single-trial noise. It is biased upwards near 0, because negative signal variances
    are cut.

    Parameters
    ----------
    z : (trial, voxel), z-scored within each session over all of its trials; NaN where a voxel is not valid
    stimulus : (trial,) int
    n_repeats : the full number of repeats of an image; only images that have it count
    too_few : what to do where hardly any image has it (`repeats`)

    Returns
    -------
    (voxel,) float32, at least 0; NaN, never 0, for voxels that are constant or nowhere valid (their number
    and the first of them are logged)

    Raises
    ------
    PerceptError : too few images are repeated and `too_few` is "error"
    ValueError : z and stimulus differ in their number of trials
    """
    stimulus = np.asarray(stimulus)
    if z.shape[0] != stimulus.size:
        raise ValueError(
            f"z has {z.shape[0]} trials, stimulus has {stimulus.size}: they must be the same trials"
        )
    repeated = repeats(stimulus, n_repeats, too_few)
    noise = noise_variance(z, repeated)
    undefined = np.flatnonzero(np.isnan(noise))
    if undefined.size and repeated.rows.size:
        first = ", ".join(map(str, undefined[:5]))
        log.warning(
            "%d voxels are constant or not valid: their ncsnr is NaN (first: %s)", undefined.size, first
        )
    return np.sqrt(np.maximum(0, 1 - noise) / noise).astype(np.float32)


def noise_ceiling(snr: ArrayLike, n_repeats: ArrayLike) -> NDArray[np.float64]:
    """Share of variance, in [0, 1], that a perfect model explains in averages over repeats: an R².

    NC = ncsnr² / (ncsnr² + mean over images of 1 / repeats). With A, B, C images of 3, 2, 1 repeats the mean
    is (A/3 + B/2 + C) / (A + B + C), NSD's formula for unequal repeats. NSD prints 100 times this.

    Parameters
    ----------
    snr : ncsnr of any shape, e.g. (voxel,); NaN stays NaN
    n_repeats : one number, or (image,) the trials averaged for each image, all at least 1

    Raises
    ------
    ValueError : no image, or an image without a trial
    """
    averaged = np.asarray(n_repeats, dtype=np.float64)
    if averaged.size == 0 or averaged.min() < 1:
        raise ValueError(f"every image needs at least one trial; n_repeats is {n_repeats!r}")
    signal = np.asarray(snr, dtype=np.float64) ** 2
    return signal / (signal + np.mean(1 / averaged))
