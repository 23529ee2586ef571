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
simulated worlds this was better than full matrices for 600 to 9,000 training images.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation import retrieval
from percept.evaluation.components import FLOOR, principal_components, project
from percept.evaluation.retrieval import Scorer

Rule = Literal["cosine", "centred_cosine", "likelihood"]
RULES: tuple[Rule, ...] = ("cosine", "centred_cosine", "likelihood")  # simplest first
RANKS = (8, 16, 32, 64, 128, 256, 512)
IMAGES_PER_DIRECTION = 4  # fewer training images than this per direction, and noise is fitted
WHITENING = 0.5  # share of the mean variance in the target covariance; 0.3 to 0.9 score alike
UNVALIDATED: Rule = "centred_cosine"  # robust to a common component, and nothing in it is fitted but means
UNVALIDATED_RANK = 64
TABLE = ["direction", "scoring", "rank", "pool", "top1", "se", "chosen"]
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
            project(predicted, self.predicted_mean, self.basis),
            project(candidates, self.target_mean, self.basis),
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
            project(self.predicted, self.predicted_mean, self.components),
            project(self.targets, self.target_mean, self.components),
        )


class Validation(NamedTuple):
    """Predictions of images that took no part in training, and the images to choose among."""

    predicted: NDArray  # (brain, dim)
    stimulus: NDArray  # (brain,)
    features: NDArray  # (image, dim)
    shown: NDArray  # (image,)


