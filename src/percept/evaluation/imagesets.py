"""Images that are read when they are needed: a test set of a thousand takes gigabytes once it is unpacked.

Anything with a length that gives images (n, height, width, 3) uint8 for an array of ascending rows is a set
of images: an array, a file of reconstructions, the stimuli of a data set.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from percept.files import open_hdf5

BATCH = 32  # images at a time: 17 MB of 425 x 425 colour images
HELD = 100 << 20  # bytes of a set that is unpacked once instead of once per metric: 193 images of 425 x 425


class ImageSet(Protocol):
    """Images by row."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Images (row, height, width, 3) of ascending rows."""


class Source(Protocol):
    """What a data set tells about its stimuli; see `percept.targets.encode.Source`."""

    def images(self, stimuli: Sequence[int]) -> NDArray[np.uint8]:
        """Images (stimulus, height, width, 3), in the order asked."""


@dataclass(frozen=True)
class Reconstructed:
    """The images of a file that `percept.generators.store` wrote."""

    path: Path

    def __len__(self) -> int:
        with open_hdf5(self.path) as file:
            return len(file["images"])

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        with open_hdf5(self.path) as file:
            return file["images"][rows]

    @property
    def stimulus(self) -> NDArray[np.int32]:
        """The stimulus (n,) that each image reconstructs."""
        with open_hdf5(self.path) as file:
            return file["stimulus"][:]


@dataclass(frozen=True)
class Stimuli:
    """The images of stimuli (n,) of a data set, in that order."""

    source: Source
    stimulus: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.stimulus)

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
        return self.source.images(self.stimulus[rows])


def held(images: ImageSet, most: int = HELD) -> ImageSet:
    """The same images, in memory if all of them take at most `most` bytes there."""
    n = len(images)
    if isinstance(images, np.ndarray) or not n or n * images[np.arange(1)].nbytes > most:
        return images
    return np.concatenate(list(batches(images)))


@dataclass(frozen=True)
class Distinct:
    """A set of images in which equal ones are looked at once.

    rows : (distinct,) where each distinct image stands first, ascending
    number : (n,) which of them each image of the set is
    digests : (n,) of the images: sets with equal digests are one
    """

    images: ImageSet
    rows: NDArray[np.int64]
    number: NDArray[np.int64]
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.digests)

    def batches(self, size: int, among: NDArray[np.integer] | None = None) -> Iterator[NDArray[np.uint8]]:
        """The distinct images, or those at the ascending places `among` them, some at a time."""
        rows = self.rows if among is None else self.rows[among]
        for start in range(0, len(rows), size):
            yield self.images[rows[start : start + size]]

    @property
    def keys(self) -> list[bytes]:
        """Digests of the distinct images."""
        return [self.digests[row] for row in self.rows]


def distinct(images: ImageSet) -> Distinct:
    """Find equal images by their content.

    So a set of one image repeated costs one forward pass, and equal images have equal features to the last
    bit, whichever batch they are in: a collapsed decoder ties with itself.
    """
    digests = tuple(digest for batch in batches(images) for digest in map(_digest, batch))
    seen: dict[bytes, int] = {}
    number = np.array([seen.setdefault(digest, len(seen)) for digest in digests], dtype=np.int64)
    rows = np.unique(number, return_index=True)[1]
    return Distinct(images, rows, number, digests)


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=16, salt=_shape(image)).digest()


def _shape(image: NDArray) -> bytes:
    """Equal bytes of another shape are another image."""
    return np.array(image.shape[:2], dtype=np.int64).tobytes()


def batches(images: ImageSet, size: int = BATCH) -> Iterator[NDArray[np.uint8]]:
    """All images of a set in order, some at a time."""
    for start in range(0, len(images), size):
        yield images[np.arange(start, min(start + size, len(images)))]


def take(images: ImageSet, rows: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Images of rows in any order, (row, height, width, 3)."""
    ascending, back = np.unique(rows, return_inverse=True)
    return images[ascending][back]
