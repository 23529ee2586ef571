"""Paired comparisons: two methods, or a reconstruction and its own floors, on the same items."""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.evaluation.table import chosen
from percept.statistics import Comparison, benjamini_hochberg, compare_gains

COMPARED = ["dataset", "protocol", "subject", "what", "unit", "metric", "direction", "pool"]
PAIR = ["rule", "name_first", "scoring_first", "name_second", "scoring_second", "control_second"]
PAIR += ["difference", "ci_low", "ci_high", "p_value", "n"]
FLOORS = ("shuffled", "mean_image", "random_image", "nearest_train")  # controls that a method has to beat
CHOSEN, COMMON = "chosen", "cosine"  # under which rules two methods are compared


class Column(NamedTuple):
    """A method, or what one of its controls scored; empty where there is no rule or no control."""

    name: str
    scoring: str
    control: str


class Pair(NamedTuple):
    """Two columns and what the first has more of than the second, (item,) over the items of both."""

    rule: str
    first: Column
    second: Column
    gain: NDArray


def compare(items: pd.DataFrame, settings: EvaluationConfig) -> pd.DataFrame:
    """Paired comparisons of every two methods of a subject, and of each with its own floors, per quantity.

    Two methods are compared twice where they are ranked: each under the scoring rule that validation chose
    for it, `rule` "chosen", and both under plain cosine, `rule` "cosine", left out where cosine was chosen
    for both. So what a training is worth is told apart from what calibration adds. Seeds are averaged first;
    their rules are named together where they differ. Only items that both have are compared. Medians are
    not compared. Where a floor is `shuffled`, an item's value is what it is expected to score with the true
    image of another item (or, for `ssim` and `lpips`, what it scored with one of them).

    Parameters
    ----------
    items : the table of items of several methods

    Returns
    -------
    One row per quantity and pair: `difference` (first - second; where lower is better, a better first is
    negative) with interval, two-sided `p_value`, and `q_value`, the false discovery rate over all rows of
    its family (Benjamini and Hochberg 1995): pairs of methods under either rule, or methods and floors, whose
    `control_second` names the floor.
    """
    known = items["control"].isna() | items["control"].isin(FLOORS)
    own = items[known.astype(bool) & (items["metric"] != "median_rank")]
    own = own.assign(run=own["run"].fillna(-1), scoring=own["scoring"].fillna(""))
    own = own.assign(control=own["control"].fillna(""))
    records = []
    for key, group in own.groupby(COMPARED, dropna=False, sort=False):
        pairs = [*_pairs(group)]
        for pair, result in zip(pairs, _results([pair.gain for pair in pairs], settings), strict=True):
            who = (pair.rule, *pair.first[:2], *pair.second)
            named = [*(value or None for value in who), *result]
            records.append(dict(zip([*COMPARED, *PAIR], [*key, *named], strict=True)))
    compared = pd.DataFrame(records, columns=[*COMPARED, *PAIR])
    return compared.assign(q_value=_false_discoveries(compared))


def _pairs(group: pd.DataFrame) -> Iterator[Pair]:
    """Pairs under the chosen rules, then those under cosine that are not among them; of one quantity."""
    own = chosen(group)
    rules = own.groupby("name")["scoring"].transform(lambda scoring: "/".join(sorted(set(scoring))))
    yield from _pairs_under(CHOSEN, own.assign(scoring=rules))
    ranked = group[group["scoring"] == COMMON]
    same = set(own.loc[rules == COMMON, "name"])
    for pair in _pairs_under(COMMON, ranked):
        if not same >= {pair.first.name, pair.second.name}:
            yield pair


def _pairs_under(rule: str, rows: pd.DataFrame) -> Iterator[Pair]:
    """Every two methods, then every method and each of its floors."""
    values = rows.pivot_table("value", ["stimulus", "run"], list(Column._fields), aggfunc="mean")
    columns = [Column(*column) for column in values.columns]
    methods = [column for column in columns if not column.control]
    floors = [(one, one._replace(control=floor)) for one in methods for floor in FLOORS]
    table = dict(zip(columns, values.to_numpy(np.float64).T, strict=True))
    for first, second in [*combinations(methods, 2), *floors]:
        if second in table:
            gain = table[first] - table[second]
            gain = gain[~np.isnan(gain)]
            if len(gain):
                yield Pair(rule, first, second, gain)


def _results(gains: list[NDArray], settings: EvaluationConfig) -> list[Comparison]:
    """What is said of each pair; those of as many items share their resamples."""
    found: dict[int, Comparison] = {}
    for n in {len(gain) for gain in gains}:
        at = [i for i, gain in enumerate(gains) if len(gain) == n]
        rng = np.random.default_rng(settings.seed)
        together = np.stack([gains[i] for i in at], axis=1)
        found |= zip(at, compare_gains(together, settings.bootstrap, settings.confidence, rng), strict=True)
    return [found[i] for i in range(len(gains))]


def _false_discoveries(compared: pd.DataFrame) -> pd.Series:
    """False discovery rate, (row,), of pairs of methods under each rule and of pairs with a floor."""
    floors, common = compared["control_second"].notna(), compared["rule"] == COMMON
    rates = pd.Series(np.nan, index=compared.index)
    for family in (floors, ~floors & ~common, ~floors & common):
        rates[family] = benjamini_hochberg(compared.loc[family, "p_value"].astype(float))
    return rates
