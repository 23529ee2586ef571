"""How well predicted features follow the true ones: profile, pattern, explained variance, noise ceiling.

Each measure is written as a mean over test rows of a value (row, candidate): the contribution of that row
if that candidate were the true one. The diagonal gives the estimate and, for the non-linear measures
through their influence function, its interval and its pairing between methods; the rest gives the null.
Features may be many (197,376 for CLIP tokens), so all sums run over blocks of them in float64.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 4096  # features at a time: 1,000 images in float64 are 32 MB


class Agreement(NamedTuple):
    """A measure as a mean over rows."""

    values: NDArray  # (row,), whose mean is the measure
    if_true: NDArray  # (row, candidate), whose mean over any pairing is the measure of that pairing


def profile_correlation(predicted: NDArray, candidates: NDArray, truth: NDArray) -> tuple[Agreement, NDArray]:
    """Pearson correlation of each feature over test rows, in mean over features; chance 0.

    Features that do not vary count as 0. Blind to shifts and to scale, hence to shrinkage.

    Parameters
    ----------
    predicted : (row, feature)
    candidates : (candidate, feature), true features
    truth : (row,), candidate that is true for each row

    Returns
    -------
    The agreement, whose values are the influence of each row, and the correlations (feature,).
    """
    n_rows, n_features = predicted.shape
    products = np.zeros((n_rows, len(candidates)))
    leverage = np.zeros(n_rows)
    correlation = np.zeros(n_features)
    for part in feature_blocks(n_features):
        p, (c, t) = zscore(predicted[:, part]), zscore_as(candidates[:, part], truth)
        r = np.mean(p * t, axis=0)
        products += p @ c.T
        leverage += ((p**2 + t**2) / 2 - 1) @ r  # how much a row inflates the two variances
        correlation[part] = r
    if_true = products / n_features
    values = if_true[np.arange(n_rows), truth] - leverage / n_features
    return Agreement(values, if_true), correlation


def pattern_correlation(
    predicted: NDArray, candidates: NDArray, truth: NDArray, train_mean: NDArray
) -> Agreement:
    """Pearson correlation over features of each row, after removing the training mean; chance near 0.

    Without the removal the mean image alone scores high (0.53 raw against 0.22 for ridge on NSD). With it,
    features must still be on comparable scales: a few with large variance dominate.
    """
    rows = standardised_rows(predicted, train_mean)
    others = standardised_rows(candidates, train_mean)
    if_true = np.zeros((len(predicted), len(candidates)))
    for part in feature_blocks(predicted.shape[1]):
        if_true += rows.block(part) @ others.block(part).T
    return Agreement(if_true[np.arange(len(truth)), truth], if_true)


def explained_variance(
    predicted: NDArray, candidates: NDArray, truth: NDArray, train_mean: NDArray
) -> Agreement:
    """R2 = 1 - SS_res / SS_tot, both summed over features and rows, with the training mean as reference.

    1 is perfect, 0 is predicting the training mean, and there is no lower bound: unlike a correlation it
    sees shifts and scale.
    """
    residual = np.zeros((len(predicted), len(candidates)))
    total = np.zeros(len(predicted))
    for part in feature_blocks(predicted.shape[1]):
        p = predicted[:, part].astype(np.float64) - train_mean[part]
        c = candidates[:, part].astype(np.float64) - train_mean[part]
        residual += (p**2).sum(1)[:, None] + (c**2).sum(1)[None, :] - 2 * p @ c.T
        total += (c**2).sum(1)[truth]
    own, scale = residual[np.arange(len(truth)), truth], total.mean() or np.inf
    estimate = 1 - own.mean() / scale
    values = estimate - (own - (1 - estimate) * total) / scale  # influence of a ratio of means
    return Agreement(values, 1 - residual / scale)


class StandardisedRows(NamedTuple):
    """Rows (row, feature) to be centred and divided by their norm, one block of features at a time."""

    rows: NDArray
    reference: NDArray  # (feature,), removed from each row
    mean: NDArray  # (row,), of what is left
    norm: NDArray  # (row,), of what is then left; infinite for a row that does not vary

    def block(self, part: slice) -> NDArray:
        """Centred features of unit norm, (row, feature in part), in float64."""
        centred = self.rows[:, part] - self.reference[part] - self.mean[:, None]
        return centred / self.norm[:, None]


def standardised_rows(rows: NDArray, reference: ArrayLike = 0.0) -> StandardisedRows:
    """Prepare rows so that products of their blocks sum to Pearson correlations; a constant row gives 0."""
    rows = rows.reshape(len(rows), -1)
    n_features = rows.shape[1]
    reference = np.broadcast_to(np.asarray(reference, np.float64), n_features)
    mean, square = np.zeros(len(rows)), np.zeros(len(rows))
    for part in feature_blocks(n_features):
        mean += (rows[:, part] - reference[part]).sum(axis=1) / n_features
    for part in feature_blocks(n_features):
        square += ((rows[:, part] - reference[part] - mean[:, None]) ** 2).sum(axis=1)
    magnitude = np.abs(mean) * np.sqrt(n_features) + np.sqrt(square)
    flat = np.sqrt(square) <= 1e-12 * magnitude  # rounding of the mean is not variation
    return StandardisedRows(rows, reference, mean, np.where(flat, np.inf, np.sqrt(square)))


def feature_blocks(n_features: int) -> Iterator[slice]:
    """Slices that cover the features in order."""
    return (slice(start, start + BLOCK) for start in range(0, n_features, BLOCK))


def zscore(values: NDArray) -> NDArray:
    """Columns of mean 0 and sd 1 (ddof 0) in float64; a column that does not vary becomes 0."""
    return zscore_as(values, np.arange(len(values)))[0]


def zscore_as(values: NDArray, rows: NDArray) -> tuple[NDArray, NDArray]:
    """All rows of `values`, and the chosen ones, z-scored by mean and sd of the chosen ones."""
    values = values.astype(np.float64)
    chosen = values[rows]
    mean, sd = chosen.mean(axis=0), chosen.std(axis=0)
    sd[sd <= 1e-12 * (np.abs(mean) + sd)] = np.inf
    scaled = (values - mean) / sd
    return scaled, scaled[rows]


def reliability(predicted: NDArray, stimulus: NDArray) -> tuple[NDArray, NDArray]:
    """Variance of each predicted feature over stimuli, and over repeats of one stimulus, (feature,) each.

    One-way analysis of variance on single trials; the variance over stimuli is what remains of the variance
    of the means after its share of the noise, at least 0.

    Parameters
    ----------
    predicted : (trial, feature), predictions of single trials
    stimulus : (trial,)

    Raises
    ------
    ValueError : no stimulus was repeated
    """
    _, group, counts = np.unique(stimulus, return_inverse=True, return_counts=True)
    n_spare = int(np.sum(counts - 1))
    if n_spare == 0:
        raise ValueError(
            "no test image was shown twice, so the reliability of the predictions is unknown and nothing can "
            "be normalised by a noise ceiling: leave `single` out of `split.test_units`"
        )
    means = np.zeros((len(counts), predicted.shape[1]))
    np.add.at(means, group, predicted)
    means /= counts[:, None]
    noise = ((predicted - means[group]) ** 2).sum(axis=0) / n_spare
    if len(counts) < 2:
        return np.zeros_like(noise), noise
    return np.maximum(means.var(axis=0, ddof=1) - noise * np.mean(1 / counts), 0), noise


def noise_ceiling(signal: NDArray, noise: NDArray, n_repeats: ArrayLike) -> NDArray:
    """Largest correlation, (feature,), that a mean of n repeats allows: sqrt(signal / (signal + noise / n)).

    With unequal repeats, (row,), the mean of 1 / n stands for 1 / n, as in NSD's noise ceiling.
    """
    total = signal + noise * np.mean(1 / np.asarray(n_repeats, dtype=np.float64))
    return np.sqrt(np.divide(signal, total, out=np.zeros_like(total), where=total > 0))
