"""How far two sets of images are apart in the features of a fixed network: the kernel inception distance."""

import numpy as np
from numpy.typing import NDArray


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
