"""Responses of a challenge subject: both hemispheres beside each other, training rows above test rows.

Each number is the mean over the one to three repeats of an image, of betas that were z-scored per vertex
within each session. They are stored as they are, float32: nothing is rounded.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.datasets.algonauts.regions import Sizes
from percept.datasets.algonauts_config import HEMISPHERES, TEST_FMRI, TRAINING_FMRI
from percept.datasets.arrays.readers import read_array
from percept.files import PerceptError

log = logging.getLogger(__name__)
BLOCK = 512  # rows looked at a time
OFFICIAL = {  # training images, test images, vertices left and right (README of the release)
    **dict.fromkeys(("subj01", "subj02", "subj05", "subj07"), (9841, 159, 19004, 20544)),
    "subj03": (9082, 293, 19004, 20544),
    "subj04": (8779, 395, 19004, 20544),
    "subj06": (9082, 293, 18978, 20220),
    "subj08": (8779, 395, 18981, 20530),
}
COUNTED = ("training images", "test images", "left vertices", "right vertices")


def read(folder: Path, n_train: int, n_test: int) -> tuple[NDArray[np.float32], Sizes]:
    """Responses (row, vertex) float32, and the vertices of each hemisphere.

    Rows are those of the training images, then, where the organisers' files are there, of the test images.

    Raises
    ------
    PerceptError : a hemisphere is missing or does not fit the other or the images, or a row is not finite
    """
    train = _pair(folder, TRAINING_FMRI, n_train, "training")
    held = any((folder / TEST_FMRI.format(side)).is_file() for side in HEMISPHERES)
    parts = [train, *([_pair(folder, TEST_FMRI, n_test, "test")] if held else [])]
    sizes = (train[0].shape[1], train[1].shape[1])
    for part in parts[1:]:
        if (found := (part[0].shape[1], part[1].shape[1])) != sizes:
            raise PerceptError(
                f"{folder / 'test_split/test_fmri'} has {found[0]} left and {found[1]} right vertices, the "
                f"training responses {sizes[0]} and {sizes[1]}: they are of different subjects or releases."
            )
    joined = np.empty((sum(len(part[0]) for part in parts), sum(sizes)), np.float32)
    start = 0
    for left, right in parts:
        joined[start : start + len(left), : sizes[0]] = left
        joined[start : start + len(left), sizes[0] :] = right
        start += len(left)
    return joined, sizes


def _pair(folder: Path, template: str, n_images: int, part: str) -> tuple[NDArray, NDArray]:
    """Responses of both hemispheres, mapped from the disk."""
    paths = [folder / template.format(side) for side in HEMISPHERES]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise PerceptError(
            f"{missing[0]} is not there, and without both hemispheres regions and scores would be of half a "
            "brain. Restore the file."
        )
    pair = [read_array(path) for path in paths]
    for path, values in zip(paths, pair, strict=True):
        if values.ndim != 2 or values.dtype.kind != "f":
            raise PerceptError(
                f"{path} holds {values.dtype} of the shape {values.shape}, but responses are floats "
                "(image, vertex)."
            )
        if len(values) != n_images:
            raise PerceptError(
                f"{path} has {len(values)} rows, but there are {n_images} {part} images: row i belongs to "
                "image i, so their numbers must be equal. Restore the missing images or responses."
            )
    return pair[0], pair[1]


def require_finite_rows(betas: NDArray[np.float32], folder: Path) -> NDArray[np.bool_]:
    """Which vertices are finite in every row, (vertex,).

    A vertex that is not is left to `voxels.invalid`; a row without any finite value is refused.

    Raises
    ------
    PerceptError : names the first such row
    """
    finite = np.ones(betas.shape[1], bool)
    for start in range(0, len(betas), BLOCK):
        block = np.isfinite(betas[start : start + BLOCK])
        finite &= block.all(axis=0)
        lost = np.flatnonzero(~block.any(axis=1))
        if lost.size:
            raise PerceptError(
                f"{folder}: row {start + lost[0]} of the responses (0-based, test rows after training rows) "
                "holds not one finite value. The image has no response: remove both, and renumber the images "
                "that follow, or restore the row."
            )
    return finite


def compare_with_release(subject: str, found: tuple[int, int, int, int]) -> list[str]:
    """What differs from the released subject of this name, in words, logged; [] for other data.

    Parameters
    ----------
    found : training images, test images, left vertices, right vertices. Data that agree with the release in
        none of them are somebody's own
    """
    expected = OFFICIAL.get(subject)
    if expected is None or not any(a == b for a, b in zip(found, expected, strict=True)):
        return []
    told = [
        f"{number} {what} instead of {wanted}"
        for number, wanted, what in zip(found, expected, COUNTED, strict=True)
        if number != wanted
    ]
    if told:
        log.warning("%s differs from the released subject of this name: %s", subject, "; ".join(told))
    return told
