"""How well anything could decode a twin: Bayes limits of retrieval, by simulation in feature space.

A trial tells about its features x only through t = J x + N(0, J), with J the information of one trial
(`model.fisher`); the mean of n trials has n J. Everything below is simulated in that space, never in voxels.

Two observers are scored on the images and the repeats of an actual test set. Image from brain ranks images
by log p(y | x); brain from image ranks brains by log p(y | x) - log p(y), with p(y) the mixture over the
twin's images.

``bayes_oracle`` knows weights and noise: log p(y | x) = t'x - n x'Jx/2 + const. No decoder does better on
average.

``bayes_finite`` has to learn the weights from the subject's training trials. It knows the features, the mean
    responses and the noise covariance S = W Omega W' + L L' + diag(private_sd^2), and hence the r voxel
    patterns in which images show; it does not know which pattern stands for which feature. In these patterns,
    whitened by S, a trial is u = G x + N(0, I) with r x mode unknown weights G (G'G = J), of which it knows
    the prior scale, G_uk ~ N(0, J_kk / r), independent. Its posterior and its predictive are exact: u | x ~
    N(M x, (1/n + x'Cx) I), C = (X'X + diag(r / J_kk))^-1, M the ridge estimate from the N training trials.

    A regression over voxels with known S that does not use what S says about the patterns would be no limit:
    plain ridge beats it six times over (top-1 0.52 against 0.08 in the default twin).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from percept.datasets.twin.truth import Truth
from percept.statistics import expected_topk

Floats = NDArray[np.float64]
POPULATION = 12_000  # images that stand for all of them in p(y); fewer make brain_from_image look harder
MAX_CELLS = 3e8  # draws x brains x population above which the number of draws is cut
LONG = ("limit", "unit", "direction", "metric", "pool", "value")
DIRECTIONS = ("image_from_brain", "brain_from_image")


class Observer(Protocol):
    """Simulates responses to test images and says how likely each image makes them."""

    def scores(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """One draw of test responses: (brain, test image) and (brain, population image)."""


@dataclass(frozen=True)
class Oracle:
    """Knows weights and noise.

    ``fisher`` (mode, mode) of one trial; ``test`` (image, mode) features; ``n_repeats`` (image,);
    ``population`` (image, mode).
    """

    fisher: Floats
    test: Floats
    n_repeats: Floats
    population: Floats

    def scores(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """One draw of test responses: (brain, test image) and (brain, population image)."""
        root = _root(self.fisher)
        noise = rng.standard_normal((len(self.test), len(root))) @ root.T
        t = self.n_repeats[:, None] * (self.test @ self.fisher) + np.sqrt(self.n_repeats)[:, None] * noise
        return tuple(_log_likelihood(t, self.fisher, self.n_repeats, x) for x in (self.test, self.population))


def _root(matrix: Floats) -> Floats:
    """R with R R' = matrix, also if it is singular."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.clip(values, 0, None))


def _log_likelihood(t: Floats, fisher: Floats, n_repeats: Floats, images: Floats) -> Floats:
    """The statistic's t'x - n x'Jx / 2, (brain, image)."""
    energy = np.einsum("im,mk,ik->i", images, fisher, images)
    return t @ images.T - np.outer(n_repeats, energy) / 2


