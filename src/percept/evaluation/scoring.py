"""How a prediction is compared with a candidate: cosine, centred cosine, or a calibrated likelihood.

Cosine is not the best use of a prediction, even of a perfect linear one. The likelihood rule takes the
decoder as a black box, x_hat = A x + e with e ~ N(0, C), and learns A and C from cross-validated predictions
of the training images; test images are never seen by it.

    image_from_brain    log N(x_hat; A x_j, C)                                    j runs over images
    brain_from_image    log N(x_hat_j; A x, C) - log N(x_hat_j; mean, A S A' + C)    j runs over brains

The second term of the latter is what keeps brains that resemble every image from winning everywhere.

A full A and C of a few hundred dimensions cannot be learned from a few thousand images. A decoder that
predicts the mean of x given the brain, as ridge does, has Cov(x_hat, x) = Cov(x_hat): symmetric, positive. So
one set of directions, the eigenvectors of the symmetric part of that covariance where targets are (half)
whitened, makes A, C and S diagonal, and each direction costs three numbers: slope, noise and variance. In
simulated worlds this was better than full matrices for 600 to 9,000 training images (`benchmarks/ridge.py`).
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation import retrieval
from percept.evaluation.retrieval import Scorer

Rule = Literal["cosine", "centred_cosine", "likelihood"]
RULES: tuple[Rule, ...] = ("cosine", "centred_cosine", "likelihood")  # simplest first
RANKS = (8, 16, 32, 64, 128, 256, 512)
IMAGES_PER_DIRECTION = 4  # fewer training images than this per direction, and noise is fitted
WHITENING = 0.5  # share of the mean variance in the target covariance; 0.3 to 0.9 score alike
FEW = 1024  # dimensions up to which principal components are computed exactly
FLOOR = 1e-6  # least noise, as a share of the variance: a perfect decoder has none
DIRECTIONS = ("image_from_brain", "brain_from_image")


@dataclass(frozen=True)
class Cosine:
    """Cosine between prediction and target, each less its centre (dim,), or as they are (None)."""

    predicted_mean: NDArray | None = None
    target_mean: NDArray | None = None

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (brain, image) of predictions (brain, dim) and targets (image, dim)."""
        return _unit(predicted, self.predicted_mean) @ _unit(candidates, self.target_mean).T

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (image, brain) of the same arguments: the same numbers, asked from the other side."""
        return self.image_from_brain(predicted, candidates).T


@dataclass(frozen=True)
class Likelihood:
    """Gaussian log likelihoods, in nats up to a constant of each query.

    predicted_mean, target_mean : (dim,); basis : (dim, rank), no orthonormal one
    slope, noise, variance : (rank,), of the prediction along each direction: given the target, its mean is
        slope times the target's and its variance is `noise`; over all images its variance is `variance`
    """

    predicted_mean: NDArray
    target_mean: NDArray
    basis: NDArray
    slope: NDArray
    noise: NDArray
    variance: NDArray

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Values of log p(prediction | image), (brain, image)."""
        return self._given_image(*self._project(predicted, candidates))

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Values of log p(prediction | image) - log p(prediction), (image, brain)."""
        brains, images = self._project(predicted, candidates)
        marginal = -0.5 * brains**2 @ (1 / self.variance)
        return (self._given_image(brains, images) - marginal[:, None]).T

    def _project(self, predicted: NDArray, candidates: NDArray) -> tuple[NDArray, NDArray]:
        return (
            _project(predicted, self.predicted_mean, self.basis),
            _project(candidates, self.target_mean, self.basis),
        )

    def _given_image(self, brains: NDArray, images: NDArray) -> NDArray:
        expected = images * self.slope  # (image, rank)
        precision = 1 / self.noise
        own = brains**2 @ precision  # (brain,), the same for every image
        return (brains * precision) @ expected.T - 0.5 * (expected**2 @ precision + own[:, None])


@dataclass(frozen=True)
class Calibration:
    """Cross-validated predictions and targets of the training images, (image, dim), in the same order.

    Costly parts are computed once, when first asked for, and serve every rule and rank.
    """

    predicted: NDArray
    targets: NDArray

    def __post_init__(self) -> None:
        if np.shape(self.predicted) != np.shape(self.targets) or np.ndim(self.predicted) != 2:
            raise ValueError(
                f"predictions {np.shape(self.predicted)} and targets {np.shape(self.targets)} of the "
                "training images must be matrices of one shape, (image, dim), in the same order"
            )

    @cached_property
    def predicted_mean(self) -> NDArray:
        """Mean prediction (dim,)."""
        return self.predicted.mean(axis=0, dtype=np.float64)

    @cached_property
    def target_mean(self) -> NDArray:
        """Mean target (dim,)."""
        return self.targets.mean(axis=0, dtype=np.float64)

    @cached_property
    def ranks(self) -> list[int]:
        """Numbers of directions worth trying with so many images and dimensions."""
        n_images, n_dims = self.targets.shape
        most = max(1, min(n_dims, n_images // IMAGES_PER_DIRECTION, RANKS[-1]))
        return sorted({*(rank for rank in RANKS if rank < most), most})

    @cached_property
    def components(self) -> NDArray:
        """Principal components of the targets, (dim, rank), largest variance first."""
        return principal_components(self.targets, self.target_mean, self.ranks[-1])

    @cached_property
    def reduced(self) -> tuple[NDArray, NDArray]:
        """Predictions and targets along the principal components, (image, rank) each."""
        return (
            _project(self.predicted, self.predicted_mean, self.components),
            _project(self.targets, self.target_mean, self.components),
        )


class Validation(NamedTuple):
    """Predictions of images that took no part in training, and the images to choose among."""

    predicted: NDArray  # (brain, dim)
    stimulus: NDArray  # (brain,)
    features: NDArray  # (image, dim)
    shown: NDArray  # (image,)


@dataclass(frozen=True)
class Choice:
    """The scorer of each direction that validation preferred; itself a scorer.

    rules : direction -> name of the rule; ranks : direction -> directions kept, null for cosines
    table : direction, scoring, rank, top1, se, chosen: what each rule scored on validation images
    """

    scorers: dict[str, Scorer]
    rules: dict[str, Rule]
    ranks: dict[str, int | None]
    table: pd.DataFrame = field(repr=False)

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (brain, image)."""
        return self.scorers["image_from_brain"].image_from_brain(predicted, candidates)

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (image, brain)."""
        return self.scorers["brain_from_image"].brain_from_image(predicted, candidates)


def fit(calibration: Calibration, rule: Rule, rank: int | None = None) -> Scorer:
    """Learn a scoring rule from cross-validated predictions of training images.

    Parameters
    ----------
    rank : directions of the likelihood; the most that the number of images allows where absent

    Raises
    ------
    ValueError : unknown rule
    """
    if rule == "cosine":
        return Cosine()
    if rule == "centred_cosine":
        return Cosine(calibration.predicted_mean, calibration.target_mean)
    if rule == "likelihood":
        return _likelihood(calibration, rank or calibration.ranks[-1])
    raise ValueError(f"no scoring rule {rule!r}; there are: {', '.join(RULES)}")


def choose(calibration: Calibration, validation: Validation, pool: int = 300, margin: float = 1.0) -> Choice:
    """Choose rule and rank of each direction by retrieval among validation images.

    The rank is the one with the best expected top-1; among the rules, a simpler one is kept unless another
    beats it by more than `margin` standard errors of the paired difference. Ties keep the simpler rule, the
    smaller rank. A direction that is undefined (several brains per image) takes the rule of the other one.

    Parameters
    ----------
    pool : images per random pool, at most the validation images
    """
    options = [(rule, None, fit(calibration, rule)) for rule in RULES[:2]]
    options += [("likelihood", rank, fit(calibration, "likelihood", rank)) for rank in calibration.ranks]
    chosen, tables = {}, []
    for direction in DIRECTIONS:
        items = [_top1(scorer, direction, validation, pool) for _, _, scorer in options]
        if items[0] is None:
            chosen[direction] = chosen[DIRECTIONS[0]]
            continue
        chosen[direction] = _prefer(options, items, margin)
        tables.append(_table(direction, options, items, chosen[direction]))
    picked = {direction: options[index] for direction, index in chosen.items()}
    return Choice(
        scorers={direction: scorer for direction, (_, _, scorer) in picked.items()},
        rules={direction: rule for direction, (rule, _, _) in picked.items()},
        ranks={direction: rank for direction, (_, rank, _) in picked.items()},
        table=pd.concat(tables, ignore_index=True),
    )


def principal_components(X: NDArray, mean: NDArray, n: int) -> NDArray:
    """Leading eigenvectors (dim, n) of the covariance of X (row, dim); fewer where it has no more variance.

    Exact up to 1,024 dimensions; beyond, by subspace iteration from a fixed random start (Halko, Martinsson
    and Tropp 2011), which reads X six times and never copies it.
    """
    if X.shape[1] <= FEW:
        centred = X - mean
        variance, vectors = np.linalg.eigh(centred.T @ centred)
        kept = variance > FLOOR**2 * max(variance[-1], np.finfo(float).tiny)
        return vectors[:, kept][:, ::-1][:, :n]
    start = np.random.default_rng(0).standard_normal((X.shape[1], min(n + 16, *X.shape)))
    span = start.astype(np.float32)
    for _ in range(3):
        rows = np.linalg.qr(_project(X, mean, span))[0].astype(np.float32)
        span = X.T @ rows - np.outer(mean, rows.sum(axis=0)).astype(np.float32)
    vectors, size, _ = np.linalg.svd(span, full_matrices=False)
    return vectors[:, size > FLOOR * size[0]][:, :n]


def _likelihood(calibration: Calibration, rank: int) -> Likelihood:
    """Directions, slopes and noise along the first `rank` principal components of the targets."""
    brains, images = (values[:, :rank] for values in calibration.reduced)
    n_images = len(images)
    variance, vectors = np.linalg.eigh(images.T @ images / n_images)
    shrunk = (1 - WHITENING) * variance + WHITENING * variance.mean()
    whiten = vectors / np.sqrt(shrunk)  # (rank, rank)
    agreement = whiten.T @ (brains.T @ images / n_images) @ whiten
    strength, directions = np.linalg.eigh((agreement + agreement.T) / 2)
    basis = whiten @ directions[:, np.argsort(-strength)]
    u, v = brains @ basis, images @ basis
    slope = (u * v).mean(axis=0) / (v**2).mean(axis=0)
    total = (u**2).mean(axis=0)
    noise = np.maximum(total - slope**2 * (v**2).mean(axis=0), FLOOR * total)
    seen = slope > 0  # the others say nothing, or the opposite, about the image
    return Likelihood(
        calibration.predicted_mean,
        calibration.target_mean,
        calibration.components[:, :rank] @ basis[:, seen],
        slope[seen],
        noise[seen],
        total[seen],
    )


def _project(X: NDArray, mean: NDArray, basis: NDArray) -> NDArray:
    """(X - mean) @ basis in float64, without a copy of X."""
    return (X @ basis.astype(X.dtype)).astype(np.float64) - mean @ basis


def _unit(X: NDArray, mean: NDArray | None) -> NDArray:
    """Rows of X, less the mean, divided by their length; rows of zeros stay zero."""
    centred = np.asarray(X) if mean is None else np.asarray(X) - mean.astype(X.dtype)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1)


def _top1(scorer: Scorer, direction: str, validation: Validation, pool: int) -> NDArray | None:
    """Expected top-1 of every query; None where the direction is undefined."""
    question = getattr(retrieval, direction)(scorer, *validation)
    if question is None:
        return None
    ranks = retrieval.rank(question.scores, question.truth, question.identical)
    return retrieval.top_k(ranks, min(pool, ranks.n_items), 1)


def _prefer(options: list[tuple[Rule, int | None, Scorer]], items: list[NDArray], margin: float) -> int:
    """Index of the option to use; `options` are ordered from the simplest rule and smallest rank."""
    means = np.array([values.mean() for values in items])
    champions = [
        max((i for i, option in enumerate(options) if option[0] == rule), key=lambda i: (means[i], -i))
        for rule in RULES
    ]
    best = champions[0]
    for challenger in champions[1:]:
        gain = items[challenger] - items[best]
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        if gain.mean() > max(margin * error, 1e-12):
            best = challenger
    return best


def _table(
    direction: str, options: list[tuple[Rule, int | None, Scorer]], items: list[NDArray], chosen: int
) -> pd.DataFrame:
    records = [
        {
            "direction": direction,
            "scoring": rule,
            "rank": rank,
            "top1": values.mean(),
            "se": values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan,
            "chosen": index == chosen,
        }
        for index, ((rule, rank, _), values) in enumerate(zip(options, items, strict=True))
    ]
    return pd.DataFrame(records).astype({"rank": "Int64"})
