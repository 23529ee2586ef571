"""The long table of an analysis: a row per group and score."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.interpretation.groups import centre, places
from percept.interpretation.leave_one_out import Effect
from percept.statistics import benjamini_hochberg, bootstrap, percentile_interval, permutation_p

AT_ONCE = 256  # groups whose intervals are resampled together
TEXT, WHOLE, REAL = "string", "Int32", "float64"
SCHEMA = {
    "analysis": TEXT, "subject": TEXT, "decoder": TEXT, "seed": WHOLE, "replacement": TEXT,
    "grouping": TEXT, "group": TEXT, "i": REAL, "j": REAL, "k": REAL, "n_voxels": WHOLE, "n_matched": WHOLE,
    "metric": TEXT, "value": REAL, "ci_low": REAL, "ci_high": REAL, "n": WHOLE, "whole": REAL,
    "null_mean": REAL, "null_low": REAL, "null_high": REAL, "draws": WHOLE, "p_value": REAL, "q_value": REAL,
}  # fmt: skip
"""Columns of the table.

`value` (interval: item bootstrap) is the mean change over `n` images when `n_matched` voxels of the group are
replaced, `whole` that of all `n_voxels`; `null_*` describe `draws` random sets of `n_matched` voxels outside
it; `p_value` is the share of these that change as much, `q_value` the false discovery rate among the groups
of a grouping.
"""


def rows(
    effects: Iterable[Effect], voxels: pd.DataFrame, resamples: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Rows of some effects, without what they share.

    Parameters
    ----------
    voxels : rows of the voxel table that the decoder reads, for the places of the groups
    resamples, confidence : of the intervals; images are resampled, the same ones for all scores of a group
    """
    records: list[dict[str, Any]] = []
    waiting, where = iter(effects), places(voxels)
    while some := list(islice(waiting, AT_ONCE)):
        values = np.concatenate([one.changes for one in some], axis=1)  # (image, group x metric)
        draws = bootstrap(values, resamples, np.random.default_rng(seed))
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        ends = iter(np.quantile(draws, tails, axis=0).T.tolist())
        for effect in some:
            records += _records(effect, confidence, centre(where, effect.group), ends)
    return pd.DataFrame(records)


def _records(
    effect: Effect, confidence: float, place: dict[str, float], ends: Iterator[list[float]]
) -> Iterator[dict[str, Any]]:
    """A record per score of an effect, which takes the ends of its interval from `ends`."""
    for at, name in enumerate(effect.names):
        low, high = next(ends)
        value = effect.changes[:, at].mean()
        yield {
            **place,
            "grouping": effect.group.grouping,
            "group": effect.group.name,
            "n_voxels": len(effect.group.voxels),
            "n_matched": effect.size,
            "metric": name,
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "n": len(effect.changes),
            "whole": effect.whole[at],
            **_against(value, effect.null[:, at], effect.used, confidence),
        }


def _against(value: float, null: NDArray, used: int, confidence: float) -> dict[str, float]:
    """How a mean change stands among those of random sets; one-sided, towards what use would do."""
    if not len(null):
        return {"draws": 0}
    low, high = percentile_interval(null, confidence)
    p_value = permutation_p(used * value, used * null)
    return {
        "null_mean": null.mean(),
        "null_low": low,
        "null_high": high,
        "draws": len(null),
        "p_value": p_value,
    }


def whole(parts: Iterable[pd.DataFrame], about: Mapping[str, Any]) -> pd.DataFrame:
    """All rows of an analysis in the order of `SCHEMA`, with the false discovery rate within each grouping.

    Parameters
    ----------
    about : what all rows share: analysis, subject, decoder, seed, replacement
    """
    table = pd.concat([part for part in parts if len(part)], ignore_index=True).assign(**about)
    table = table.reindex(columns=list(SCHEMA))
    for _, same in table.groupby(["grouping", "metric"]).groups.items():
        table.loc[same, "q_value"] = benjamini_hochberg(table.loc[same, "p_value"].to_numpy(np.float64))
    return table.astype(SCHEMA)
