"""Write the folder of a challenge subject, file by file as released, in either naming scheme."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from percept.datasets.algonauts.regions import N_FSAVERAGE, REGIONS
from percept.datasets.algonauts.tree import FOLDERS, Naming, Part
from percept.datasets.algonauts_config import (
    ALL_VERTICES,
    HEMISPHERES,
    MAPPING,
    MASKS,
    NOISE_CEILING,
    TEST_FMRI,
    TRAINING_FMRI,
)
from percept.files import atomic

FMRI: dict[Part, str] = {"train": TRAINING_FMRI, "test": TEST_FMRI}
FSAVERAGE_MASK = "roi_masks/{}.{}_fsaverage_space.npy"


@dataclass(frozen=True)
class Subject:
    """Everything in the folder of one subject; vertices of the left hemisphere come first.

    Attributes
    ----------
    stimulus : per part (image,) 0-based NSD ids
    responses : per part (image, vertex); a part without them is withheld
    vertices : per hemisphere (vertex,) index on fsaverage, ascending
    regions : per class (vertex,) number of the region, 0 for none
    noise_ceiling : (vertex,) share of variance; None is withheld
    """

    stimulus: Mapping[Part, NDArray]
    responses: Mapping[Part, NDArray]
    vertices: Mapping[str, NDArray]
    regions: Mapping[str, NDArray]
    noise_ceiling: NDArray | None = None

    def sides(self, values: NDArray) -> dict[str, NDArray]:
        """Values (..., vertex) parted into hemispheres."""
        left, right = np.split(values, [len(self.vertices["lh"])], axis=-1)
        return {"lh": left, "rh": right}


def image_path(folder: Path, names: Naming, part: Part, row: int, stimulus: int) -> Path:
    """Where the image of a row (0-based) lies."""
    stem = f"{part}-{row + 1:04d}_nsd-{stimulus:05d}" if names == "official" else str(row)
    return folder / FOLDERS[part] / f"{stem}.png"


def write_image(image: NDArray[np.uint8], path: Path) -> None:
    """Write an image (row, column, 3) as PNG."""
    with atomic(path) as temporary:
        Image.fromarray(image).save(temporary, format="png", compress_level=1)


def write_arrays(subject: Subject, folder: Path, names: Naming) -> None:
    """Write responses, masks and mappings of a subject; images are for `write_image`."""
    for part, responses in subject.responses.items():
        for side, values in subject.sides(responses).items():
            _save(values.astype(np.float32), folder / FMRI[part].format(side))
    if subject.noise_ceiling is not None:
        for side, values in subject.sides(subject.noise_ceiling).items():
            _save(values.astype(np.float32), folder / NOISE_CEILING.format(side))
    for side in HEMISPHERES:
        everywhere = np.zeros(N_FSAVERAGE, np.int8)
        everywhere[subject.vertices[side]] = 1
        _save(everywhere, folder / ALL_VERTICES.format(side))
    for atlas, numbers in subject.regions.items():
        _write_regions(subject, atlas, numbers, folder, names)


def _write_regions(subject: Subject, atlas: str, numbers: NDArray, folder: Path, names: Naming) -> None:
    for side, own in subject.sides(numbers).items():
        _save(own.astype(np.int32), folder / MASKS[names].format(side, atlas))
        surface = np.zeros(N_FSAVERAGE, np.int8)
        surface[subject.vertices[side]] = own
        _save(surface, folder / FSAVERAGE_MASK.format(side, atlas))
    table = {0: "Unknown", **dict(enumerate(REGIONS[atlas], start=1))}
    with atomic(folder / f"{MAPPING.format(atlas)}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.array(table, dtype=object))  # a pickle, as released; read by `mapping`


def _save(values: NDArray, path: Path) -> None:
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)
