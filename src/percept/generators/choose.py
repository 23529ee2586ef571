"""Which of several samples is kept: by what was decoded or by the samples themselves, never by the truth.

Second-order choice (Scotti et al. 2023, code): every sample is encoded again, and the one nearest to the
decoded embedding stays. Where no image embedding was decoded the medoid stays, the sample that is most like
the others.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError


class Chosen(NamedTuple):
    """One sample per image.

    images : (image, height, width, 3) uint8
    details : per image the number of its `sample`, and its `similarity` where there was a choice
    """

    images: NDArray[np.uint8]
    details: list[dict[str, float]]


def first(samples: NDArray[np.uint8]) -> Chosen:
    """The first sample of each image, (sample, image, height, width, 3): what is left where there is one."""
    return Chosen(samples[0], [{"sample": 0} for _ in samples[0]])


def best(samples: NDArray[np.uint8], scores: NDArray[np.floating]) -> Chosen:
    """The sample of the highest score for each image; of equal ones the first.

    Parameters
    ----------
    samples : (sample, image, height, width, 3) uint8; or (sample, image), what stands for images
    scores : (sample, image)

    Raises
    ------
    PerceptError : a score is not finite, which would win every comparison
    """
    if not np.isfinite(scores).all():
        raise PerceptError(
            f"{int((~np.isfinite(scores)).sum())} of {scores.size} samples have a similarity that is not "
            "finite, so the best of them cannot be told: the image encoder's numbers overflowed. Set "
            "`precision` of the generator to float32, or to bfloat16, which has the same range in half the "
            "memory."
        )
    number = np.argmax(scores, axis=0)
    image = np.arange(samples.shape[1])
    pairs = zip(number, scores[number, image], strict=True)
    details = [{"sample": int(sample), "similarity": float(score)} for sample, score in pairs]
    return Chosen(samples[number, image], details)


def similarity_to(embedded: NDArray, decoded: NDArray) -> NDArray[np.float64]:
    """Cosine (sample, image) of the embedding of each sample to the decoded embedding of its image.

    Parameters
    ----------
    embedded : (sample, image, ...), features or tokens
    decoded : (image, ...)
    """
    samples, wanted = _unit(embedded.reshape(*embedded.shape[:2], -1)), _unit(_flat(decoded))
    return np.einsum("sid,id->si", samples, wanted)


def likeness(embedded: NDArray) -> NDArray[np.float64]:
    """Mean cosine (sample, image) of each sample to the other samples of its image; at least two samples.

    Parameters
    ----------
    embedded : (sample, image, ...), features or tokens
    """
    samples = _unit(embedded.reshape(*embedded.shape[:2], -1))
    to_all = np.einsum("sid,id->si", samples, samples.sum(axis=0))
    to_itself = np.einsum("sid,sid->si", samples, samples)
    return (to_all - to_itself) / (len(samples) - 1)


def _flat(values: NDArray) -> NDArray:
    return values.reshape(len(values), -1)


def _unit(vectors: NDArray) -> NDArray[np.float64]:
    """Vectors along the last axis divided by their length; those without length stay zero."""
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
