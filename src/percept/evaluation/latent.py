"""Which images are alike to the brain: clusters and distances among the embeddings that a decoder predicts.

Test images are compared with each other by what was decoded from the responses to them (repeats averaged,
unit length), and the same by their true embeddings. Three questions: do the predicted embeddings form
clusters (silhouette), are these the clusters of the true embeddings, or of what the images show (adjusted
mutual information), and are the same pairs of images near each other (rank correlation of distances).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.decoders.predictions import Predictions, read_predictions
from percept.evaluation import clustering, similarity, table
from percept.evaluation.clustering import Against, unit
from percept.evaluation.table import Label
from percept.files import PerceptError
from percept.statistics import percentile_interval, permutation_p, shuffled_items
from percept.targets import store

AVERAGED = ("average", "run", "single")  # the first of these test units that there is
FEWEST = 4  # test images of which distances can be compared


class Latents(NamedTuple):
    """Embeddings of the test images of one training.

    stimulus : (image,); predicted, true : unit vectors (image, dim)
    """

    stimulus: NDArray[np.int32]
    predicted: NDArray[np.float64]
    true: NDArray[np.float64]


class Analysed(NamedTuple):
    """Rows of the long table, and a row per image: stimulus, x, y, group, and the cluster of each method."""

    rows: pd.DataFrame
    images: pd.DataFrame


def read(predictions: str | Path, features: str | Path, units: Sequence[str]) -> Latents:
    """Embeddings of the test images, the responses to each averaged.

    Raises
    ------
    PerceptError : too few test images
    """
    whole = next(one for one in AVERAGED if one in units)
    stimulus, predicted = by_image(read_predictions(predictions, f"test/{whole}"))
    if len(stimulus) < FEWEST:
        raise PerceptError(
            f"{predictions} predicts {len(stimulus)} test images, among which there is nothing to compare: "
            f"`evaluation.latents` needs {FEWEST} or more. Leave this decoder out of it."
        )
    return Latents(stimulus, unit(predicted), unit(store.read(features, stimulus).reshape(len(stimulus), -1)))


def by_image(found: Predictions) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The images of some predictions, ascending, and the mean prediction of each, (image, dim)."""
    stimulus, of_row, counts = np.unique(found.stimulus, return_inverse=True, return_counts=True)
    summed = np.zeros((len(stimulus), found.predicted.shape[1]))
    np.add.at(summed, of_row, found.predicted)
    return stimulus, summed / counts[:, None]


def analyse(
    latents: Latents, groups: Sequence[str] | None, label: Label, settings: EvaluationConfig
) -> Analysed:
    """Everything about one training.

    Parameters
    ----------
    groups : (image,), the kind of the main object in each; None where nobody knows
    label : what the rows are about
    """
    rng = np.random.default_rng(settings.seed)
    shuffles = shuffled_items(len(latents.stimulus), settings.permutations, rng)
    records = list(_distances(latents, shuffles, settings))
    images = pd.DataFrame({"stimulus": latents.stimulus})
    for method in clustering.METHODS:
        for n_clusters in settings.latents.clusters:
            if n_clusters < len(latents.stimulus):
                name = f"{method}_{n_clusters}"
                found = _clusters(latents, method, n_clusters, settings)
                images[name] = found[0]
                records += _clustered(name, found, latents, groups, shuffles, settings)
    places = similarity.layout(latents.predicted, settings.latents.map, settings.seed)
    images = images.assign(
        x=places[:, 0],
        y=places[:, 1],
        group=None if groups is None else list(groups),
        kept=similarity.neighbours_kept(latents.predicted, places),
    )
    return Analysed(table.rows(label, records), images)


def _distances(
    latents: Latents, shuffles: NDArray, settings: EvaluationConfig
) -> Iterator[dict[str, object]]:
    predicted, true = map(similarity.cosine_distances, (latents.predicted, latents.true))
    rng = np.random.default_rng(settings.seed)
    low, high = similarity.rsa_interval(predicted, true, settings.bootstrap, settings.confidence, rng)
    records = _records("rsa", similarity.rsa(predicted, true, shuffles), len(latents.stimulus), settings)
    yield next(records) | {"ci_low": low, "ci_high": high}
    yield from records


def _clusters(
    latents: Latents, method: clustering.Method, n_clusters: int, settings: EvaluationConfig
) -> tuple[NDArray[np.intp], Against, NDArray[np.intp]]:
    """Clusters of the predicted embeddings, their silhouette, and the clusters of the true ones."""
    rng = np.random.default_rng([settings.seed, n_clusters])
    own = settings.latents
    labels, apart = clustering.separation(
        latents.predicted, n_clusters, method, rng, own.clouds, own.restarts
    )
    return labels, apart, clustering.METHODS[method](latents.true, n_clusters, rng, own.restarts)


def _clustered(
    name: str,
    found: tuple[NDArray[np.intp], Against, NDArray[np.intp]],
    latents: Latents,
    groups: Sequence[str] | None,
    shuffles: NDArray,
    settings: EvaluationConfig,
) -> Iterator[dict[str, object]]:
    """Records of one clustering.

    None has a bootstrap interval: a resample holds images twice, whose copies would form clusters.
    """
    labels, apart, of_images = found
    n_images = len(latents.stimulus)
    yield from _records(f"silhouette_{name}", apart, n_images, settings, "cloud")
    known = {"ami_images": of_images, "ami_categories": None if groups is None else np.array(groups)}
    for metric, reference in known.items():
        if reference is not None and len(np.unique(reference)) > 1:
            agreed = clustering.agreement(labels, reference, shuffles)
            yield from _records(f"{metric}_{name}", agreed, n_images, settings)


def _records(
    metric: str, found: Against, n_images: int, settings: EvaluationConfig, control: str = "shuffled"
) -> Iterator[dict[str, object]]:
    """The row of a value, then that of what it is where there is nothing to find."""
    null = found.null[~np.isnan(found.null)]
    yield {
        "metric": metric,
        "value": found.value,
        "n": n_images,
        "p_value": permutation_p(found.value, null) if len(null) and not np.isnan(found.value) else None,
    }
    if len(null):
        low, high = percentile_interval(null, settings.confidence)
        yield {
            "metric": metric,
            "value": float(null.mean()),
            "ci_low": low,
            "ci_high": high,
            "n": n_images,
            "control": control,
        }
