"""What identifies a picture: a hash of its pixels, and a thumbnail to find near copies by."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 32  # pixels of a thumbnail: enough to tell scenes apart, few enough to forget an encoding


class Pictures(NamedTuple):
    """Fingerprints of images, row by row."""

    stimulus: NDArray  # (image,)
    digest: NDArray  # (image,) str, equal for equal pixels
    thumbnail: NDArray  # (image, SIDE * SIDE * 3) float32


def pictures(images: Iterable[NDArray], stimulus: NDArray) -> Pictures:
    """Fingerprints of images, read one at a time: all of NSD need not fit in memory.

    Parameters
    ----------
    images : of axes (height, width, 3), uint8, in the order of `stimulus`
    """
    digests, thumbnails = [], []
    for image in images:
        digests.append(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest())
        thumbnails.append(thumbnail(image).ravel())
    shape = (len(digests), SIDE * SIDE * 3)
    return Pictures(np.asarray(stimulus), np.array(digests, dtype=object), np.reshape(thumbnails, shape))


def of_source(source: object, stimuli: Sequence[int]) -> Pictures | None:
    """Fingerprints of the stimuli of a data set; None where it has labels and no images."""
    if not hasattr(source, "images"):
        return None
    return pictures((source.images([one])[0] for one in stimuli), np.asarray(stimuli))


def thumbnail(image: NDArray, side: int = SIDE) -> NDArray:
    """Block means of an image, (side, side, 3) float32; uneven blocks where sizes do not divide."""
    height, width = image.shape[:2]
    rows = np.linspace(0, height, side, endpoint=False).astype(int)
    columns = np.linspace(0, width, side, endpoint=False).astype(int)
    rows, columns = np.minimum(rows, height - 1), np.minimum(columns, width - 1)
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float64), rows, axis=0), columns, axis=1)
    sizes = np.maximum(np.diff([*rows, height]), 1)[:, None] * np.maximum(np.diff([*columns, width]), 1)
    return (sums / sizes[:, :, None]).astype(np.float32)
