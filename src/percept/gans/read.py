"""What a GAN is trained on: the images of a pool, their embeddings, and how much noise these get."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.decoders.predictions import read_predictions
from percept.files import PerceptError
from percept.gan_settings import GanSection
from percept.targets import folder, pool, store

log = logging.getLogger(__name__)
AT_ONCE = 4096  # rows of the pool that are compared with the data set together


@dataclass(frozen=True)
class Photographs:
    """Images of a pool by which a GAN is trained.

    Attributes
    ----------
    images : of the pool, at the side of the network
    rows : (n,) of the images that may be learnt from
    embeddings : per condition (n, feature) float32, of these
    strengths : per condition, quantiles of the noise
    targets : per condition the settings of its target
    left_out : images that were left out, because the data set has them too
    """

    images: folder.ImageFolder
    rows: NDArray[np.int64]
    embeddings: tuple[NDArray[np.float32], ...]
    strengths: tuple[tuple[float, ...], ...]
    targets: tuple[Mapping[str, Any], ...]
    left_out: int

    @property
    def conditions(self) -> NDArray[np.float32]:
        """All conditions beside each other, (n, feature)."""
        return np.concatenate(self.embeddings, axis=1)


def photographs(
    cfg: GanSection, given: Mapping[str, Any], images: str | Path, targets: Sequence[Mapping[str, Any]]
) -> Photographs:
    """Read what the rule was given.

    Parameters
    ----------
    given : inputs of the rule: `files` is the table of the pool's images, `embeddings` per condition a file
        of theirs, `features` per condition the index of the data set's stimuli, `predictions_<i>` the files
        of predictions of the decoder of condition i, one per subject
    images : folder of the pool
    targets : per condition the settings of its target

    Raises
    ------
    PerceptError : embeddings of another number of images, of another network, or not finite; no image left,
        or no validation images to measure errors on
    """
    pictures = folder.read_list(given["files"], images, cfg.network.side)
    pairs = list(zip(map(Path, given["embeddings"]), map(Path, given["features"]), strict=True))
    read = [_embeddings(path, features, len(pictures)) for path, features in pairs]
    kept = np.flatnonzero(~_known(read[0], store.read(pairs[0][1], _stimuli(pairs[0][1])), cfg.same))
    least = cfg.training.measured_images + cfg.training.batch_size
    if len(kept) < least:
        raise PerceptError(
            f"the pool {cfg.pool!r} has {len(pictures)} images, {len(pictures) - len(kept)} of which the "
            f"data set has too; {len(kept)} are left, and the training of a GAN needs {least}: "
            f"`training.measured_images` held out, and a batch. Add images to the pool, or lower these two."
        )
    strengths = cfg.noise.strengths or tuple(
        _matched(given[f"predictions_{number}"], features, values[kept])
        for number, ((_, features), values) in enumerate(zip(pairs, read, strict=True))
    )
    chosen = tuple(values[kept] for values in read)
    return Photographs(pictures, kept, chosen, strengths, tuple(targets), len(pictures) - len(kept))


def _embeddings(path: Path, features: Path, n_images: int) -> NDArray[np.float32]:
    """Embeddings of the whole pool, (image, feature), of the network that the data set's features are of."""
    with pool.open_pool(path) as known:
        if known.shape[0] != n_images:
            raise PerceptError(
                f"{path} holds {known.shape[0]} embeddings, and the pool has {n_images} images: row i has to "
                "belong to the i-th of the sorted paths, or the network would learn to show something else "
                "than it is told. Make the embeddings again (`--forcerun encode_pool`)."
            )
        if isinstance(known, pool.FeaturesPool):
            with store.open_features(features) as stored:
                store.check(known.features.fingerprint, stored.fingerprint, path)
        values = known.read(np.arange(n_images))
    if n_bad := int((~np.isfinite(values)).any(axis=1).sum()):
        raise PerceptError(
            f"{path}: embeddings of {n_bad} images are not finite, so they cannot condition a network: the "
            "file is damaged, or its network overflowed in half precision. Make it again."
        )
    return values


def _stimuli(features: Path) -> NDArray[np.int32]:
    with store.open_features(features) as stored:
        return np.asarray(stored.stimuli, dtype=np.int32)


def _known(embeddings: NDArray[np.float32], stimuli: NDArray[np.float32], same: float) -> NDArray[np.bool_]:
    """Whether an image of the pool, (image, feature), is one of the data set, (stimulus, feature)."""
    mean, spread = standard(embeddings)
    seen = pool.prepare((stimuli - mean) / spread, "cosine")
    found = []
    for start in range(0, len(embeddings), AT_ONCE):
        block = pool.prepare((embeddings[start : start + AT_ONCE] - mean) / spread, "cosine")
        found.append((block @ seen.T).max(axis=1) >= same)
    known = np.concatenate(found)
    if known.any():
        log.warning(
            "%d of %d images of the pool are left out: their embeddings are those of stimuli (cosine of %g "
            "or more), and a network that has seen a test image may show it from memory",
            known.sum(), len(known), same,
        )  # fmt: skip
    return known


def standard(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and spread (feature,) by which a generator standardises; a constant feature keeps its scale."""
    spread = embeddings.std(axis=0)
    return embeddings.mean(axis=0), np.where(spread > 0, spread, 1).astype(np.float32)


def _matched(
    predictions: Sequence[str | Path], features: Path, embeddings: NDArray[np.float32]
) -> tuple[float, ...]:
    """Quantiles of the noise that moves embeddings as far as a decoder's errors on validation images do."""
    from percept.backbones.gan.conditions import matched_strengths

    mean, spread = standard(embeddings)
    predicted, true = [], []
    for path in predictions:
        found = read_predictions(path, "validation")
        predicted.append((found.predicted.reshape(len(found.stimulus), -1) - mean) / spread)
        true.append((store.read(features, found.stimulus) - mean) / spread)
    strengths = matched_strengths(np.concatenate(predicted), np.concatenate(true))
    log.info("noise on conditions, matched: %s", ", ".join(f"{value:.3f}" for value in strengths))
    return strengths
