"""How far two sets of images are apart in the features of a fixed network: the kernel inception distance."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from percept.backbones.tiny import judge

PARTS = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")
AT_ONCE = 250


def kid(one: NDArray, other: NDArray) -> float:
    """Squared maximum mean discrepancy of features, (image, feature) each, without bias: 0 for the same.

    The kernel is (x . y / d + 1)^3 (Binkowski et al. 2018, section 4). It can come out slightly negative.

    Raises
    ------
    ValueError : fewer than two images in a set, of which the estimate is not defined
    """
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a distance of {len(one)} to {len(other)} images needs at least two of each")
    one, other = np.float64(one), np.float64(other)
    return _within(one) + _within(other) - 2 * float(_kernel(one, other).mean())


def _kernel(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(x: NDArray) -> float:
    """Mean kernel of different images of a set."""
    values = _kernel(x, x)
    return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))


def features(folder: str | Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What tiny_judge sees, (image, feature): its last convolution averaged over the picture."""
    network, _ = judge.load(folder)
    with torch.inference_mode():
        parts = [_seen(network, images[at : at + AT_ONCE]) for at in range(0, len(images), AT_ONCE)]
    return np.concatenate(parts)


def _seen(network: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = judge.prepared(images)
    for name in PARTS:
        x = getattr(network, name)(x)
    return x.mean(dim=(2, 3)).numpy()
