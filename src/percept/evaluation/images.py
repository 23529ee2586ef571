"""Image metrics per reconstruction, as the field defines them (Ozcelik and VanRullen, Scotti et al. 2023).

Values depend on the size at which they are computed: the field enlarges both images to 425 x 425 with plain
bilinear interpolation (`resize`). Blurred images score high in SSIM: read it beside `mean_image`.
"""

import numpy as np
from numpy.typing import NDArray

from percept.evaluation.correlation import feature_blocks, standardised_rows
from percept.evaluation.retrieval import Ranks, identical_rows, rank

FIELD_SIZE = 425  # pixels; the side of NSD's images


def pixel_correlations(reconstructed: NDArray, true: NDArray) -> NDArray:
    """Pearson correlation over all values of two images, (reconstruction, true image).

    The diagonal is PixCorr. An image of a single value correlates 0 with everything.

    Parameters
    ----------
    reconstructed, true : (image, height, width, 3), uint8, or float in [0, 1]

    Raises
    ------
    ValueError : images of different sizes, or float values outside [0, 1]
    """
    demand_same_size(reconstructed, true)
    made, shown = standardised_rows(reconstructed), standardised_rows(true)
    correlations = np.zeros((len(reconstructed), len(true)))
    for part in feature_blocks(made.rows.shape[1]):
        correlations += made.block(part) @ shown.block(part).T
    return np.clip(correlations, -1, 1)


def ssim(reconstructed: NDArray, true: NDArray) -> NDArray:
    """Structural similarity of grey images, (image,); 1 for equal ones, well above 0 for any two scenes.

    Gaussian window of sigma 1.5 (11 pixels), population covariance, range 1, in two dimensions. Codes that
    passed `multichannel` to scikit-image below 0.20 took columns for channels and got higher values.

    Raises
    ------
    ValueError : images of different sizes, smaller than the window, or float values outside [0, 1]
    """
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

    demand_same_size(reconstructed, true)
    if min(true.shape[1:3]) < 11:
        raise ValueError(
            f"SSIM needs images of at least 11 x 11 pixels, its window, not {true.shape[1]} x "
            f"{true.shape[2]}: enlarge both with `images.resize`"
        )
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(reconstructed, true, strict=True)
    grey = ((rgb2gray(unit_range(made)), rgb2gray(unit_range(shown))) for made, shown in pairs)
    return np.array([structural_similarity(made, shown, **window) for made, shown in grey])


def identification_ranks(correlations: NDArray, true: NDArray) -> Ranks:
    """Ranks of the own image among all true images, for each reconstruction.

    The field's orientation: the reconstruction is fixed, the true images compete. The other one, described
    in some papers, rewards reconstructions that resemble everything. Reconstructions that are all the same
    score 50 % in two-way, exactly. Duplicated true images are ties.

    Parameters
    ----------
    correlations : (reconstruction, true image), own image on the diagonal
    true : (image, ...), to find duplicates
    """
    return rank(correlations, np.arange(len(correlations)), identical_rows(true))


def resize(images: NDArray, size: int = FIELD_SIZE) -> NDArray:
    """Square images (image, size, size, 3) uint8 by bilinear interpolation without antialiasing.

    Pixel centres at halves, as torchvision's `Resize(..., antialias=False)`; images of the size are returned
    as they are.

    Parameters
    ----------
    images : (image, height, width, 3) uint8
    """
    if images.shape[1:3] == (size, size):
        return images
    rows, columns = _bilinear(images.shape[1], size), _bilinear(images.shape[2], size)
    out = np.empty((len(images), size, size, images.shape[3]), dtype=np.uint8)
    for image, small in zip(out, images, strict=True):  # one at a time: float images are large
        wide = np.einsum("os,srk->ork", rows, small.astype(np.float32), optimize=True)
        image[:] = np.rint(np.einsum("os,rsk->rok", columns, wide, optimize=True))
    return out


def _bilinear(size: int, out: int) -> NDArray:
    """Weights (out, size) float32 of linear interpolation along one axis, clamped at the border."""
    at = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size))).astype(np.float32)


def unit_range(image: NDArray) -> NDArray:
    """The image as float64 in [0, 1].

    Raises
    ------
    ValueError : a float image with values outside [0, 1], or that are not numbers
    """
    if image.dtype == np.uint8:
        return image / 255.0
    if not (image.min() >= 0 and image.max() <= 1):  # also false for nan
        raise ValueError(
            f"an image of type {image.dtype} has values from {image.min():.3g} to {image.max():.3g}: metrics "
            "need uint8, or float in [0, 1]; clip before scoring, as the shown image would be"
        )
    return image.astype(np.float64)


def demand_same_size(reconstructed: NDArray, true: NDArray) -> None:
    """Refuse images that cannot be compared pixel by pixel.

    Raises
    ------
    ValueError : different height, width or channels, or not colour images
    """
    if reconstructed.shape[1:] != true.shape[1:] or true.ndim != 4 or true.shape[-1] != 3:
        raise ValueError(
            f"reconstructions of shape {reconstructed.shape} cannot be compared with images of shape "
            f"{true.shape}: both need axes (image, height, width, 3) of one size; see `images.resize`"
        )
