"""Pixel metrics per reconstruction, as the field defines them (Ozcelik and VanRullen, Scotti et al. 2023).

Values depend on the size at which they are computed: the field resizes both images to 256 x 256 and enlarges
the result to 425 x 425, bilinearly, without antialiasing. Blurred images score high in SSIM: read it beside
`mean_image` and `recovery`.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from percept.backbones.metric import COMMON
from percept.backbones.resize import resize, resized
from percept.evaluation.correlation import feature_blocks

FIELD_SIZE = 425  # pixels; the side of NSD's images
LUMINANCE = (0.2125, 0.7154, 0.0721)  # of red, green, blue (ITU-R BT.709, as scikit-image rounds it)
SIGMA, RADIUS = 1.5, 5  # of SSIM's Gaussian window, in pixels (Wang et al. 2004)
STABILISERS = (0.01**2, 0.03**2)  # of SSIM, for images in [0, 1]
AT_ONCE = 83  # local means of one product; a fifth of the side of what a field-sized image has
BOTH, ROWS = (0, 1), (0,)  # axes along which SSIM's window extends


def common(images: NDArray[np.uint8], antialias: bool = False) -> NDArray[np.float32]:
    """Images (image, 256, 256, 3) in [0, 1] of images (image, height, width, 3): what is compared.

    Raises
    ------
    ValueError : not 8-bit colour images
    """
    return resized(images, COMMON, antialias=antialias).permute(0, 2, 3, 1).contiguous().numpy()


def pixel_vectors(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors (image, value) whose products are Pearson correlations of the images at 425 x 425.

    Enlarging is linear, U along each axis, so that the product of two enlarged images is one of the small
    ones with G = U'U in between, and G = C'C with C of two diagonals: C a C' stands for the enlarged image a
    with a third of its values. An image of a single value becomes 0, and correlates 0 with everything.

    Parameters
    ----------
    images : (image, 256, 256, 3), see `common`
    """
    vectors = np.empty((len(images), images[0].size), dtype=np.float32)
    for vector, image in zip(vectors, images, strict=True):  # one at a time: it stays in the cache
        vector[:] = _pixel_vector(image)
    return vectors


def _pixel_vector(image: NDArray[np.float32]) -> NDArray[np.float32]:
    size = len(image)
    share = enlargement(size).sum(axis=0) / FIELD_SIZE  # weight of each small row in the mean
    centred = image - np.float32(share @ image.mean(axis=2, dtype=np.float64) @ share)
    half = _along_rows(_factor(size), centred)
    vector = _along_rows(_factor(size), half.swapaxes(0, 1)).ravel()
    norm = np.linalg.norm(vector)
    if norm <= 1e-6 * FIELD_SIZE:  # rounding of the mean is not variation
        return np.zeros_like(vector)
    return vector / norm


@cache
def _factor(size: int) -> NDArray[np.float32]:
    """The two diagonals (2, size) of the Cholesky factor C of U'U; the last of the second is 0."""
    from scipy.linalg import cholesky_banded

    gram = enlargement(size).T @ enlargement(size)
    off = np.append(0.0, np.diag(gram, 1))
    above, main = cholesky_banded(np.stack([off, np.diag(gram)]))
    return np.stack([main, np.append(above[1:], 0.0)]).astype(np.float32)


def _along_rows(factor: NDArray[np.float32], image: NDArray[np.float32]) -> NDArray[np.float32]:
    """C times an image (row, column, channel)."""
    main, above = factor[:, :, None, None]
    out = main * image
    out[:-1] += above[:-1] * image[1:]
    return out


@cache
def enlargement(size: int) -> NDArray[np.float64]:
    """Weights (425, size) of bilinear interpolation along one axis, clamped at the border; rows sum to 1."""
    at = np.clip((np.arange(FIELD_SIZE) + 0.5) * size / FIELD_SIZE - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))


def products(made: NDArray[np.float32], shown: NDArray[np.float32]) -> NDArray[np.float64]:
    """Products (made, shown) of unit vectors, summed in float64."""
    found = np.zeros((len(made), len(shown)))
    for part in feature_blocks(made.shape[1]):
        found += made[:, part].astype(np.float64) @ shown[:, part].astype(np.float64).T
    return np.clip(found, -1, 1)


