"""Rows of the long table for one reconstruction: pixel metrics, with the floors and ceilings of images."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.evaluation import controls, images, retrieval, table
from percept.evaluation.measure import Items, Measure, Scores, summarise
from percept.evaluation.table import Label


def score_reconstruction(
    reconstructed: NDArray,
    true: NDArray,
    stimulus: NDArray,
    label: Label,
    settings: EvaluationConfig,
    others: Mapping[str, NDArray] | None = None,
) -> Scores:
    """Score reconstructions against the images that were seen, and controls beside them.

    Parameters
    ----------
    reconstructed, true : (image, height, width, 3) uint8, of one size
    stimulus : (image,), the image behind each row
    others : control -> images like `reconstructed`, such as `mean_image`, `nearest_train`, `random_image`
        and `recovery`; they are scored in the same way

    Raises
    ------
    ValueError : images of different sizes, or not one of each per stimulus
    """
    sets = {label.control: reconstructed, **(others or {})}
    scores = [
        _score(made, true, stimulus, replace(label, control=control), settings)
        for control, made in sets.items()
    ]
    if label.control is None and len(true) > 1:
        scores.append(_shuffled_ssim(reconstructed, true, stimulus, label, settings))
    rows = table.concat([score.rows for score in scores])
    return Scores(rows, table.concat([score.items for score in scores], table.ITEM_SCHEMA))


def _score(
    reconstructed: NDArray, true: NDArray, stimulus: NDArray, label: Label, settings: EvaluationConfig
) -> Scores:
    if not len(reconstructed) == len(true) == len(stimulus):
        raise ValueError(
            f"{label.subject} {label.name}: {len(reconstructed)} reconstructions, {len(true)} true images "
            f"and {len(stimulus)} stimuli do not match (control: {label.control}); give one of each per image"
        )
    measures = image_measures(reconstructed, true)
    return summarise(measures, _each(stimulus), np.arange(len(stimulus)), label, settings)


def _each(stimulus: NDArray) -> Items:
    """Every row is an item."""
    return Items(np.arange(len(stimulus)), np.asarray(stimulus), np.full(len(stimulus), -1))


def image_measures(reconstructed: NDArray, true: NDArray) -> Iterator[Measure]:
    """PixCorr, SSIM, and two-way identification by pixels."""
    correlations = images.pixel_correlations(reconstructed, true)
    yield Measure("pixcorr", np.diag(correlations), correlations)
    yield Measure("ssim", images.ssim(reconstructed, true))
    if len(true) > 1:
        own = retrieval.two_way(images.identification_ranks(correlations, true))
        every = retrieval.two_way(retrieval.rank_all(correlations))
        chance = controls.chance("pixel_two_way", len(true))
        yield Measure("pixel_two_way", own, every, chance, pool=len(true))


def _shuffled_ssim(
    reconstructed: NDArray, true: NDArray, stimulus: NDArray, label: Label, settings: EvaluationConfig
) -> Scores:
    """SSIM of one shuffled pairing without fixed points: all pairs would take hours at full size."""
    order = np.random.default_rng(settings.seed).permutation(len(true))
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)  # a single cycle: nobody keeps the own image
    measure = Measure("ssim", images.ssim(reconstructed, true[partner]), note="one shuffled pairing")
    shuffled = replace(label, control="shuffled")
    return summarise([measure], _each(stimulus), np.arange(len(stimulus)), shuffled, settings)
