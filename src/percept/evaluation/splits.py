"""The same score on training, validation and test images: what a decoder fits, and what is left of it.

Training images are scored by the model that was trained on them, the others are out of sample; the distance
between the two is memory. Beside each score stand what it takes no brain to reach: the mean of the training
targets, or the mean training image, and pairs that do not belong together. (Koios1143/Machine-Learning-Final,
2023, whose second and third experiment these are, printed none of the two.)
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.decoders.predictions import read_predictions
from percept.decoders.task import FITTED
from percept.evaluation import controls, table
from percept.evaluation.imagesets import BATCH, ImageSet, Reconstructed, Source, Stimuli, batches
from percept.evaluation.measure import Measure, images_as_items, summarise
from percept.evaluation.table import TEXT, Label
from percept.targets import pool, store

GROUPS = {"train": FITTED, "validation": "validation", "test": "test/average"}  # split -> predictions
SCHEMA = {**table.SCHEMA, "split": TEXT}
MEAN_TARGET, MEAN_IMAGE = "mean_target", "mean_image"  # controls that know the training images alone
ROWS = 256  # whose true targets lie in memory at a time
Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # images -> pooled embeddings (image, feature)


def score_predictions(
    predictions: str | Path,
    features: str | Path,
    train: NDArray[np.integer],
    label: Label,
    settings: EvaluationConfig,
) -> pd.DataFrame:
    """Mean absolute error of a decoder on every split, with the error of two controls.

    Controls: `mean_target`, the mean of the training targets whatever was seen, and `shuffled`, each
    prediction against the target of another image of the same split. Lower is better, and no value is good by
    itself: it depends on the scale and the spread of the target.

    Parameters
    ----------
    predictions, features : predictions.h5 of the run, and the index of its target
    train : (stimulus,) training images
    """
    with store.open_features(features) as known:
        mean = pool.mean(pool.FeaturesPool(known, train))
        parts = []
        for split, group in GROUPS.items():
            found = read_predictions(predictions, group, missing_ok=True)
            if found is None:
                continue
            errors = _errors(found.predicted, found.stimulus, known, mean, settings.seed)
            own = Measure("mae", errors["own"], shuffled=errors["shuffled"], lower_is_better=True)
            floor = Measure("mae", errors["mean"], lower_is_better=True)
            parts.append(_rows([(label, own), (replace(label, control=MEAN_TARGET), floor)],
                               found.stimulus, split, settings))  # fmt: skip
    return table.concat(parts, SCHEMA)


def _errors(
    predicted: NDArray, stimulus: NDArray, known: store.Features, mean: NDArray, seed: int
) -> dict[str, NDArray[np.float64]]:
    """Mean absolute error (row,) of the predictions, of the mean, and of predictions of other images."""
    partner = controls.derangement(len(stimulus), seed)
    errors = {name: np.empty(len(stimulus)) for name in ("own", "mean", "shuffled")}
    everything = slice(0, known.n_dims)
    for start in range(0, len(stimulus), ROWS):
        rows = slice(start, start + ROWS)
        true = known.read(stimulus[rows], everything)
        other = known.read(stimulus[partner[rows]], everything)
        errors["own"][rows] = np.abs(predicted[rows] - true).mean(axis=1, dtype=np.float64)
        errors["shuffled"][rows] = np.abs(predicted[rows] - other).mean(axis=1, dtype=np.float64)
        errors["mean"][rows] = np.abs(mean - true).mean(axis=1, dtype=np.float64)
    return errors


def score_images(
    paths: Mapping[str, str | Path],
    source: Source,
    average: NDArray[np.uint8],
    encode: Encode,
    label: Label,
    settings: EvaluationConfig,
) -> pd.DataFrame:
    """Mean cosine of the embeddings of made and seen images on every split, with that of two controls.

    Embeddings of unrelated photographs have a high cosine too, so the number says nothing without its
    controls: `mean_image`, the mean of the training images in the place of each, and `shuffled`, images that
    do not belong together (the mean over permutations of the images of the split).

    Parameters
    ----------
    paths : split -> file of its images
    average : (height, width, 3), the mean of the training images
    """
    mean = encode(average[None])
    parts = []
    for split, path in paths.items():
        made = Reconstructed(Path(path))
        seen = _embedded(Stimuli(source, made.stimulus), encode)
        likeness = cosines(_embedded(made, encode), seen)
        own = Measure("clip_cosine", np.diag(likeness), if_true=likeness)
        floor = Measure("clip_cosine", cosines(mean, seen)[0])
        pairs = [(label, own), (replace(label, control=MEAN_IMAGE), floor)]
        parts.append(_rows(pairs, made.stimulus, split, settings))
    return table.concat(parts, SCHEMA)


def cosines(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Cosine (n, m) of every row of `a`, (n, feature), with every row of `b`, (m, feature); of 0 it is 0."""
    units = []
    for rows in (a.astype(np.float64), b.astype(np.float64)):
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        units.append(rows / np.where(length > 0, length, 1))
    return units[0] @ units[1].T


def _embedded(images: ImageSet, encode: Encode) -> NDArray[np.float32]:
    return np.concatenate([encode(batch) for batch in batches(images, BATCH)])


def _rows(
    pairs: list[tuple[Label, Measure]], stimulus: NDArray, split: str, settings: EvaluationConfig
) -> pd.DataFrame:
    items, truth = images_as_items(stimulus), np.arange(len(stimulus))
    rows = [summarise([measure], items, truth, label, settings).rows for label, measure in pairs]
    return table.conform(table.concat(rows).assign(split=split), SCHEMA)
