"""Test-time augmentation: the views of an image whose features are averaged."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError

Augmentation = Literal["none", "flip", "crops"]
N_VIEWS: dict[str, int] = {"none": 1, "flip": 2, "crops": 10}
SIDE = 0.9  # of a crop, in sides of the image


def augmented(images: NDArray[np.uint8], how: str) -> Iterator[NDArray[np.uint8]]:
    """The views of each image, one array (image, height, width, 3) per view, all of one size.

    `none`: the image. `flip`: the image and its mirror. `crops`: four corners and the centre, each of 0.9
    side, then the mirrors of these five.

    Raises
    ------
    PerceptError : no such augmentation
    """
    if how not in N_VIEWS:
        raise PerceptError(
            f"there is no test-time augmentation {how!r}: set `augmentation` to one of {', '.join(N_VIEWS)}."
        )
    for view in _crops(images) if how == "crops" else (images,):
        yield view
        if how != "none":
            yield view[:, :, ::-1]


def _crops(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    height, width = images.shape[1:3]
    rows, columns = round(SIDE * height), round(SIDE * width)
    bottom, right = height - rows, width - columns
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    for top, left in corners:
        yield images[:, top : top + rows, left : left + columns]