@dataclass(frozen=True)
class Learner:
    """Has to learn the weights, anew for every draw; see the module's text.

    ``weights`` (pattern, mode) the true G; ``gram`` (mode, mode) X'X of the training trials; ``prior``
    (mode,) variance of the weights of each mode; ``test``, ``population`` (image, mode); ``n_repeats``
    (image,).
    """

    weights: Floats
    gram: Floats
    prior: Floats
    test: Floats
    n_repeats: Floats
    population: Floats

    def scores(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Learn from new training responses, then one draw of test responses."""
        covariance = np.linalg.inv(self.gram + np.diag(1 / self.prior))
        noise = rng.standard_normal(self.weights.shape) @ _root(self.gram).T  # of the sums X'u
        learnt = (self.weights @ self.gram + noise) @ covariance
        private = rng.standard_normal((len(self.test), len(self.weights)))
        u = self.test @ self.weights.T + private / np.sqrt(self.n_repeats)[:, None]
        return tuple(self._predictive(u, learnt, covariance, x) for x in (self.test, self.population))

    def _predictive(self, u: Floats, learnt: Floats, covariance: Floats, images: Floats) -> Floats:
        """Log p(u | x), (brain, image)."""
        spread = np.einsum("im,mk,ik->i", images, covariance, images)
        variance = 1 / self.n_repeats[:, None] + spread
        mean = images @ learnt.T
        distance = (u**2).sum(axis=1)[:, None] - 2 * u @ mean.T + (mean**2).sum(axis=1)
        return -(len(self.weights) * np.log(variance) + distance / variance) / 2


def learner(fisher: Floats, test: Floats, n_repeats: Floats, population: Floats, train: Floats) -> Learner:
    """The finite-data observer of a subject; `train` (trial, mode), features of its training trials."""
    values, vectors = np.linalg.eigh(fisher)
    kept = values > 1e-9 * values.max()  # fewer voxels than modes leave fewer patterns
    weights = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    prior = np.maximum(np.diag(fisher), 1e-12) / kept.sum()
    return Learner(weights, train.T @ train, prior, test, n_repeats, population)


def _population(truth: Truth, rng: np.random.Generator) -> Floats:
    """Features that stand for the twin's images in p(y), centred, (image, mode)."""
    features = truth.features.astype(np.float64)
    features = features - features.mean(axis=0)
    return features if len(features) <= POPULATION else rng.permutation(features)[:POPULATION]


def retrieval_limits(
    truth: Truth,
    stimulus: ArrayLike,
    n_repeats: ArrayLike,
    pools: Sequence[int],
    *,
    train: ArrayLike | None = None,
    unit: str = "average",
    n_draws: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Bayes limits of retrieval among the given test images.

    Parameters
    ----------
    truth : of the subject; `Truth.select` or `Truth.at` first for the limits of some voxels
    stimulus : (image,) distinct test images, each with one brain: the mean of its repeats
    n_repeats : (image,) or a number, trials averaged; 1 for the limits of single trials
    pools : images per pool; those larger than the test set are left out, the whole test set is always added
    train : (trial,) stimulus of every training trial; without it no finite-data limit is given
    unit : goes into the table, "average" or "single"
    n_draws : simulated test sets; fewer where they would take more than about half a minute

    Returns
    -------
    Long table: limit ("bayes_oracle", "bayes_finite"), unit, direction, metric (top1, top5, top10,
    two_way, median_rank, mean_rank, bits; "two_way_gaussian" is the closed form for Gaussian features, see
    `two_way_closed`), pool, n_repeats (mean), value, se (Monte Carlo standard error), information (bits about
    an image, `model.information`, mean over images).

    Raises
    ------
    ValueError : repeated or fewer than two test images, repeats below 1, an unknown image
    """
    stimulus = np.asarray(stimulus)
    repeats = np.broadcast_to(np.asarray(n_repeats, dtype=np.float64), stimulus.shape)
    _require_test_set(stimulus, repeats)
    rng = np.random.default_rng([seed, 11])
    centre = truth.features.mean(axis=0, dtype=np.float64)
    test = truth.rows(stimulus) - centre
    population = _population(truth, rng)
    n_draws = int(np.clip(MAX_CELLS / (len(test) * len(population)), 8, n_draws))
    pools = sorted({pool for pool in pools if 1 < pool <= len(test)} | {len(test)})
    observers = {"bayes_oracle": Oracle(truth.fisher, test, repeats, population)}
    if train is not None:
        learnt_from = truth.rows(train) - centre
        observers["bayes_finite"] = learner(truth.fisher, test, repeats, population, learnt_from)
    parts = [_summary(name, observer, pools, n_draws, rng) for name, observer in observers.items()]
    parts.append(_closed_rows(truth, repeats, len(test)))
    information = np.mean([truth.information(n) for n in repeats])
    return pd.concat(parts, ignore_index=True).assign(
        unit=unit, n_repeats=repeats.mean(), information=information
    )


def _require_test_set(stimulus: NDArray, repeats: Floats) -> None:
    if len(stimulus) < 2 or len(np.unique(stimulus)) < len(stimulus):
        raise ValueError(
            f"{len(stimulus)} test images, {len(np.unique(stimulus))} of them distinct: retrieval needs "
            "at least two, each given once (for single trials give each image once, with n_repeats 1)"
        )
    if repeats.min() < 1:
        raise ValueError(
            f"an image with {repeats.min():g} trials has no response: leave it out of the test set"
        )


def _summary(
    name: str, observer: Observer, pools: list[int], n_draws: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Mean and standard error over simulated test sets."""
    records = []
    for _ in range(n_draws):
        by_brain, everything = observer.scores(rng)
        back = (by_brain - _log_mean_exp(everything)[:, None]).T  # (image, brain)
        for direction, scores in zip(DIRECTIONS, (by_brain, back), strict=True):
            records += [record | {"direction": direction} for record in metrics(scores, pools)]
    cells = pd.DataFrame(records).groupby(["direction", "metric", "pool"], sort=False)["value"]
    table = cells.agg(value="mean", se="sem").reset_index()
    return table.assign(limit=name)


def _log_mean_exp(scores: Floats) -> Floats:
    top = scores.max(axis=1)
    return top + np.log(np.exp(scores - top[:, None]).mean(axis=1))


def metrics(scores: Floats, pools: Sequence[int]) -> list[dict[str, object]]:
    """Metrics of a square score matrix whose diagonal is the truth: records of metric, pool, value.

    top1, top5 and top10 are exact expectations over random pools; two_way, the ranks and bits are of the
    whole pool. bits is the mean log2 of the truth's posterior times the pool: the information that the
    scores, taken as log likelihoods, give about which candidate it was.
    """
    n = len(scores)
    own = np.diag(scores)[:, None]
    better, ties = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1
    records = [
        {"metric": f"top{k}", "pool": pool, "value": expected_topk(better, ties, n, pool, k).mean()}
        for pool in pools
        for k in (1, 5, 10)
        if pool > k
    ]
    log_posterior = own[:, 0] - _log_mean_exp(scores)  # relative to 1 / n
    whole = {
        "two_way": 1 - (better + ties / 2).mean() / (n - 1),
        "median_rank": np.median(1 + better + ties / 2),
        "mean_rank": (1 + better + ties / 2).mean(),
        "bits": log_posterior.mean() / np.log(2),
    }
    return records + [{"metric": metric, "pool": n, "value": value} for metric, value in whole.items()]


def two_way_closed(eigen_snr: ArrayLike, n_nodes: int = 4000) -> float:
    """Two-way identification by the ideal observer for Gaussian features, a distractor independent of the
    target.

    1 - (1/pi) Int_0^{pi/2} Prod_k (1 + lambda_k / (2 sin^2 a))^(-1/2) da, with lambda the eigenvalues of S J.
    """
    snr = np.asarray(eigen_snr, dtype=np.float64)
    angle = (np.arange(n_nodes) + 0.5) * (np.pi / 2) / n_nodes
    log_product = -0.5 * np.log1p(snr[:, None] / (2 * np.sin(angle) ** 2)).sum(axis=0)
    return float(1 - np.exp(log_product).mean() / 2)


def eigen_snr(covariance: Floats, fisher: Floats) -> Floats:
    """Eigenvalues of S J, (mode,), not negative: signal-to-noise ratios of independent directions."""
    root = _root(covariance)
    return np.clip(np.linalg.eigvalsh(root.T @ fisher @ root), 0, None)


def _closed_rows(truth: Truth, repeats: Floats, n_images: int) -> pd.DataFrame:
    snr = eigen_snr(truth.population, truth.fisher)
    numbers, counts = np.unique(repeats, return_counts=True)
    value = np.average([two_way_closed(n * snr) for n in numbers], weights=counts)
    rows = [
        {"direction": d, "metric": "two_way_gaussian", "pool": n_images, "value": value, "se": 0.0}
        for d in DIRECTIONS
    ]
    return pd.DataFrame(rows).assign(limit="bayes_oracle")


def of_units(
    truth: Truth, trials: pd.DataFrame, pools: Sequence[int], units: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """Limits of a frozen split, as `wide` gives them: everything that the long table of results refers to.

    Single trials of an image that has several ask the same question, so every image counts once; which of
    many brains an image evoked is then no question, and brain_from_image is left out. Means within a run have
    no limit here.

    Parameters
    ----------
    trials : stimulus and split of every trial; training and validation trials are what can be learnt from
    pools : images per pool
    units : "average", "single" or "run"

    Raises
    ------
    ValueError : no trial is for testing
    """
    tested = trials.loc[trials["split"] == "test", "stimulus"]
    if tested.empty:
        raise ValueError(
            "the split has no test trial, so nothing is retrieved: check the protocol of `split`"
        )
    train = trials.loc[trials["split"].isin(["train", "validation"]), "stimulus"].to_numpy()
    stimulus, n_repeats = np.unique(tested, return_counts=True)
    learnt = (
        train if len(train) else None
    )  # where every trial tests in its turn, there is no one training set
    tables = []
    for unit in units:
        if unit not in ("average", "single"):
            continue
        n = n_repeats if unit == "average" else 1
        table = retrieval_limits(truth, stimulus, n, pools, train=learnt, unit=unit, seed=seed)
        if unit == "single" and n_repeats.max() > 1:
            table = table[table["direction"] == "image_from_brain"]
        tables.append(table)
    return wide(pd.concat(tables, ignore_index=True)) if tables else wide(pd.DataFrame(columns=list(LONG)))


def wide(limits: pd.DataFrame) -> pd.DataFrame:
    """One row per unit, metric, direction and pool, with columns limit_oracle and limit_finite."""
    names = {"bayes_oracle": "limit_oracle", "bayes_finite": "limit_finite"}
    index = ["unit", "metric", "direction", "pool"]
    table = limits.pivot(index=index, columns="limit", values="value").rename(columns=names)
    return table.reindex(columns=list(names.values())).reset_index().rename_axis(columns=None)
