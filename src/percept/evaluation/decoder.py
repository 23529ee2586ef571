"""Rows of the long table for one decoder: retrieval in both directions, and agreement with the target."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.evaluation import controls, correlation, retrieval, table
from percept.evaluation.measure import Items, Measure, Scores, choose_items, images_as_items, summarise
from percept.evaluation.retrieval import Question, Scorer
from percept.evaluation.table import Label

log = logging.getLogger(__name__)
TOP = (1, 5, 10)  # ranks up to which an answer counts
CALIBRATED = "likelihood"  # the scoring rule whose scores are log likelihoods


class Predictions(Protocol):
    """What is scored: `decoders.predict.Predictions`."""

    predicted: NDArray  # (row, dim)
    stimulus: NDArray  # (row,)
    n_repeats: NDArray  # (row,)
    run: NDArray  # (row,), -1 where averaged over runs


class Candidates(NamedTuple):
    """True targets of the images that are ranked."""

    features: NDArray  # (image, dim), or more axes, which are flattened
    stimulus: NDArray  # (image,)
    train_mean: NDArray  # (dim,), mean target over training images


def score_decoder(
    predictions: Predictions,
    candidates: Candidates,
    scorer: Scorer,
    label: Label,
    settings: EvaluationConfig,
    *,
    single: Predictions | None = None,
    limits: pd.DataFrame | None = None,
) -> Scores:
    """Score the test predictions of one decoder.

    Parameters
    ----------
    label : with `scoring`, the name of the scoring rule, unless the scorer has `rules` by direction; bits
        come from the posterior where the rule is "likelihood" and from the ranks otherwise
    single : predictions of single trials of the test images; they give the noise ceiling
    limits : Bayes limits of this subject, see `controls.join_limits`

    Returns
    -------
    Rows of the long table, with floors and limits, and the value of every item.
    """
    features = candidates.features.reshape(len(candidates.stimulus), -1)
    pair = (scorer, predictions.predicted, predictions.stimulus, features, candidates.stimulus)
    asked, back = retrieval.image_from_brain(*pair), retrieval.brain_from_image(*pair)
    items, gap = (
        choose_items(predictions.stimulus, predictions.run),
        _undefined(back, predictions, candidates),
    )
    parts = [_retrieval(asked, items, _with_rule(label, scorer, asked.direction), settings, gap)]
    if back is not None:
        shown = images_as_items(back.stimulus)
        parts.append(_retrieval(back, shown, _with_rule(label, scorer, back.direction), settings))
    ceiling = _ceiling(predictions, single, items)
    agreement = _agreement(predictions, candidates, asked.truth, ceiling)
    truth = retrieval.positions(items.stimulus, candidates.stimulus)
    unranked = replace(label, scoring=None)  # no rule enters where nothing is ranked
    parts.append(summarise(agreement, items, truth, unranked, settings))
    if ceiling is not None:
        parts.append(_ceiling_row(ceiling, unranked, len(items.stimulus)))
    rows = table.concat([part.rows for part in parts])
    if limits is not None and label.control is None:
        rows = controls.join_limits(rows, limits)
    return Scores(rows, table.concat([part.items for part in parts], table.ITEM_SCHEMA))


def _with_rule(label: Label, scorer: Scorer, direction: str) -> Label:
    """The label with the rule of the direction, where the scorer has one for each."""
    return replace(label, scoring=getattr(scorer, "rules", {}).get(direction, label.scoring))


def _undefined(back: Question | None, predictions: Predictions, candidates: Candidates) -> str | None:
    if back is not None:
        return None
    n_brains, n_images = len(predictions.stimulus), len(candidates.stimulus)
    return f"brain_from_image undefined: {n_brains} brains for {n_images} images, not one each"


def _retrieval(
    question: Question, items: Items, label: Label, settings: EvaluationConfig, note: str | None = None
) -> Scores:
    """Score one direction; the note is on the row of the whole pool."""
    n_items = question.scores.shape[1]
    pools, skipped = retrieval.split_pools(settings.retrieval.pools, n_items)
    notes = [note] if note else []
    if skipped:
        notes.append(f"pools {', '.join(map(str, skipped))} skipped: only {n_items} candidates")
    n_twins = n_items - len(np.unique(question.identical))
    if n_twins:
        notes.append(f"{n_twins} candidates are identical to another and count as ties")
    for text in notes:
        log.info("%s %s %s, %s: %s", label.subject, label.name, label.unit, question.direction, text)
    column_of = dict(zip(question.stimulus.tolist(), question.truth.tolist(), strict=True))
    truth = np.array([column_of[stimulus] for stimulus in items.stimulus.tolist()])
    measures = retrieval_measures(question, pools, label.scoring == CALIBRATED, "; ".join(notes) or None)
    return summarise(measures, items, truth, label, settings, keep_shuffled=True)


def retrieval_measures(
    question: Question, pools: list[int], calibrated: bool, note: str | None = None
) -> Iterator[Measure]:
    """Top-1, top-5 and top-10 in every pool, then two-way, ranks and bits in the whole one.

    One at a time, because each holds a value for every query and candidate. A single candidate is no
    question; a top-5 in a pool of five or fewer is no answer.
    """
    own = retrieval.rank(question.scores, question.truth, question.identical)
    every = retrieval.rank_all(question.scores)
    whole = own.n_items
    if whole < 2:
        return

    def measure(metric: str, pool: int, values: NDArray, if_true: NDArray) -> Measure:
        said = note if pool == whole else None
        expected = controls.chance(metric, pool)
        return Measure(metric, values, if_true, expected, question.direction, pool, note=said)

    for pool in pools:
        for k in TOP:
            if pool > k:
                yield measure(f"top{k}", pool, retrieval.top_k(own, pool, k), retrieval.top_k(every, pool, k))
    yield measure("two_way", whole, retrieval.two_way(own), retrieval.two_way(every))
    ranks = (retrieval.expected_rank(own), retrieval.expected_rank(every))
    for statistic in ("median", "mean"):
        rank = measure(f"{statistic}_rank", whole, *ranks)
        yield rank._replace(statistic=statistic, lower_is_better=True)
    if calibrated:
        bits = retrieval.posterior_bits(question.scores)
        yield measure("bits", whole, bits[np.arange(len(bits)), question.truth], bits)
    else:
        exponent = retrieval.fit_rank_code(own)
        values = [retrieval.rank_bits(ranks, exponent) for ranks in (own, every)]
        yield measure("bits", whole, *values)


def _ceiling(predictions: Predictions, single: Predictions | None, items: Items) -> float | None:
    """Largest mean profile correlation that the scatter between single trials allows.

    None without repeats, and for blocks of a run, whose trials share their noise.
    """
    if single is None or items.run.max() >= 0 or len(np.unique(single.stimulus)) == len(single.stimulus):
        return None
    signal, noise = correlation.reliability(single.predicted, single.stimulus)
    return float(correlation.noise_ceiling(signal, noise, predictions.n_repeats).mean())


def _ceiling_row(ceiling: float, label: Label, n: int) -> Scores:
    record = {"metric": "profile_correlation", "value": ceiling, "n": n}
    rows = table.rows(replace(label, control=label.control or "noise_ceiling"), [record])
    return Scores(rows if label.control is None else rows.iloc[:0], table.concat([], table.ITEM_SCHEMA))


def _agreement(
    predictions: Predictions, candidates: Candidates, truth: NDArray, ceiling: float | None
) -> Iterator[Measure]:
    """Correlations and R2 with the true target; normalised where a noise ceiling is known."""
    features = candidates.features.reshape(len(candidates.stimulus), -1)
    three = (predictions.predicted, features, truth)
    profile, _ = correlation.profile_correlation(*three)
    yield Measure("profile_correlation", profile.values, profile.if_true)
    if ceiling:
        scaled = (profile.values / ceiling, profile.if_true / ceiling)
        yield Measure("profile_correlation_normalised", *scaled, note=f"noise ceiling {ceiling:.3f} as known")
    train_mean = np.ravel(candidates.train_mean)
    pattern = correlation.pattern_correlation(*three, train_mean)
    yield Measure("pattern_correlation", pattern.values, pattern.if_true)
    variance = correlation.explained_variance(*three, train_mean)
    yield Measure("r2", variance.values, variance.if_true)
