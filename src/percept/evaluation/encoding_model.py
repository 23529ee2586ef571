"""A linear encoding model: features of an image to the response of every voxel or vertex.

The challenge's baseline (Algonauts 2023 development kit): features are standardised, reduced to 100 principal
components, both on training images alone, and each vertex is fitted by least squares. Ridge is the
alternative, with the solver of the decoders.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from percept.config import EncodingConfig
from percept.datasets import splits
from percept.decoders import ridge, units
from percept.evaluation.encoded import ROW, Encoded
from percept.files import PerceptError
from percept.targets import store as targets
from percept.voxels import normalise, roi, store

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
VOXELS_AT_ONCE = 2048  # columns of the responses solved in float64 at a time


@dataclass(frozen=True)
class Basis:
    """Features of the training images, standardised and turned onto their principal components.

    mean, scale : (feature,); axes : (feature, component); U : (image, component), orthonormal scores
    singular : (component,), so that the scores are U * singular
    """

    mean: "Tensor"
    scale: "Tensor"
    axes: "Tensor"
    U: "Tensor"
    singular: "Tensor"

    def scores(self, features: ROW) -> "Tensor":
        """Components (image, component) of features (image, feature) of any images."""
        import torch

        rows = torch.as_tensor(features, device=self.axes.device)
        return (((rows - self.mean) / self.scale) @ self.axes).double()


def basis(features: ROW, n_components: int | None) -> Basis:
    """Standardise training features (image, feature) and keep their leading components, or all of them.

    A feature that does not vary over the training images is left out of account.

    Raises
    ------
    PerceptError : no feature varies
    """
    import torch

    from percept.backbones.device import choose

    rows = torch.as_tensor(np.ascontiguousarray(features, np.float32), device=choose("auto"))
    spread, mean = torch.var_mean(rows, dim=0, correction=0)
    scale = spread.sqrt()
    scale = torch.where(scale > 1e-6 * mean.abs(), scale, torch.inf)  # a constant feature becomes 0
    standardised = (rows - mean) / scale
    U, squared = ridge.factorise(standardised - standardised.mean(dim=0))
    if not len(squared) or not squared[-1] > 0:
        raise PerceptError(
            "the features of the training images are all alike, so nothing can be predicted from them: name "
            "another target for this encoding model."
        )
    kept = slice(None) if n_components is None else slice(max(0, len(squared) - n_components), None)
    U, singular = U[:, kept], squared[kept].sqrt()
    axes = standardised.T @ (U / singular).float()
    return Basis(mean, scale, axes, U, singular)


def fit_predict(
    settings: EncodingConfig, features: ROW, responses: ROW, others: Sequence[ROW]
) -> list[NDArray[np.float32]]:
    """Fit every voxel on training images, and predict its responses to other images.

    Parameters
    ----------
    features : (image, feature), training images
    responses : (image, voxel), theirs
    others : features (image, feature) of the images to predict, set by set

    Returns
    -------
    (image, voxel) float32 for each of `others`
    """
    found = basis(features, settings.components)
    scores = [found.scores(rows) for rows in others]
    predicted = [np.empty((len(rows), responses.shape[1]), np.float32) for rows in others]
    for columns, weights, mean in _solutions(settings, found, responses):
        for out, rows in zip(predicted, scores, strict=True):
            out[:, columns] = (rows @ weights + mean).float().cpu().numpy()
    return predicted


def _solutions(
    settings: EncodingConfig, found: Basis, responses: ROW
) -> Iterator[tuple[slice, "Tensor", "Tensor"]]:
    """Some voxels at a time: which, their weights (component, voxel) and their means (voxel,)."""
    import torch

    design = _design(settings, found) if settings.method == "ridge" else None
    for start in range(0, responses.shape[1], VOXELS_AT_ONCE):
        columns = slice(start, min(start + VOXELS_AT_ONCE, responses.shape[1]))
        Y = torch.as_tensor(responses[:, columns], device=found.U.device).double()
        mean = Y.mean(dim=0)
        if design is None:  # least squares on orthonormal scores
            yield columns, (found.U.T @ (Y - mean)) / found.singular[:, None], mean
        else:
            solution = ridge.solve(design, Y, ridge.cross_validate(design, Y).best)
            yield columns, solution.weights.double(), mean


def _design(settings: EncodingConfig, found: Basis) -> ridge.Design:
    scores = (found.U * found.singular).float().cpu().numpy()
    chosen = ridge.RidgeConfig(target=settings.target, alphas=settings.alphas, standardise=False)
    return ridge.Design.of(chosen, scores, np.arange(len(scores)), settings.seed)


def encode(
    settings: EncodingConfig,
    folder: Path,
    features: str | Path,
    voxels: Mapping[str, Any],
    withheld: NDArray[np.int32],
) -> Encoded:
    """Fit on the training images of a subject, predict its test images and those without responses.

    Parameters
    ----------
    folder : of the subject's voxels
    features : index of the cached target
    voxels : `normalisation` and own `rois` of the configuration
    withheld : (image,), ids of test images without responses

    Raises
    ------
    PerceptError : the split leaves runs out one by one, or as of `normalise.load_recorded`, `basis` and the
        readers of targets
    """
    trials = store.read_trials(folder)
    folds = splits.folds(trials)
    if len(folds) > 1:
        raise PerceptError(
            f"{folder}: an encoding model is fitted once, but this split leaves out {len(folds)} runs one by "
            "one. Take `encodings` out of the configuration, or choose another `split.protocol`."
        )
    custom, how = voxels["rois"], voxels["normalisation"]
    X, applied = normalise.load_recorded(folder, settings.roi, how, custom)
    train, shown = units.units(X, trials, folds[0].train, "average")
    measured, frame = units.units(X, trials, folds[0].test, "average")
    log.info("fitting %d voxels on %d images", X.shape[1], len(shown))
    with targets.open_features(features) as known:
        own, *others = (known.read(ids) for ids in (shown["stimulus"], frame["stimulus"], withheld))
    predicted, kept_back = fit_predict(settings, own, train, others)
    columns = np.flatnonzero(roi.select(store.read_voxels(folder), settings.roi, custom))
    return Encoded(
        predicted, measured, frame["stimulus"].to_numpy(np.int32), frame["n_repeats"].to_numpy(np.int32),
        columns, withheld, _as_stored(kept_back, applied),
    )  # fmt: skip


def _as_stored(predicted: ROW, applied: normalise.Applied) -> ROW:
    """Predictions (image, voxel) in the units of the stored responses, over the mean of the sessions."""
    sd = np.where(applied.sd > 0, applied.sd, 0)  # a voxel without a z-score is predicted by its mean
    return (predicted * sd.mean(axis=0) + np.nan_to_num(applied.mean).mean(axis=0)).astype(np.float32)