@dataclass(frozen=True)
class Both:
    """A scorer with a rule of its own for each direction."""

    by_direction: dict[str, Scorer]

    def image_from_brain(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (brain, image)."""
        return self.by_direction["image_from_brain"].image_from_brain(predicted, candidates)

    def brain_from_image(self, predicted: NDArray, candidates: NDArray) -> NDArray:
        """Scores (image, brain)."""
        return self.by_direction["brain_from_image"].brain_from_image(predicted, candidates)


@dataclass(frozen=True)
class Choice(Both):
    """What validation preferred in each direction; itself a scorer.

    rules : direction -> name of the chosen rule; ranks : direction -> its directions, null for cosines
    by_rule : rule -> its scorer, at the rank that validation preferred for each direction
    table : direction, scoring, rank, pool, top1, se, chosen: what each option scored on validation images
    """

    rules: dict[str, Rule]
    ranks: dict[str, int | None]
    by_rule: dict[Rule, Scorer]
    table: pd.DataFrame = field(repr=False)


class _Option(NamedTuple):
    rule: Rule
    rank: int | None
    scorer: Scorer


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


def choose(
    calibration: Calibration, validation: Validation | None, pool: int = 300, margin: float = 0.0
) -> Choice:
    """Choose rule and rank of each direction by retrieval among validation images.

    The rank is the one with the best expected top-1; among the rules, a simpler one is kept unless another
    beats it by more than `margin` standard errors of the paired difference. Ties keep the simpler rule and
    the smaller rank. Where validation cannot tell, `UNVALIDATED` stands: there are no validation images, or
    brains have no one-to-one images in a direction (that direction then follows the other one).

    Parameters
    ----------
    pool : images per random pool, at most the validation images
    """
    return _choose(_options(calibration), validation, pool, margin)


def choose_cosine(target_mean: NDArray, validation: Validation | None, pool: int = 300) -> Choice:
    """Choose between cosine as it is and centred, where no prediction of a training image is known.

    Predictions are centred on those of the validation images; without any, cosine stands.

    Parameters
    ----------
    target_mean : (dim,), over training images
    """
    if validation is None:
        return plain()
    centred = Cosine(validation.predicted.mean(axis=0, dtype=np.float64), target_mean)
    options = [_Option("cosine", None, Cosine()), _Option("centred_cosine", None, centred)]
    return _choose(options, validation, pool, 0.0)


def plain() -> Choice:
    """Cosine in both directions, fitted to nothing.

    Where runs are left out in turn, the training rows of one fold are the test rows of another: a rule
    that was calibrated or chosen on them all would have seen the test labels.
    """
    by_direction: dict[str, Scorer] = dict.fromkeys(DIRECTIONS, Cosine())
    return Choice(
        by_direction=by_direction,
        rules=dict.fromkeys(DIRECTIONS, RULES[0]),
        ranks=dict.fromkeys(DIRECTIONS),
        by_rule={RULES[0]: Both(by_direction)},
        table=pd.DataFrame(columns=TABLE),
    )


def _choose(options: list[_Option], validation: Validation | None, pool: int, margin: float) -> Choice:
    champions, chosen, tables = {}, {}, []
    for direction in DIRECTIONS:
        items = _items(options, direction, validation, pool)
        if items is None:
            champions[direction] = champions.get(DIRECTIONS[0], _by_default(options))
            chosen[direction] = chosen.get(DIRECTIONS[0], champions[direction][UNVALIDATED])
            continue
        champions[direction] = _best_of_each_rule(options, items)
        chosen[direction] = _prefer(champions[direction], items, margin)
        tables.append(_table(direction, options, items, chosen[direction]))
    picked = {direction: options[index] for direction, index in chosen.items()}
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=TABLE)
    return Choice(
        by_direction={direction: option.scorer for direction, option in picked.items()},
        rules={direction: option.rule for direction, option in picked.items()},
        ranks={direction: option.rank for direction, option in picked.items()},
        by_rule={
            rule: Both({direction: options[best[rule]].scorer for direction, best in champions.items()})
            for rule in champions[DIRECTIONS[0]]
        },
        table=table.assign(pool=None if validation is None else min(pool, len(validation.shown)))[TABLE],
    )


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


def _unit(X: NDArray, mean: NDArray | None) -> NDArray:
    """Rows of X, less the mean, divided by their length; rows of zeros stay zero."""
    centred = np.asarray(X) if mean is None else np.asarray(X) - mean.astype(X.dtype)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 0, length, 1)


def _options(calibration: Calibration) -> list[_Option]:
    """Every rule, and the likelihood with every rank, from the simplest on."""
    cosines = [_Option(rule, None, fit(calibration, rule)) for rule in RULES[:2]]
    ranks = calibration.ranks
    return cosines + [_Option("likelihood", rank, fit(calibration, "likelihood", rank)) for rank in ranks]


def _items(
    options: list[_Option], direction: str, validation: Validation | None, pool: int
) -> list[NDArray] | None:
    """Expected top-1 of every query under every option; None where the direction is undefined."""
    if validation is None:
        return None
    items = []
    for option in options:
        question = getattr(retrieval, direction)(option.scorer, *validation)
        if question is None:
            return None
        ranks = retrieval.rank(question.scores, question.truth, question.identical)
        items.append(retrieval.top_k(ranks, min(pool, ranks.n_items), 1))
    return items


def _by_default(options: list[_Option]) -> dict[Rule, int]:
    """An option of each rule where nothing was validated: for the likelihood, a moderate rank."""
    moderate = [index for index, option in enumerate(options) if (option.rank or 0) <= UNVALIDATED_RANK]
    return {rule: [i for i in moderate if options[i].rule == rule][-1] for rule in _rules(options)}


def _rules(options: list[_Option]) -> list[Rule]:
    """The rules among which there is a choice, simplest first."""
    return list(dict.fromkeys(option.rule for option in options))


def _best_of_each_rule(options: list[_Option], items: list[NDArray]) -> dict[Rule, int]:
    """Index of the best option of each rule; ties go to the smaller rank, which comes first."""
    means = [values.mean() for values in items]
    return {
        rule: max(
            (i for i, option in enumerate(options) if option.rule == rule), key=lambda i: (means[i], -i)
        )
        for rule in _rules(options)
    }


def _prefer(champions: dict[Rule, int], items: list[NDArray], margin: float) -> int:
    """Index of the option to use: from the simplest rule on, a challenger has to win clearly."""
    best, *challengers = champions.values()
    for challenger in challengers:
        gain = items[challenger] - items[best]
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.inf
        if gain.mean() > max(margin * error, np.finfo(np.float32).eps):
            best = challenger
    return best


def _table(direction: str, options: list[_Option], items: list[NDArray], chosen: int) -> pd.DataFrame:
    """What each option scored on validation images, with the standard error of that mean."""
    records = [
        {
            "direction": direction,
            "scoring": option.rule,
            "rank": option.rank,
            "top1": values.mean(),
            "se": values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan,
            "chosen": index == chosen,
        }
        for index, (option, values) in enumerate(zip(options, items, strict=True))
    ]
    return pd.DataFrame(records).astype({"rank": "Int64"})
