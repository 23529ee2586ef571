"""Floors, ceilings and limits that stand as rows beside every result.

Floors: `chance` (closed form) and `shuffled` (permutation null), which `measure.summarise` adds; for images
also `mean_image`, `random_image` and `nearest_train`, which need no brain or only a look-up. Ceilings:
`recovery` (the true target through the generator) and `noise_ceiling`. Limits: what the best possible
decoder reaches on the twin, whose weights and noise are known.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from percept.evaluation import table
from percept.evaluation.correlation import feature_blocks, standardised_rows

LIMIT_KEY = ["unit", "metric", "direction", "pool"]
LIMITS = {"bayes_oracle": "limit_oracle", "bayes_finite": "limit_finite"}  # control -> column


def chance(metric: str, pool: int) -> float:
    """Expected score in a pool for a decoder that knows nothing.

    Raises
    ------
    ValueError : the metric has no closed form
    """
    forms = {
        "top1": 1 / pool,
        "top5": min(1.0, 5 / pool),
        "top10": min(1.0, 10 / pool),
        "two_way": 0.5,
        "pixel_two_way": 0.5,
        "median_rank": (pool + 1) / 2,
        "mean_rank": (pool + 1) / 2,
        "bits": 0.0,
    }
    if metric not in forms:
        raise ValueError(
            f"chance of {metric!r} has no closed form (known: {', '.join(forms)}): use the `shuffled` control"
        )
    return forms[metric]


def mean_image(images: Iterable[NDArray]) -> NDArray:
    """Mean of training images, (height, width, 3) uint8, from an iterable of images of that shape."""
    total, n_images = 0.0, 0
    for image in images:
        total, n_images = total + image.astype(np.float64), n_images + 1
    if n_images == 0:
        raise ValueError("there is no training image to average: the training split is empty")
    return np.rint(total / n_images).astype(np.uint8)


def repeated(image: NDArray, n: int) -> NDArray:
    """View of one image as n of them, (n, height, width, 3); nothing is copied."""
    return np.broadcast_to(image, (n, *image.shape))


def nearest_train(predicted: NDArray, train: NDArray, train_mean: ArrayLike = 0.0) -> NDArray:
    """Row of `train`, (query,), whose target correlates best with each predicted one, training mean removed.

    As a reconstruction it is a look-up without a generator: what a generator has to beat.

    Parameters
    ----------
    predicted : (query, dim); train : (image, dim); train_mean : (dim,)
    """
    query, known = standardised_rows(predicted, train_mean), standardised_rows(train, train_mean)
    parts = feature_blocks(query.rows.shape[1])
    similarity = sum(query.block(part) @ known.block(part).T for part in parts)
    return np.argmax(similarity, axis=1)


def random_train(n: int, n_train: int, seed: int = 0) -> NDArray:
    """Rows of training images, (n,), drawn at random; without repetition while they last."""
    rng = np.random.default_rng(seed)
    return rng.choice(n_train, size=n, replace=n > n_train)


def derangement(n: int, seed: int = 0) -> NDArray[np.int64]:
    """Another row for each of `n`, (n,), in a single random cycle: a pairing in which none is right."""
    order = np.random.default_rng(seed).permutation(n)
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)
    return partner


def share(value: ArrayLike, limit: ArrayLike, chance: ArrayLike) -> NDArray:
    """Part of the way from chance to the limit: (value - chance) / (limit - chance).

    1 at the limit, 0 at chance, for every metric, also where lower is better; in large pools it is nearly
    value / limit, and below it otherwise, so that two-way at chance is not "half of the limit". Missing
    where the limit is not clear of chance.
    """
    value, limit, chance = (np.asarray(x, dtype=np.float64) for x in (value, limit, chance))
    room = limit - chance
    clear = np.abs(room) > 1e-6
    return np.where(clear, (value - chance) / np.where(clear, room, 1.0), np.nan)


def join_limits(rows: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """Long rows with limits and shares filled in, then the limits themselves as rows.

    Parameters
    ----------
    rows : long table of one subject
    limits : one row per unit, metric, direction and pool, with `limit_oracle` (weights and noise known) and
        `limit_finite` (the best that could be learnt from as many trials), either possibly missing

    Raises
    ------
    ValueError : two limits for one quantity
    """
    limits = limits.reindex(columns=[*LIMIT_KEY, *LIMITS.values()])
    if limits.duplicated(LIMIT_KEY).any():
        twice = limits.loc[limits.duplicated(LIMIT_KEY), LIMIT_KEY].iloc[0].to_dict()
        raise ValueError(f"there are two limits for {twice}: give those of one subject only")
    known = limits.astype({k: table.SCHEMA[k] for k in LIMIT_KEY})
    left = rows.drop(columns=list(LIMITS.values()))
    joined = left.merge(known, on=LIMIT_KEY, how="left", validate="many_to_one")
    for column in LIMITS.values():
        joined[column.replace("limit", "share")] = share(joined["value"], joined[column], joined["chance"])
    methods = joined[joined["control"].isna()]
    return table.concat([joined, *(_limit_rows(methods, *limit) for limit in LIMITS.items())])


def _limit_rows(methods: pd.DataFrame, control: str, column: str) -> pd.DataFrame:
    """Rows of a limit: those of the methods that have it, with the limit as their value."""
    own = methods[methods[column].notna()].copy()
    own["value"], own["control"] = own[column], control
    lost = [
        "ci_low",
        "ci_high",
        "p_value",
        "share_oracle",
        "share_finite",
        "scoring",
        "note",
        *LIMITS.values(),
    ]
    return own.assign(**dict.fromkeys(lost))
