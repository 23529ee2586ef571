"""Images of a challenge tree: what targets can ask of it, and which images have no response."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.datasets.algonauts import tree
from percept.datasets.algonauts_config import AlgonautsDataset
from percept.datasets.arrays.stimuli import read_files
from percept.files import PerceptError


def catalogue(ds: AlgonautsDataset) -> NDArray[np.int32]:
    """Every image of the data set, (image,) 0-based ids, ascending; test images without responses too."""
    return np.array(list(tree.images(ds)), dtype=np.int32)


def withheld(ds: AlgonautsDataset, subject: str) -> NDArray[np.int32]:
    """Test images of a subject without responses, (image,) ids in the order of a submission's rows."""
    images = tree.shown(ds, subject, "test") if ds.withholds_test(subject) else []
    return np.array([image.stimulus for image in images], dtype=np.int32)


@dataclass(frozen=True)
class ChallengeSource:
    """What targets can ask of the challenge: images; it says nothing about them in words."""

    ds: AlgonautsDataset

    @cached_property
    def files(self) -> dict[int, Path]:
        """File of every image, by id; the folders are listed once."""
        return tree.images(self.ds)

    def images(self, stimuli: Sequence[int]) -> NDArray[np.uint8]:
        """Images (stimulus, row, column, 3), in the order asked for.

        Raises
        ------
        PerceptError : an id that no image has, or an image that is damaged or of another size
        """
        known = self.files
        unknown = [int(stimulus) for stimulus in stimuli if int(stimulus) not in known]
        if unknown:
            raise PerceptError(
                f"data set {self.ds.name} has no image {unknown[0]}; it has {len(known)} (ids are 0-based)."
            )
        return read_files([known[int(stimulus)] for stimulus in stimuli], self.ds.size)


def source(ds: AlgonautsDataset) -> ChallengeSource:
    """The stimuli of a data set, as `percept.targets.encode` asks for them."""
    return ChallengeSource(ds)
