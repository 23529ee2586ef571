"""Retrieval metrics on a score matrix: rows ask, columns are ranked, one column of each row is the truth.

The direction lies in the name alone. `image_from_brain`: each row is a brain, its columns are images.
`brain_from_image`: each row is an image, its columns are brains. Published tables have the two swapped
(Scotti et al. 2023, 2024: "image retrieval" ranks brains), so no function here transposes anything.

Candidates that score exactly alike are ordered at random, in expectation (`statistics.expected_topk`);
candidates that are identical to the true one are ties by definition, whatever their score.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from percept.statistics import expected_topk

STEEPEST = 64.0  # exponent of the rank code at which rank 2 costs 64 bits: certainty, for any real table


class Scorer(Protocol):
    """What a scoring rule offers; higher is better, rows always ask."""

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (brain, image)."""

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (image, brain)."""


class Ranks(NamedTuple):
    """How many of the other candidates outscore, or equal, the true one; arrays of equal shape."""

    better: NDArray
    ties: NDArray
    n_items: int  # candidates, the true one included


class Question(NamedTuple):
    """One retrieval question: who asks, what is ranked, and which column is the answer."""

    direction: str
    scores: NDArray  # (query, candidate)
    truth: NDArray  # (query,), column of the true candidate
    stimulus: NDArray  # (query,), image that the query shows or was evoked by
    identical: NDArray  # (candidate,), equal numbers for identical images


def image_from_brain(
    scorer: Scorer, predicted: NDArray, stimulus: NDArray, candidates: NDArray, shown: NDArray
) -> Question:
    """Each brain asks which image it saw.

    Parameters
    ----------
    predicted, stimulus : (brain, dim) and (brain,), predicted targets and the images that were seen
    candidates, shown : (image, dim) and (image,), true targets of the pool and their images

    Raises
    ------
    ValueError : a seen image is not in the pool, or stands in it twice
    """
    truth = positions(stimulus, shown)
    scores = np.asarray(scorer.image_from_brain(predicted, candidates))
    _demand_shape(scores, (len(predicted), len(candidates)), "image_from_brain", "(brain, image)")
    return Question("image_from_brain", scores, truth, np.asarray(stimulus), identical_rows(candidates))


def brain_from_image(
    scorer: Scorer, predicted: NDArray, stimulus: NDArray, candidates: NDArray, shown: NDArray
) -> Question | None:
    """Each image asks which brain saw it; None unless every image of the pool has exactly one brain.

    With several brains per image (single trials, or categories as images) there are several right answers,
    and no pool size means what it says.
    """
    if not np.array_equal(np.sort(stimulus), np.sort(shown)):
        return None
    truth = positions(shown, stimulus)
    scores = np.asarray(scorer.brain_from_image(predicted, candidates))
    _demand_shape(scores, (len(candidates), len(predicted)), "brain_from_image", "(image, brain)")
    images_of_brains = positions(stimulus, shown)
    identical = identical_rows(candidates)[images_of_brains]
    return Question("brain_from_image", scores, truth, np.asarray(shown), identical)


def _demand_shape(scores: NDArray, shape: tuple[int, int], direction: str, axes: str) -> None:
    if scores.shape != shape:
        raise ValueError(
            f"`{direction}` needs scores of axes {axes}, here {shape}, but the scoring rule returned "
            f"{scores.shape}: rows ask, columns are ranked"
        )


def positions(wanted: ArrayLike, available: ArrayLike) -> NDArray:
    """Index into `available`, (wanted,), of each wanted stimulus.

    Raises
    ------
    ValueError : a stimulus is missing from the pool, or stands in it twice
    """
    wanted, available = np.asarray(wanted), np.asarray(available)
    order = np.argsort(available, kind="stable")
    ascending = available[order]
    if np.any(ascending[1:] == ascending[:-1]):
        twice = np.unique(ascending[1:][ascending[1:] == ascending[:-1]])
        raise ValueError(f"stimuli {twice[:5].tolist()} stand in the pool more than once; give each one row")
    place = np.searchsorted(ascending, wanted)
    found = ascending[np.minimum(place, len(ascending) - 1)] == wanted if len(ascending) else place < 0
    if not np.all(found):
        missing = np.unique(wanted[~found])
        raise ValueError(
            f"{len(missing)} stimuli are not in the pool of candidates (the first: {missing[:5].tolist()}), "
            "so the right answer could never be given: score against the images of the same split"
        )
    return order[place]


def identical_rows(rows: NDArray) -> NDArray:
    """Numbers, (row,), that are equal for rows of equal bytes: duplicated images have equal targets."""
    rows = np.ascontiguousarray(rows).reshape(len(rows), -1)
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in rows], dtype=np.int64)


def rank(scores: NDArray, truth: NDArray, identical: NDArray | None = None) -> Ranks:
    """Ranks, (query,), of the true candidates.

    Parameters
    ----------
    scores : (query, candidate), higher is better
    truth : (query,), column of the true candidate
    identical : (candidate,), equal numbers for identical candidates; they count as ties

    Raises
    ------
    ValueError : a score is not a number
    """
    _demand_numbers(scores)
    own = scores[np.arange(len(truth)), truth][:, None]
    better, equal = scores > own, scores == own
    if identical is not None:
        same = identical[None, :] == identical[truth][:, None]
        better, equal = better & ~same, equal | same
    return Ranks(better.sum(axis=1), equal.sum(axis=1) - 1, scores.shape[1])


def rank_all(scores: NDArray) -> Ranks:
    """Ranks, (query, candidate), that each candidate would have if it were the true one."""
    _demand_numbers(scores)
    n_items = scores.shape[1]
    ascending = np.sort(scores, axis=1)
    below = np.stack([np.searchsorted(a, s, "left") for a, s in zip(ascending, scores, strict=True)])
    up_to = np.stack([np.searchsorted(a, s, "right") for a, s in zip(ascending, scores, strict=True)])
    return Ranks(n_items - up_to, up_to - below - 1, n_items)


def _demand_numbers(scores: NDArray) -> None:
    bad = int(np.isnan(scores).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(scores)} queries have scores that are not numbers, which no ranking can order: "
            "the predictions or the targets hold NaN; see the decoder's log and `voxels.invalid`"
        )


def split_pools(pools: Iterable[int], n_items: int) -> tuple[list[int], list[int]]:
    """Pool sizes that fit n_items candidates, with the whole pool, and those that do not; both ascending."""
    pools = sorted(set(pools))
    return sorted({*(p for p in pools if p <= n_items), n_items}), [p for p in pools if p > n_items]


def top_k(ranks: Ranks, pool: int, k: int) -> NDArray:
    """Probability of rank k or better in a random pool; chance is k / pool. See `expected_topk`."""
    return expected_topk(ranks.better, ranks.ties, ranks.n_items, pool, k)


def two_way(ranks: Ranks) -> NDArray:
    """Share of the other candidates that score lower, ties half; chance 0.5.

    Saturates near 4 bits of information: it cannot order good decoders, use the whole pool or bits.
    """
    return 1 - (ranks.better + ranks.ties / 2) / (ranks.n_items - 1)


def expected_rank(ranks: Ranks) -> NDArray:
    """Rank of the true candidate, 1 is best, in the middle of its ties; chance (n_items + 1) / 2."""
    return ranks.better + ranks.ties / 2 + 1


def posterior_bits(scores: NDArray) -> NDArray:
    """log2 of posterior over prior, (query, candidate), where scores are log likelihoods in nats.

    The mean over queries at the true candidates bounds the information from below (Barber and Agakov 2003).
    It is at most log2 n_items, 0 for knowing nothing, and negative where the likelihood is overconfident.
    """
    shifted = scores - scores.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.log2(scores.shape[1]) + (shifted - normaliser) / np.log(2)


def rank_bits(ranks: Ranks, exponent: float) -> NDArray:
    """log2 n_items minus the code length of the rank, shaped like `ranks`, under p(rank) ~ rank^-exponent.

    A brain and the rank of its image name the image, so information >= log2 n_items - H(rank), and the mean
    code length under any distribution is at least that entropy. A plug-in entropy of n ranks over n values
    would invent most of a bit from nothing; one exponent (`fit_rank_code`) cannot.
    """
    log_normaliser = np.log(np.sum(np.arange(1, ranks.n_items + 1) ** -exponent))
    return np.log2(ranks.n_items) - (exponent * _log_rank(ranks) + log_normaliser) / np.log(2)


def fit_rank_code(ranks: Ranks) -> float:
    """Exponent >= 0 of the power law under which these ranks, (query,), are most likely; 0 is uniform."""
    log_ranks = np.log(np.arange(1, ranks.n_items + 1))
    observed = _log_rank(ranks).mean()
    low, high = 0.0, STEEPEST
    for _ in range(60):  # the expected log rank falls with the exponent, so bisect
        middle = (low + high) / 2
        weights = np.exp(-middle * log_ranks)
        expected = weights @ log_ranks / weights.sum()
        low, high = (middle, high) if expected > observed else (low, middle)
    return low


def _log_rank(ranks: Ranks) -> NDArray:
    """Mean of log rank over the orders of the ties."""
    summed = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, ranks.n_items + 1)))])
    return (summed[ranks.better + ranks.ties + 1] - summed[ranks.better]) / (ranks.ties + 1)
