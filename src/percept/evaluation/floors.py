"""What any reconstruction has to be better than: images that need no brain, or only a look-up."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.decoders.predictions import read_predictions
from percept.evaluation import controls
from percept.evaluation.imagesets import ImageSet, Source, Stimuli
from percept.files import PerceptError
from percept.targets import pool, store


def training(trials: pd.DataFrame) -> NDArray[np.integer]:
    """The training images (stimulus,) of a subject's split, ascending, from its trials."""
    return np.unique(trials.loc[trials["split"] == "train", "stimulus"].to_numpy())


def shared(source: Source, train: NDArray[np.integer], n_images: int, seed: int) -> Mapping[str, ImageSet]:
    """Controls that do not depend on what is decoded: the mean of the training images, and random ones.

    Parameters
    ----------
    train : (stimulus,) training images
    n_images : how many of each, one per test image
    """
    mean = controls.mean_image(source.images([one])[0] for one in train)
    drawn = train[controls.random_train(n_images, len(train), seed)]
    return {"mean_image": controls.repeated(mean, n_images), "random_image": Stimuli(source, drawn)}


def nearest(
    source: Source,
    predictions: str | Path,
    features: str | Path,
    stimulus: NDArray[np.integer],
    train: NDArray[np.integer],
) -> ImageSet:
    """Per test image (stimulus,) the training image that a decoder's prediction is nearest to.

    Parameters
    ----------
    predictions, features : file of the decoder's predictions, and index of the target that it predicts

    Raises
    ------
    PerceptError : the predictions are of other test images
    """
    found = read_predictions(predictions, "test/average")
    if not np.array_equal(found.stimulus, stimulus):
        raise PerceptError(
            f"{predictions} predicts {len(found.stimulus)} images, but others were reconstructed "
            f"({len(stimulus)}): files of different runs lie side by side. Delete the reconstructions of "
            "this subject and run the same command again."
        )
    return Stimuli(source, nearest_stimuli(found.predicted, features, train))


def nearest_stimuli(
    predicted: NDArray, features: str | Path, train: NDArray[np.integer]
) -> NDArray[np.integer]:
    """The training image, (query,), whose cached target correlates best with each predicted one.

    As `controls.nearest_train`, for targets that do not fit into memory.

    Parameters
    ----------
    predicted : (query, ...) predicted targets
    features : index of the target
    train : (stimulus,) training images
    """
    with store.open_features(features) as cached:
        known = pool.FeaturesPool(cached, train)
        centred = pool.Centred(known, pool.mean(known))
        query = predicted.reshape(len(predicted), -1) - centred.mean
        found = pool.search(query, centred, 1, "correlation")
    return train[found.row[:, 0]]
