"""Order of test images for sheets and gallery: by the rank of the seen image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.files import PerceptError
from percept.report import spec

# Metrics whose value for one image is the share of other images that it beats; what sees meaning comes first.
TWO_WAY = (
    "clip",
    "tiny_clip",
    "inception",
    "judge_late",
    "alexnet5",
    "judge_early",
    "alexnet2",
    "pixel_two_way",
)


class Ranking(NamedTuple):
    """Rank of the seen image among all test images, for each of them; 1 is best."""

    ranks: NDArray  # (image,) float64, in the order asked
    metric: str | None  # what it is by; None where nothing ranks

    def told(self, pool: int, of: str = "rank") -> str:
        """What the ranks are, in a line."""
        if self.metric is None:
            return "Not ranked: there is no two-way score of single images."
        return f"{of} of the seen image among {pool} by {spec.load().metric(self.metric).label}, 1 is best"


def by_two_way(items: pd.DataFrame, stimulus: Sequence[int] | NDArray) -> Ranking:
    """Ranks from the two-way values of single images, by the first of `TWO_WAY` that has them all.

    Parameters
    ----------
    items : values of single images of one reconstruction; rows of controls play no part
    stimulus : (image,) ids in the order wanted
    """
    own = items[items["control"].isna()]
    for metric in TWO_WAY:
        values = (
            own[own["metric"] == metric].groupby("stimulus")["value"].mean().reindex(np.asarray(stimulus))
        )
        if len(values) and values.notna().all():
            return Ranking(1 + (1 - values.to_numpy(np.float64)) * (len(values) - 1), metric)
    return Ranking(np.ones(len(stimulus)), None)


def mean_ranks(items: Sequence[pd.DataFrame], stimulus: Sequence[int] | NDArray) -> Ranking:
    """Mean rank over several reconstructions, all by the metric that the first of `TWO_WAY` allows to all.

    A sheet that shows several methods may not choose its columns by one of them.
    """
    for metric in TWO_WAY:
        rankings = [by_two_way(table[table["metric"] == metric], stimulus) for table in items]
        if rankings and all(one.metric for one in rankings):
            return Ranking(np.mean([one.ranks for one in rankings], axis=0), metric)
    return Ranking(np.ones(len(stimulus)), None)


def rows_of(wanted: NDArray, stimulus: NDArray) -> NDArray[np.intp]:
    """Position in `stimulus` of each wanted id.

    Raises
    ------
    PerceptError : an id is not there
    """
    places = {int(one): at for at, one in enumerate(stimulus)}
    missing = [int(one) for one in wanted if int(one) not in places]
    if missing:
        raise PerceptError(
            f"stimulus {missing[0]} was reconstructed but is not among the {len(places)} that were predicted "
            "or scored: the files come from different runs, and images would stand under wrong numbers. Run "
            "the same command again with `--forcerun reconstruct_images`."
        )
    return np.array([places[int(one)] for one in wanted], dtype=np.intp)
