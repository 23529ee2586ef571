"""Losses of the adversarial game, each a pure function that returns a scalar in nats or squared units."""

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor


def fooling(fake: Tensor) -> Tensor:
    """What the generator minimises: softplus(-D(fake)), averaged (Goodfellow et al. 2014, non-saturating)."""
    return F.softplus(-fake).mean()


def telling(real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimises: softplus(-D(real)) + softplus(D(fake)), averaged."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def gradient_penalty(real: Tensor, images: Tensor) -> Tensor:
    """Mean squared gradient of D at real images: R1 but for gamma / 2 (Mescheder et al. 2018).

    `real` (batch,) scores of `images`, which require a gradient; the result has one itself.
    """
    (gradient,) = torch.autograd.grad(real.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


def path_lengths(images: Tensor, w: Tensor, directions: Tensor) -> Tensor:
    """|J' y| of each image, (batch,), J = d image / d w, for normal directions y in image space.

    Karras et al. 2020, equation 4 and section 3.2: y is divided by the root of the number of pixels, so that
    lengths do not depend on the side. `images`, `directions` (batch, 3, row, column); w (batch, style).
    """
    pixels = images.shape[2] * images.shape[3]
    (gradient,) = torch.autograd.grad((images * directions).sum() / pixels**0.5, w, create_graph=True)
    return gradient.square().sum(dim=1).sqrt()


def path_penalty(lengths: Tensor, mean: Tensor) -> Tensor:
    """Mean squared deviation of the lengths from their running mean."""
    return (lengths - mean).square().mean()


def running(mean: Tensor, value: Tensor, decay: float) -> Tensor:
    """Exponential moving average: decay mean + (1 - decay) value."""
    return mean.lerp(value.detach(), 1 - decay)


def contrastive(a: Tensor, b: Tensor, temperature: float, reverse: float = 0.0) -> Tensor:
    """-mean_i log softmax_j(cos(a_i, b_j) / temperature) at j = i, in nats.

    Cosines enter the softmax as they are. The public code of LAFITE takes their exponential first, so that it
    is applied twice; its published temperature and weights are tuned to that.

    Parameters
    ----------
    a, b : (batch, feature), normalised here; rows belong together
    reverse : weight in 0..1 of the other direction, which ranks a for every b
    """
    similarity = F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature
    own = torch.arange(len(a), device=a.device)
    return (1 - reverse) * F.cross_entropy(similarity, own) + reverse * F.cross_entropy(similarity.T, own)


def inconsistency(embedded: Tensor, c: Tensor) -> Tensor:
    """1 - cosine of what an encoder sees to the conditions, averaged; (batch, feature) each."""
    return 1 - F.cosine_similarity(embedded, c, dim=1).mean()
