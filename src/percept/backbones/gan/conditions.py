"""Noise on conditions: a generator trained on true embeddings has to bear those that are decoded.

LAFITE's pseudo-condition (Zhou et al. 2022, section 3.1) is h' = normalise((1 - xi) u + xi e), u a true unit
vector and e a random one. Its xi is a constant; here it has the distribution that a decoder's errors have.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the distribution of errors that is kept


def matched_strengths(
    predicted: NDArray, true: NDArray, levels: Sequence[float] = LEVELS
) -> tuple[float, ...]:
    """Quantiles of the noise strength that moves true embeddings as far as a decoder's errors do.

    Parameters
    ----------
    predicted, true : (image, feature) of validation images, in the space of the conditions: standardised
        where the generator standardises (`Generator.prepared`), whatever their length
    levels : in 0..1, ascending

    Raises
    ------
    ValueError : arrays of unequal shape
    """
    if predicted.shape != true.shape:
        raise ValueError(f"predictions {predicted.shape} and truths {true.shape} are not of the same images")
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(true, axis=1)
    cosines = (predicted * true).sum(axis=1) / np.maximum(lengths, np.finfo(float).tiny)
    return tuple(float(value) for value in np.quantile(strength_of_cosine(cosines), levels))


def strength_of_cosine(cosine: NDArray) -> NDArray[np.float64]:
    """The xi in [0, 1] after which a unit vector has this cosine to itself: tan / (1 + tan) of their angle.

    A random direction of many dimensions is about orthogonal, so that xi / (1 - xi) is the tangent of the
    angle. Cosines below 0 count as 0, of which nothing is left but noise: 1.
    """
    angle = np.arccos(np.clip(cosine, 0, 1))
    return np.sin(angle) / (np.sin(angle) + np.cos(angle))


def drawn_strengths(
    n: int,
    quantiles: Sequence[float],
    clean: float,
    generator: torch.Generator | None = None,
    levels: Sequence[float] = LEVELS,
) -> Tensor:
    """Strengths (n,) of the distribution with these quantiles, in between linear; a share `clean` is 0.

    Outside the outermost levels they stay at their quantiles.
    """
    first, second = torch.rand(2, n, generator=generator)
    strengths = np.interp(first.numpy(), levels, quantiles)
    return torch.from_numpy(strengths).float() * (second >= clean)


def noised(
    c: Tensor, strengths: Tensor, widths: Sequence[int], generator: torch.Generator | None = None
) -> Tensor:
    """Conditions c (batch, feature), each of several a unit vector, with noise of some strengths.

    `strengths` (batch,) of all conditions, or (batch, condition) of each; drawn on the CPU, whatever c is on.
    """
    each = strengths[:, None].expand(-1, len(widths)) if strengths.ndim == 1 else strengths
    parts = []
    for part, own in zip(c.split(list(widths), dim=1), each.to(c.device).unbind(dim=1), strict=True):
        noise = F.normalize(torch.randn(part.shape, generator=generator), dim=1).to(c.device)
        xi = own[:, None]
        parts.append(F.normalize((1 - xi) * part + xi * noise, dim=1))
    return torch.cat(parts, dim=1)