def pixel_correlations(made: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pearson correlation over all values of two images, (made, shown); the diagonal is PixCorr.

    Parameters
    ----------
    made, shown : (image, height, width, 3) uint8; sizes may differ between the two
    """
    return products(pixel_vectors(common(made)), pixel_vectors(common(shown)))


class Moments(NamedTuple):
    """A grey image with its local mean and variance, which every SSIM against it uses; (row, column) each."""

    image: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def field_grey(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Luminance (image, 425, 425) of images (image, 256, 256, 3); grey first, for enlarging is linear."""
    import torch

    grey = images @ np.array(LUMINANCE, dtype=np.float32)
    return resize(torch.from_numpy(grey[:, None]), FIELD_SIZE)[:, 0].double().numpy()


def moments(grey: NDArray[np.float64], axes: tuple[int, ...] = BOTH) -> Moments:
    """Local mean and variance of a grey image (row, column)."""
    mean = _smooth(grey, axes)
    return Moments(grey, mean, _smooth(grey * grey, axes) - mean * mean)


def structural_similarity(made: Moments, shown: Moments, axes: tuple[int, ...] = BOTH) -> float:
    """SSIM of two grey images in [0, 1] (Wang et al. 2004): 1 for equal ones, well above 0 for any scenes.

    Gaussian window of sigma 1.5 (11 pixels), population covariance, range 1, places where the window leaves
    the image left out: as scikit-image with `gaussian_weights`. `axes` of rows alone is what codes got that
    passed `multichannel` to scikit-image below 0.20: columns as channels, and higher values.
    """
    product = _smooth(made.image * shown.image, axes)
    light, contrast = STABILISERS
    total = 0.0
    for start in range(0, len(product), AT_ONCE):  # rows at a time: they stay in the cache
        rows = slice(start, start + AT_ONCE)
        means = made.mean[rows] * shown.mean[rows]
        value = (2 * means + light) * (2 * (product[rows] - means) + contrast)
        value /= made.mean[rows] ** 2 + shown.mean[rows] ** 2 + light
        value /= made.variance[rows] + shown.variance[rows] + contrast
        total += float(value.sum())
    return total / product.size


def _smooth(image: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """Local means of an image (row, column) where the whole window lies inside it.

    As products with a band, block by block: a third of the time of a convolution, because a block is cached.
    """
    height, width = (size - 2 * RADIUS if axis in axes else size for axis, size in enumerate(image.shape))
    means = np.empty((height, width))
    for rows, band in _spans(height):
        block = band @ image[rows.start : rows.stop + 2 * RADIUS]
        if axes == ROWS:
            means[rows] = block
            continue
        for columns, band_of_columns in _spans(width):
            means[rows, columns] = block[:, columns.start : columns.stop + 2 * RADIUS] @ band_of_columns.T
    return means


def _spans(n: int) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Places 0..n-1 some at a time, with the weights (place, value in reach) of their local means."""
    for start in range(0, n, AT_ONCE):
        stop = min(start + AT_ONCE, n)
        yield slice(start, stop), _band()[: stop - start, : stop - start + 2 * RADIUS]


@cache
def _band() -> NDArray[np.float64]:
    """The Gaussian window in every row, one place further each; what a row of local means is made with."""
    steps = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-(steps**2) / (2 * SIGMA**2))
    band = np.zeros((AT_ONCE, AT_ONCE + 2 * RADIUS))
    for row in range(AT_ONCE):
        band[row, row : row + len(steps)] = weights / weights.sum()
    return band


def ssim(made: NDArray[np.uint8], shown: NDArray[np.uint8]) -> NDArray[np.float64]:
    """SSIM of images pair by pair, (image,).

    Parameters
    ----------
    made, shown : (image, height, width, 3) uint8; sizes may differ between the two
    """
    pairs = zip(field_grey(common(made)), field_grey(common(shown)), strict=True)
    return np.array([structural_similarity(moments(first), moments(second)) for first, second in pairs])
