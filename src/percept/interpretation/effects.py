"""What a change of the response changes: in the embedding, and in how well the image is found."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from percept.statistics import expected_topk

METRICS = ("projection", "cosine", "top1", "two_way")


@dataclass(frozen=True)
class Scale:
    """How predictions of some test images are read.

    Embeddings of images, and predictions of them, share a large mean that says nothing of an image. Each is
    taken less its mean over the training images.

    Attributes
    ----------
    true : (image, dim), true embeddings, less the mean of the training ones
    predicted_mean : (dim,), mean prediction of the intact decoder for the training images
    pool : candidates of the retrieval score, the true one included; at most as many as there are images
    """

    true: NDArray[np.float64]
    predicted_mean: NDArray[np.float64]
    pool: int

    @cached_property
    def directions(self) -> NDArray[np.float64]:
        """Unit vectors (image, dim) from the mean image towards each."""
        return _unit(self.true)

    def scores(self, predicted: NDArray) -> dict[str, NDArray[np.float64]]:
        """Of predictions (image, dim), per image (image,):

        ``projection`` onto the direction of the true embedding, <f(x), u>, in units of the target;
        ``cosine`` to it; ``top1``, the chance that the true image is ranked first in a random pool;
        ``two_way``, the share of other images that it beats. Both rank by cosine, the brain asking.
        """
        centred = predicted.astype(np.float64) - self.predicted_mean
        cosines = _unit(centred) @ self.directions.T  # (brain, image)
        own = cosines.diagonal()[:, None]
        better, ties = (cosines > own).sum(axis=1), (cosines == own).sum(axis=1) - 1
        n = len(cosines)
        return {
            "projection": np.einsum("id,id->i", centred, self.directions),
            "cosine": own[:, 0].copy(),
            "top1": expected_topk(better, ties, n, min(self.pool, n), 1),
            "two_way": 1 - (better + ties / 2) / max(n - 1, 1),
        }

    def table(self, predicted: NDArray) -> NDArray[np.float64]:
        """The scores as (image, metric), in the order of `METRICS`."""
        scores = self.scores(predicted)
        return np.stack([scores[name] for name in METRICS], axis=1)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
