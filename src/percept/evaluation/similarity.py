"""Whether two spaces agree on which items are alike, and where items lie in two dimensions."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from percept.evaluation.clustering import Against
from percept.statistics import percentile_interval

NEIGHBOURS = 10  # of an item, when a map is judged by them
PERPLEXITY = 30.0  # of t-SNE (van der Maaten and Hinton 2008), or a third of the items where they are few


def cosine_distances(rows: NDArray) -> NDArray[np.float64]:
    """1 - cosine between unit vectors (item, dim): (item, item)."""
    return 1 - rows @ rows.T


def rsa(first: NDArray, second: NDArray, shuffles: NDArray) -> Against:
    """Rank correlation of two matrices of distances (item, item) over all pairs of items (Kriegeskorte et al.
    2008), and under items of the second that are shuffled.

    Pairs share items and are not independent, so items are shuffled and not pairs.

    Parameters
    ----------
    shuffles : (permutation, item)
    """
    from scipy.stats import rankdata

    pairs = np.triu_indices(len(first), 1)
    ranks = np.zeros_like(second)
    ranks[pairs] = rankdata(second[pairs])
    ranks += ranks.T
    own = _standardised(rankdata(first[pairs]))
    orders = (np.arange(len(first)), *shuffles)
    found = np.array([own @ _standardised(ranks[order[pairs[0]], order[pairs[1]]]) for order in orders])
    return Against(float(found[0]), found[1:])


def rsa_interval(
    first: NDArray, second: NDArray, n_resamples: int, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Bootstrap interval of `rsa` over items; pairs of an item with its own copy are left out.

    Their distance is 0 in both spaces, which would add agreement that nothing measured (Schütt et al. 2023).
    """
    n_items = len(first)
    draws = np.empty(n_resamples)
    for at in range(n_resamples):
        drawn = np.sort(rng.integers(n_items, size=n_items))
        rows, columns = np.triu_indices(n_items, 1)
        rows, columns = drawn[rows], drawn[columns]
        different = rows != columns
        rows, columns = rows[different], columns[different]
        draws[at] = spearman(first[rows, columns], second[rows, columns])
    return percentile_interval(draws, confidence)


def spearman(a: NDArray, b: NDArray) -> float:
    """Rank correlation of two vectors, ties at their mean rank; nan where one is constant."""
    from scipy.stats import rankdata

    return float(_standardised(rankdata(a)) @ _standardised(rankdata(b)))


def _standardised(values: NDArray) -> NDArray[np.float64]:
    """Values with mean 0 and length 1; nan where they are all equal."""
    centred = values - values.mean()
    length = np.linalg.norm(centred)
    return centred / length if length > 0 else np.full_like(centred, np.nan)


def layout(rows: NDArray, how: Literal["tsne", "pca"], seed: int) -> NDArray[np.float64]:
    """Places (item, 2) of unit vectors on a map, within [0, 1]; the axes mean nothing.

    `pca` keeps as much of all distances as a flat picture can, `tsne` keeps neighbours together.
    """
    if how == "pca":
        U, s, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
        places = U[:, :2] * s[:2]
    else:
        from sklearn.manifold import TSNE

        perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
        places = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed).fit_transform(
            rows.astype(np.float32)
        )
    places = places.astype(np.float64) - places.min(axis=0)
    return places / np.maximum(places.max(axis=0), np.finfo(np.float64).tiny)


def neighbours_kept(rows: NDArray, places: NDArray) -> float:
    """Share, in [0, 1], of the `NEIGHBOURS` nearest items on a map that are so in the space itself."""
    n_neighbours = min(NEIGHBOURS, len(rows) - 1)
    away = np.linalg.norm(places[:, None] - places[None], axis=2)
    distances = cosine_distances(rows)
    for one in (away, distances):
        np.fill_diagonal(one, np.inf)
    near = [np.argsort(one, axis=1, kind="stable")[:, :n_neighbours] for one in (away, distances)]
    return float(np.mean([len(np.intersect1d(a, b)) / n_neighbours for a, b in zip(*near, strict=True)]))
