"""Clusters among directions, how far apart they are, and how well they agree with other groups.

All work on unit vectors (item, dim) and compare them by cosine.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = 100  # of k-means at most; it settles in far fewer
Method = Literal["kmeans", "agglomerative"]


class Against(NamedTuple):
    """A value, and what it is where there is nothing to find: (shuffle,)."""

    value: float
    null: NDArray[np.float64]


def unit(rows: ArrayLike) -> NDArray[np.float64]:
    """Rows (item, dim) scaled to length 1; rows of zeros stay."""
    rows = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def spherical_kmeans(
    rows: NDArray, n_clusters: int, rng: np.random.Generator, restarts: int = 10
) -> NDArray[np.intp]:
    """Cluster of each unit vector, (item,): k-means by cosine, whose centres are of unit length, too.

    Of `restarts` beginnings (k-means++) the one with the largest sum of cosines between vectors and their
    centres (Dhillon and Modha 2001) counts.
    """
    runs = [_settle(rows, _beginning(rows, n_clusters, rng)) for _ in range(restarts)]
    return max(runs, key=lambda run: run[1])[0]


def _beginning(rows: NDArray, n_clusters: int, rng: np.random.Generator) -> NDArray:
    """Centres (cluster, dim): vectors drawn with odds that grow with the distance to those drawn before."""
    chosen = [int(rng.integers(len(rows)))]
    while len(chosen) < n_clusters:
        distance = np.clip(1 - rows @ rows[chosen].T, 0, None).min(axis=1)
        distance[chosen] = 0
        total = distance.sum()
        odds = distance / total if total > 0 else None  # all vectors are alike: any will do
        chosen.append(int(rng.choice(len(rows), p=odds)))
    return rows[chosen]


def _settle(rows: NDArray, centres: NDArray) -> tuple[NDArray[np.intp], float]:
    """Clusters, and the sum of cosines with their centres, when no vector changes its cluster any more."""
    labels = np.full(len(rows), -1)
    for _ in range(STEPS):
        cosines = rows @ centres.T
        nearest = cosines.argmax(axis=1)
        own = cosines[np.arange(len(rows)), nearest]
        for empty in np.setdiff1d(np.arange(len(centres)), nearest):  # takes the vector that fits worst
            worst = int(own.argmin())
            nearest[worst], own[worst] = empty, np.inf
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        member = labels[None, :] == np.arange(len(centres))[:, None]
        centres = unit(member.astype(np.float64) @ rows)
    return labels, float((rows * centres[labels]).sum())


def agglomerative(
    rows: NDArray, n_clusters: int, rng: np.random.Generator, restarts: int = 1
) -> NDArray[np.intp]:
    """Cluster of each unit vector, (item,), by joining the two that are nearest in mean cosine distance.

    Nothing in it is random; `rng` and `restarts` are there because all methods are called alike.
    """
    from sklearn.cluster import AgglomerativeClustering

    joined = AgglomerativeClustering(n_clusters, metric="cosine", linkage="average")
    return joined.fit_predict(rows)


METHODS: dict[Method, Callable[..., NDArray[np.intp]]] = {
    "kmeans": spherical_kmeans,
    "agglomerative": agglomerative,
}


def silhouette(rows: NDArray, labels: NDArray) -> float:
    """Mean over items of (b - a) / max(a, b), with a the mean cosine distance to the own cluster and b to the
    nearest other one (Rousseeuw 1987): 1 where clusters are apart, 0 where they touch.

    Clusters of one item each, or a single cluster, have none: nan.
    """
    from sklearn.metrics import silhouette_score

    n_clusters = len(np.unique(labels))
    if not 2 <= n_clusters < len(labels):
        return float("nan")
    return float(silhouette_score(rows, labels, metric="cosine"))


def cloud(rows: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """As many unit vectors without clusters: from one normal cloud with the mean and covariance of `rows`.

    Clusters that differ from such a cloud are more than its being long and flat (Liu et al. 2008, SigClust).
    """
    mean = rows.mean(axis=0)
    mixing = rng.normal(size=(len(rows), len(rows))) / np.sqrt(max(len(rows) - 1, 1))
    return unit(mean + mixing @ (rows - mean))


def separation(
    rows: NDArray, n_clusters: int, method: Method, rng: np.random.Generator, clouds: int, restarts: int
) -> tuple[NDArray[np.intp], Against]:
    """Clusters of unit vectors, and their silhouette beside those of `clouds` clouds, clustered alike.

    Clusters are fitted, so that their silhouette is above 0 for noise as well; shuffling labels would not
    tell.
    """
    cluster = METHODS[method]
    labels = cluster(rows, n_clusters, rng, restarts)
    null = np.empty(clouds)
    for at in range(clouds):
        noise = cloud(rows, rng)
        null[at] = silhouette(noise, cluster(noise, n_clusters, rng, restarts))
    return labels, Against(silhouette(rows, labels), null)


def agreement(labels: NDArray, groups: NDArray, shuffles: NDArray) -> Against:
    """Adjusted mutual information (Vinh et al. 2010) of two groupings (item,), and under shuffled items.

    1 where they are the same, 0 in mean where they have nothing to do with each other.

    Parameters
    ----------
    shuffles : (permutation, item), rearrangements of the items, see `statistics.shuffled_items`
    """
    from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

    a, b = (np.unique(one, return_inverse=True)[1] for one in (labels, groups))
    table = contingency_matrix(a, b, sparse=True).astype(np.int64)
    expected = float(expected_mutual_information(table, len(a)))
    room = (_mutual_information(a, a) + _mutual_information(b, b)) / 2 - expected
    if abs(room) < np.finfo(np.float64).eps:
        return Against(float("nan"), np.full(len(shuffles), np.nan))
    found = [_mutual_information(a, b[order]) for order in (np.arange(len(b)), *shuffles)]
    adjusted = (np.array(found) - expected) / room
    return Against(float(adjusted[0]), adjusted[1:])


def _mutual_information(a: NDArray[np.intp], b: NDArray[np.intp]) -> float:
    """Of two groupings (item,), numbered from 0, in nats; of a grouping with itself, its entropy."""
    n_b = int(b.max()) + 1
    joint = np.bincount(a * n_b + b, minlength=(int(a.max()) + 1) * n_b).reshape(-1, n_b) / len(a)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / product[there])).sum())
