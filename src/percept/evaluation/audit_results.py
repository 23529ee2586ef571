"""Audit of results: floors at chance, nothing above its limit, directions labelled right.

Pure functions over the published rows and the predictions behind them; `audit.audit` runs them.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation import retrieval
from percept.evaluation.audit_data import Finding, some
from percept.evaluation.decoder import Candidates, Predictions
from percept.evaluation.measure import choose_items
from percept.evaluation.retrieval import Scorer
from percept.statistics import standard_error

RANKS = ("median_rank", "mean_rank")  # lower is better, and no share of anything
EQUAL = 1e-4  # of a published score: its recount uses the same scores, in another order
TAIL = 1.5  # sd of two-way per item over its distance from 1; 1 where ranks fall off exponentially
ABOVE = 3.0  # standard errors by which a result may exceed its limit
FALSE_ALARM = 1e-3  # probability that the shuffled pairings of a sound run are called off chance


def shuffled_at_chance(rows: pd.DataFrame, permutations: int) -> Finding:
    """The mean over shuffled pairings is at chance; for bits, a lower bound, at most chance.

    It is an expectation, not a mean over draws, so a sound run is off by rounding and ties alone; allowed is
    what `permutations` draws would scatter.

    Median ranks are left out: their mean over shuffles is chance only where ranks are spread evenly.
    """
    name = "shuffled-at-chance"
    null = rows[(rows["control"] == "shuffled") & rows["chance"].notna() & (rows["metric"] != "median_rank")]
    if null.empty:
        return Finding(name, True, "no shuffled pairing was scored", warning=True)
    error = standard_error(null["ci_low"], null["ci_high"]) / np.sqrt(permutations)
    distance = null["value"] - null["chance"]
    distance = distance.where((null["metric"] != "bits") | (distance > 0), 0.0)
    allowed = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * len(null)))  # in standard errors (Bonferroni)
    off = null[np.abs(distance) > allowed * error + 1e-9]
    if len(off):
        detail = f"shuffled pairing is off chance: {some(map(_quantity, off.to_dict('records')))}"
        return Finding(name, False, f"{detail}; a leak that does not need the pairing, or wrong chance")
    return Finding(name, True, f"{len(null)} quantities at chance when brains and images are shuffled")


def below_limit(rows: pd.DataFrame) -> Finding:
    """No result exceeds the Bayes limit by more than three standard errors.

    The error is that of the item bootstrap, or of scores at the limit where that is larger, because a perfect
    score has no bootstrap error: of a proportion for top-k, of ranks that fall off exponentially, with some
    room, for two-way. Above the finite-data reference is a warning: that is the best for what its
    learner assumes, not for everything that could be assumed.
    """
    name = "below-limit"
    own = rows[rows["control"].isna() & ~rows["metric"].isin(RANKS)]
    above, ahead = _exceeding(own, "limit_oracle"), _exceeding(own, "limit_finite")
    if above:
        detail = f"better than the best possible decoder, so it sees what it should not: {some(above)}"
        return Finding(name, False, detail)
    if ahead:
        return Finding(name, True, f"above the finite-data reference: {some(ahead)}", warning=True)
    n_checked = int(own["limit_oracle"].notna().sum())
    return Finding(name, True, f"{n_checked} results compared" if n_checked else "no limit is known")


def _exceeding(rows: pd.DataFrame, limit: str) -> list[str]:
    known = rows[rows[limit].notna()]
    bounded = known[limit].clip(0, 1)
    spread = np.sqrt(bounded * (1 - bounded)).where(known["metric"] != "two_way", TAIL * (1 - bounded))
    floor = spread.where(known["metric"] != "bits", 0.0) / np.sqrt(known["n"].astype(float))
    error = np.maximum(standard_error(known["ci_low"], known["ci_high"]), floor)
    over = known[known["value"] - known[limit] > ABOVE * error + 1e-9]
    return [f"{_quantity(row)} > {limit} {row[limit]:.3f}" for row in over.to_dict("records")]


def _quantity(row: dict[str, object]) -> str:
    where = " ".join(
        str(row[key]) for key in ("metric", "direction", "pool", "unit") if not pd.isna(row[key])
    )
    return f"{where} {row['value']:.3f}"


def direction_labels(
    rows: pd.DataFrame, predictions: Predictions, candidates: Candidates, scorer: Scorer
) -> Finding:
    """The published numbers of both directions are those of their direction, recounted from the predictions.

    Recounts two-way and top-1 of the whole pool without the code that published them.

    Parameters
    ----------
    rows : published rows of these predictions and this scorer: one seed, one unit, one rule per direction

    Raises
    ------
    ValueError : several rows publish the same quantity
    """
    name = "direction-labels"
    recounted = {
        "image_from_brain": _recount_images(predictions, candidates, scorer),
        "brain_from_image": _recount_brains(predictions, candidates, scorer),
    }
    wrong = []
    for direction, values in recounted.items():
        for metric, (value, pool) in (values or {}).items():
            published = _published(rows, metric, direction, pool)
            if published is None or abs(published - value) <= EQUAL:
                continue
            other = (recounted[_opposite(direction)] or {}).get(metric, (np.nan, 0))[0]
            swapped = " (the value of the other direction)" if abs(published - other) <= EQUAL else ""
            wrong.append(
                f"{metric} {direction} is published as {published:.4f}{swapped}, counted {value:.4f}"
            )
    if wrong:
        return Finding(name, False, f"labels do not fit the predictions: {some(wrong)}")
    return Finding(name, True, "recounted from the predictions")


def _opposite(direction: str) -> str:
    return {"image_from_brain": "brain_from_image", "brain_from_image": "image_from_brain"}[direction]


def _published(rows: pd.DataFrame, metric: str, direction: str, pool: int) -> float | None:
    here = (rows["metric"] == metric) & (rows["direction"] == direction) & (rows["pool"] == pool)
    found = rows.loc[here.fillna(False) & rows["control"].isna(), "value"]
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} rows publish {metric} {direction} in a pool of {pool}, and these predictions can "
            "only stand behind one: audit the rows of one seed, one unit and, per direction, one scoring rule"
        )
    return float(found.iloc[0]) if len(found) else None


def _recount_images(
    predictions: Predictions, candidates: Candidates, scorer: Scorer
) -> dict[str, tuple[float, int]]:
    features = candidates.features.reshape(len(candidates.stimulus), -1)
    scores = np.asarray(scorer.image_from_brain(predictions.predicted, features))  # (brain, image)
    right = np.asarray(predictions.stimulus)[:, None] == np.asarray(candidates.stimulus)[None, :]
    items = choose_items(predictions.stimulus, predictions.run).mean
    twins = _equal_rows(features)
    return {k: (float(items(v).mean()), scores.shape[1]) for k, v in _recount(scores, right, twins).items()}


def _recount_brains(
    predictions: Predictions, candidates: Candidates, scorer: Scorer
) -> dict[str, tuple[float, int]] | None:
    right = np.asarray(candidates.stimulus)[:, None] == np.asarray(predictions.stimulus)[None, :]
    if not (np.all(right.sum(axis=0) == 1) and np.all(right.sum(axis=1) == 1)):
        return None
    features = candidates.features.reshape(len(candidates.stimulus), -1)
    scores = np.asarray(scorer.brain_from_image(predictions.predicted, features))  # (image, brain)
    twins = _equal_rows(features[np.argmax(right, axis=0)])
    return {k: (float(v.mean()), scores.shape[1]) for k, v in _recount(scores, right, twins).items()}


def _equal_rows(features: NDArray) -> NDArray:
    """(image, image), True for images of equal targets, without comparing all of them in full."""
    _, group = np.unique([hash(row.tobytes()) for row in features], return_inverse=True)
    return group[:, None] == group[None, :]


def _recount(scores: NDArray, right: NDArray, twins: NDArray) -> dict[str, NDArray]:
    """Per row, the share of wrong columns that lose, and the chance to be first, ties at random."""
    own = scores[right][:, None]
    alike = twins[np.argmax(right, axis=1)]
    wins = np.where(alike | (scores == own), 0.5, scores < own)
    wins[right] = 0
    loses = np.sum((scores > own) & ~alike, axis=1)
    tied = np.sum(alike | (scores == own), axis=1)
    return {"two_way": wins.sum(axis=1) / (scores.shape[1] - 1), "top1": (loses == 0) / tied}


def directions_differ() -> Finding:
    """The two directions on a hand-counted asymmetric case: all brains prefer image 1."""
    table = np.array([[5.0, 6.0, 0.0], [1.0, 7.0, 2.0], [4.0, 8.0, 3.0]])  # (brain, image)
    expected = {"image_from_brain": (1 / 3, 1 / 2), "brain_from_image": (2 / 3, 5 / 6)}
    images = np.arange(3)
    arrays = (_Table(table), table, images, np.eye(3), images)
    wrong = []
    for ask in (retrieval.image_from_brain, retrieval.brain_from_image):
        question = ask(*arrays)
        ranks = retrieval.rank(question.scores, question.truth, question.identical)
        counted = (retrieval.top_k(ranks, 3, 1).mean(), retrieval.two_way(ranks).mean())
        if not np.allclose(counted, expected[question.direction]):
            wrong.append(f"{question.direction}: {counted} instead of {expected[question.direction]}")
    detail = "; ".join(wrong) or "1/3 and 2/3 on the asymmetric case, as counted by hand"
    return Finding("directions-differ", not wrong, detail)


class _Table(NamedTuple):
    """A scoring rule that looks its scores up."""

    scores: NDArray  # (brain, image)

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        return self.scores

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        return self.scores.T
