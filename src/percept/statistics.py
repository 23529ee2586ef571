"""Exact expectations, bootstrap intervals, paired comparisons and permutation nulls; numpy only.

Every interval resamples *items*, the units to which a result is meant to generalise (test images, or blocks
of a run where the categories are a closed set). Random pools of distractors are never drawn: their
expectation has a closed form, and their scatter says nothing about a new set of images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Literal["mean", "median"]
BLOCK = 1 << 24  # numbers held at once while resampling: 128 MB


class Interval(NamedTuple):
    """An estimate with its bootstrap interval and the number of items behind it."""

    value: float
    low: float
    high: float
    n: int


class Comparison(NamedTuple):
    """Mean paired difference of two methods on the same items, with interval and two-sided p."""

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def expected_topk(better: ArrayLike, ties: ArrayLike, n_items: int, pool: int, k: int) -> NDArray:
    """Probability, shaped like `better`, in [0, 1], that the true item is among the best k of a random pool.

    Exact over all pools that hold the true item and `pool - 1` of the other `n_items - 1`: the number of
    better ones drawn is hypergeometric. Tied items are ordered at random, and the result is the mean over
    these orders ("half" of a tie counts when two items compete), so that a decoder whose scores are all
    equal gets exactly chance, k / pool.

    Parameters
    ----------
    better : int, how many other items outscore the true one
    ties : int, how many other items score exactly the same
    n_items, pool : items in all, items per pool; both count the true one
    k : ranks that count as a success

    Raises
    ------
    ValueError : pool outside 1..n_items, k below 1, or counts that do not fit n_items
    """
    better, ties = np.asarray(better), np.asarray(ties)
    if not 1 <= pool <= n_items:
        raise ValueError(
            f"a retrieval pool of {pool} does not fit {n_items} candidates: set `evaluation.retrieval.pools` "
            f"to values from 1 to {n_items}"
        )
    if k < 1:
        raise ValueError(f"top-k needs k of at least 1, not {k}: k counts the ranks that are a success")
    if better.size and (np.min(better) < 0 or np.min(ties) < 0 or np.max(better + ties) > n_items - 1):
        raise ValueError(
            f"counts of better and tied candidates must lie between 0 and {n_items - 1} together, because "
            f"there are {n_items} candidates; count each candidate once and leave out the true one"
        )
    table = _topk_by_rank(n_items, pool, k)  # (b,), success with b better ones and no tie
    at_least = np.append(np.cumsum(table[::-1])[::-1], 0.0)  # summed from the small end: no cancellation
    tied = (at_least[better] - at_least[better + ties + 1]) / (ties + 1)
    return np.where(ties == 0, table[better], np.clip(tied, 0, 1))


def _topk_by_rank(n_items: int, pool: int, k: int) -> NDArray:
    """P(fewer than k better ones in the pool), (n_items,), for 0..n_items-1 better ones in all."""
    better = np.arange(n_items)
    log_choose = _log_choose(n_items)
    pools = log_choose(np.array(n_items - 1), pool - 1)
    drawn = np.arange(min(k, pool))  # better ones in the pool, few enough to succeed
    ways = [log_choose(better, j) + log_choose(n_items - 1 - better, pool - 1 - j) - pools for j in drawn]
    success = np.exp(ways).sum(axis=0)
    return np.where(better < k, 1.0, np.minimum(success, 1.0))


def _log_choose(largest: int) -> Callable[[NDArray, int], NDArray]:
    """Logarithm of the binomial coefficient (n over k), for n up to `largest`, from one table."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, largest + 1)))])

    def log_choose(n: NDArray, k: int) -> NDArray:
        possible = n >= k
        rest = np.where(possible, n - k, 0)
        return np.where(possible, log_factorial[n] - log_factorial[k] - log_factorial[rest], -np.inf)

    return log_choose


