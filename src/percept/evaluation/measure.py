"""From values per row to rows of the long table: items, intervals, nulls, floors."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.evaluation import table
from percept.evaluation.table import Label
from percept.statistics import (
    Statistic,
    bootstrap_interval,
    pairing_mean,
    pairing_null,
    percentile_interval,
    permutation_p,
    resamples,
    shuffled_items,
)


class Measure(NamedTuple):
    """One metric as values of single rows, whose mean (or median) over items is the result."""

    metric: str
    values: NDArray  # (row,)
    if_true: NDArray | None = None  # (row, candidate), the value if that candidate were the true one
    chance: float = float("nan")
    direction: str | None = None
    pool: int | None = None
    statistic: Statistic = "mean"
    lower_is_better: bool = False
    note: str | None = None
    shuffled: NDArray | None = None  # (row,), values of one shuffled pairing, where all pairs are too many


class Items(NamedTuple):
    """The units that are resampled and re-paired, and the rows that belong to each."""

    of_row: NDArray  # (row,), item of each row
    stimulus: NDArray  # (item,)
    run: NDArray  # (item,), -1 where an item spans runs

    def mean(self, values: NDArray) -> NDArray:
        """Mean over the rows of each item, (item, ...); a copy only where there is something to average."""
        if np.array_equal(self.of_row, np.arange(len(self.stimulus))):
            return values
        summed = np.zeros((len(self.stimulus), *values.shape[1:]))
        np.add.at(summed, self.of_row, values)
        counts = np.bincount(self.of_row, minlength=len(self.stimulus))
        return summed / counts.reshape(-1, *[1] * (values.ndim - 1))


class Scores(NamedTuple):
    """Rows of the long table, and of the table of items."""

    rows: pd.DataFrame
    items: pd.DataFrame


def images_as_items(stimulus: NDArray) -> Items:
    """Items are images: all rows of an image, such as its repeats, are one item, in order of appearance."""
    _, first, group = np.unique(stimulus, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))  # items in the order of their first row
    shown = np.asarray(stimulus)[np.sort(first)]
    return Items(order[group], shown, np.full(len(shown), -1))


def blocks_as_items(stimulus: NDArray, run: NDArray) -> Items:
    """Items are blocks: the rows of one stimulus in one run, whose noise is not independent."""
    pairs = np.stack([np.asarray(run), np.asarray(stimulus)], axis=1)
    unique, group = np.unique(pairs, axis=0, return_inverse=True)
    return Items(group.ravel(), unique[:, 1], unique[:, 0])


def choose_items(stimulus: NDArray, run: NDArray) -> Items:
    """Images, or blocks where the stimuli are a closed set: no more of them than rows of each.

    An interval should say how the result would vary with what was sampled. NSD samples images (1,000 shown
    three times); a category localiser shows the same 8 categories in every run and samples runs.
    """
    _, counts = np.unique(stimulus, return_counts=True)
    closed = len(counts) <= np.median(counts)
    return blocks_as_items(stimulus, run) if closed else images_as_items(stimulus)


def summarise(
    measures: Iterable[Measure],
    items: Items,
    truth: NDArray,
    label: Label,
    settings: EvaluationConfig,
    *,
    keep_shuffled: bool = False,
) -> Scores:
    """Score every measure: its row, its floors as rows (chance, shuffled pairing), and its items.

    Parameters
    ----------
    truth : (item,), candidate that is true for each item; items of one run swap them in the null
    label : what the rows are about; when it is a control itself, it gets no floors
    keep_shuffled : also keep what each item is expected to score under shuffled pairing

    Returns
    -------
    Rows in the order of the measures, each followed by its floors.
    """
    shuffles = None
    rows, values = [], []
    for measure in measures:
        per_item = items.mean(measure.values)
        null, expected = None, np.nan
        if measure.if_true is not None and len(truth) > 1:
            if shuffles is None:
                shuffles = _shuffles(
                    len(truth), settings.permutations, settings.seed, tuple(items.run.tolist())
                )
            if_true = items.mean(measure.if_true)
            null = pairing_null(if_true, truth, shuffles, measure.statistic)
            expected = pairing_mean(if_true, truth, items.run) if measure.statistic == "mean" else null.mean()
        rows += _records(measure, per_item, null, expected, settings)
        values.append(_item_rows(measure, per_item, items, label.control))
        if keep_shuffled and (per_item := _shuffled(measure, items, truth)) is not None:
            values.append(_item_rows(measure, per_item, items, "shuffled"))
    if label.control is not None:
        rows = [row for row in rows if row["control"] is None]
    keep = [{**row, "control": row["control"] or label.control} for row in rows]
    named = {k: v for k, v in vars(label).items() if k != "control"}
    per_item_table = pd.concat(values, ignore_index=True).assign(**named) if values else pd.DataFrame()
    return Scores(table.rows(label, keep), table.conform(per_item_table, table.ITEM_SCHEMA))


def _shuffled(measure: Measure, items: Items, truth: NDArray) -> NDArray | None:
    """What each item (item,) scores in mean over the partners of the others, or with one shuffled partner."""
    if measure.if_true is None or len(truth) < 2:
        return None if measure.shuffled is None else items.mean(measure.shuffled)
    of_partner = items.mean(measure.if_true)[:, truth]  # (item, partner)
    return (of_partner.sum(axis=1) - np.diag(of_partner)) / (len(truth) - 1)


def _records(
    measure: Measure, per_item: NDArray, null: NDArray | None, expected: float, settings: EvaluationConfig
) -> list[dict[str, object]]:
    """The row of a measure and those of its floors; `expected` is the mean of the null."""
    drawn = _drawn(len(per_item), settings.bootstrap, settings.seed)
    interval = bootstrap_interval(
        per_item, settings.bootstrap, settings.confidence, statistic=measure.statistic, drawn=drawn
    )
    quantity = {"metric": measure.metric, "direction": measure.direction, "pool": measure.pool}
    quantity |= {"n": interval.n, "chance": measure.chance}
    own = {"value": interval.value, "ci_low": interval.low, "ci_high": interval.high, "note": measure.note}
    records = [{**quantity, **own, "control": None}]
    if not np.isnan(measure.chance):
        records.append({**quantity, "value": measure.chance, "control": "chance"})
    if null is not None:
        sign = -1 if measure.lower_is_better else 1
        slack = 1e-12 * max(1.0, abs(interval.value))  # means over items in another order
        records[0]["p_value"] = permutation_p(sign * interval.value - slack, sign * null)
        low, high = percentile_interval(null, settings.confidence)
        shuffled = {"value": float(expected), "ci_low": low, "ci_high": high, "control": "shuffled"}
        records.append({**quantity, **shuffled})
    elif measure.shuffled is not None:
        rng = np.random.default_rng(settings.seed)
        once = bootstrap_interval(measure.shuffled, settings.bootstrap, settings.confidence, rng)
        said = {"control": "shuffled", "note": "one shuffled pairing"}
        records.append({**quantity, "value": once.value, "ci_low": once.low, "ci_high": once.high, **said})
    return records


@lru_cache(maxsize=2)
def _drawn(n_items: int, n_resamples: int, seed: int) -> list[NDArray]:
    """The resamples of every measure of as many items, which keeps them paired."""
    return list(resamples(n_items, n_resamples, np.random.default_rng(seed)))


@lru_cache(maxsize=2)
def _shuffles(n_items: int, n_permutations: int, seed: int, run: tuple[int, ...]) -> NDArray:
    """The rearrangements, within runs (item,), of every measure of the same items."""
    return shuffled_items(n_items, n_permutations, np.random.default_rng(seed), np.array(run))


def _item_rows(measure: Measure, per_item: NDArray, items: Items, control: str | None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "control": control,
            "metric": measure.metric,
            "direction": measure.direction,
            "pool": measure.pool,
            "stimulus": items.stimulus,
            "run": items.run,
            "value": per_item,
        }
    )