def resamples(n_items: int, n_resamples: int, rng: np.random.Generator) -> Iterator[NDArray]:
    """Bootstrap draws as counts per item, in blocks (resample, item) that sum to n_items along a row."""
    step = max(1, BLOCK // max(n_items, 1))
    for start in range(0, n_resamples, step):
        block = min(step, n_resamples - start)
        yield rng.multinomial(n_items, np.full(n_items, 1 / n_items), size=block).astype(np.float64)


def bootstrap(
    values: ArrayLike, n_resamples: int, rng: np.random.Generator, statistic: Statistic = "mean"
) -> NDArray:
    """Bootstrap distribution, (resample,) or (resample, column), of a statistic over items.

    Parameters
    ----------
    values : (item,) or (item, column); all columns share each resample, so that they stay paired
    """
    values = np.asarray(values, dtype=np.float64)
    _demand_items(values)
    return over_resamples(values, resamples(len(values), n_resamples, rng), statistic)


def over_resamples(values: ArrayLike, drawn: Iterable[NDArray], statistic: Statistic = "mean") -> NDArray:
    """`bootstrap` with the counts of `resamples` given, which several tables of as many items can share."""
    values = np.asarray(values, dtype=np.float64)
    over_items = {"mean": _weighted_mean, "median": _weighted_median}[statistic]
    return np.concatenate([over_items(values, weights) for weights in drawn])


def _weighted_mean(values: NDArray, weights: NDArray) -> NDArray:
    return weights @ values / len(values)


def _weighted_median(values: NDArray, weights: NDArray) -> NDArray:
    if values.ndim == 2:
        return np.stack([_weighted_median(column, weights) for column in values.T], axis=1)
    order = np.argsort(values)
    reached = np.cumsum(weights[:, order], axis=1)  # (resample, item)
    lower = values[order][np.argmax(reached >= len(values) / 2, axis=1)]
    upper = values[order][np.argmax(reached > len(values) / 2, axis=1)]
    return (lower + upper) / 2


def _demand_items(values: NDArray) -> None:
    if len(values) == 0:
        raise ValueError("there is no item to resample: the test set of this subject and unit is empty")


def percentile_interval(draws: ArrayLike, confidence: float) -> tuple[float, float]:
    """Central interval of bootstrap or null draws."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_interval(
    values: ArrayLike,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
    statistic: Statistic = "mean",
    drawn: Iterable[NDArray] | None = None,
) -> Interval:
    """Percentile interval of the mean or median over items, (item,).

    Parameters
    ----------
    drawn : counts of `resamples` instead of new ones

    Raises
    ------
    ValueError : there is no item
    """
    values = np.asarray(values, dtype=np.float64)
    _demand_items(values)
    if drawn is None:
        drawn = resamples(len(values), n_resamples, rng or np.random.default_rng(0))
    draws = over_resamples(values, drawn, statistic)
    estimate = {"mean": np.mean, "median": np.median}[statistic](values)
    return Interval(float(estimate), *percentile_interval(draws, confidence), len(values))


def paired_comparison(
    first: ArrayLike,
    second: ArrayLike,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
) -> Comparison:
    """Mean of first - second over the same items, (item,), with interval and two-sided p.

    The p value is the share of resamples whose mean difference, centred as if there were none, is at least
    as large as the observed one, with the observed one counted among them. Pairing removes what the items
    have in common: two methods with overlapping intervals can differ clearly.

    Raises
    ------
    ValueError : the two differ in shape, or there is no item
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"a paired comparison needs the same items for both methods, but one has {first.shape} values "
            f"and the other {second.shape}: compare only what was scored on the same test images"
        )
    (found,) = compare_gains(first[:, None] - second[:, None], n_resamples, confidence, rng)
    return found


def compare_gains(
    gains: NDArray, n_resamples: int = 1000, confidence: float = 0.95, rng: np.random.Generator | None = None
) -> list[Comparison]:
    """What `paired_comparison` says of several pairs of methods, whose differences are (item, pair).

    All pairs share each resample, which is drawn once.
    """
    draws = bootstrap(gains, n_resamples, rng or np.random.default_rng(0))  # (resample, pair)
    found = []
    for gain, own in zip(gains.T, draws.T, strict=True):
        observed = float(gain.mean())
        slack = 1e-12 * max(1.0, float(np.abs(gain).max()))  # sums in another order differ in the last digit
        p_value = permutation_p(abs(observed) - slack, np.abs(own - observed))
        found.append(Comparison(observed, *percentile_interval(own, confidence), p_value, len(gain)))
    return found


def permutation_p(observed: float, null: ArrayLike) -> float:
    """One-sided p value, (1 + #{null >= observed}) / (B + 1): never 0, exact for exchangeable draws."""
    null = np.asarray(null)
    return float((1 + np.count_nonzero(null >= observed)) / (null.size + 1))


def pairing_null(
    value: NDArray, truth: NDArray, shuffles: Sequence[NDArray] | NDArray, statistic: Statistic = "mean"
) -> NDArray:
    """Statistic over items, (permutation,), when the items swap their true candidates.

    Parameters
    ----------
    value : (item, candidate), the per-item value if that candidate were the true one
    truth : (item,), the true candidate
    shuffles : (permutation, item), rearrangements of 0..n_items-1, see `shuffled_items`
    """
    items, shuffles = np.arange(len(truth)), np.asarray(shuffles)
    over_items = {"mean": np.mean, "median": np.median}[statistic]
    step = max(1, BLOCK // max(len(truth), 1))
    blocks = (shuffles[start : start + step] for start in range(0, len(shuffles), step))
    return np.concatenate([over_items(value[items, truth[block]], axis=1) for block in blocks])


def pairing_mean(value: NDArray, truth: NDArray, strata: NDArray | None = None) -> float:
    """Expectation of `pairing_null` of means, over all rearrangements: nothing is drawn.

    Parameters
    ----------
    value, truth : as of `pairing_null`
    strata : (item,), items swap candidates with those of the same stratum alone, see `shuffled_items`
    """
    of_partner = value[:, truth]  # (item, partner)
    if strata is None:
        return float(of_partner.mean())
    strata = np.unique(strata, return_inverse=True)[1]
    together = strata[:, None] == strata
    return float((of_partner * together / together.sum(axis=1)).sum() / len(truth))


def shuffled_items(
    n_items: int, n_permutations: int, rng: np.random.Generator, strata: NDArray | None = None
) -> NDArray:
    """Random rearrangements, (permutation, item), of the items within each stratum (item,), or of all."""
    strata = np.zeros(n_items, dtype=int) if strata is None else np.unique(strata, return_inverse=True)[1]
    home = np.argsort(strata, kind="stable")
    out = np.empty((n_permutations, n_items), dtype=np.int64)
    for shuffle in out:
        mixed = rng.permutation(n_items)
        shuffle[home] = mixed[np.argsort(strata[mixed], kind="stable")]
    return out


def hierarchical_bootstrap(
    values: Sequence[ArrayLike],
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    crossed: bool = False,
) -> Interval:
    """Mean over subjects of the mean over items; subjects are resampled first, then the items of each.

    With the four or eight subjects of NSD the interval is rough and tends to be too narrow: show every
    subject beside it. With one subject it is that subject's item bootstrap.

    Parameters
    ----------
    values : one (item,) array per subject; lengths may differ unless `crossed`
    crossed : whether all subjects saw the same items in the same order; then one draw of items serves all
        subjects, so that an item that is hard for everyone counts once
    seed : of the draws, which tables of one shape and seed share

    Raises
    ------
    ValueError : no subject, an empty subject, or crossed subjects of different length
    """
    values = [np.asarray(v, dtype=np.float64) for v in values]
    if not values or any(len(v) == 0 for v in values):
        raise ValueError("a mean over subjects needs at least one subject, and at least one item in each")
    if crossed and len({len(v) for v in values}) > 1:
        raise ValueError("subjects with different numbers of items cannot share one draw of items")
    n_subjects = len(values)
    if crossed:
        chosen, drawn = _crossed_draws(n_subjects, len(values[0]), n_resamples, seed)
        means = over_resamples(np.stack(values, axis=1), drawn)
        means = np.broadcast_to(means[:, :, None], (*means.shape, n_subjects))
    else:
        rng = np.random.default_rng(seed)
        chosen = _slots(n_subjects, n_resamples, rng)
        means = _nested_means(values, n_resamples, rng)
    resample, slot = np.ogrid[:n_resamples, :n_subjects]
    draws = means[resample, chosen, slot].mean(axis=1)
    estimate = float(np.mean([v.mean() for v in values]))
    return Interval(estimate, *percentile_interval(draws, confidence), n_subjects)


def _slots(n_subjects: int, n_resamples: int, rng: np.random.Generator) -> NDArray:
    """Which subject stands in each slot of a resample (resample, slot)."""
    return rng.integers(n_subjects, size=(n_resamples, n_subjects))


@lru_cache(maxsize=2)
def _crossed_draws(
    n_subjects: int, n_items: int, n_resamples: int, seed: int
) -> tuple[NDArray, list[NDArray]]:
    """Subjects of each slot, and counts of items that every subject and slot share."""
    rng = np.random.default_rng(seed)
    return _slots(n_subjects, n_resamples, rng), list(resamples(n_items, n_resamples, rng))


def _nested_means(values: list[NDArray], n_resamples: int, rng: np.random.Generator) -> NDArray:
    """Means (resample, subject, slot): a subject drawn twice has its items drawn twice."""
    shape = (n_resamples, len(values))
    per_subject = [bootstrap(v, n_resamples * len(values), rng).reshape(shape) for v in values]
    return np.stack(per_subject, axis=1)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray:
    """Adjusted p values, (test,): the smallest false discovery rate at which each test is a discovery.

    Missing p values (nan) stay missing and do not count as tests.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p_values.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known])]
    scaled = p_values[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def standard_error(low: ArrayLike, high: ArrayLike, confidence: float = 0.95) -> NDArray:
    """Standard error that a normal interval of this width and coverage would have."""
    return (np.asarray(high) - np.asarray(low)) / (2 * normal_quantile((1 + confidence) / 2))


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(probability)
