"""Which of its two naming schemes a challenge tree follows, and which image belongs to which row.

`official`: masks `lh.{class}_challenge_space.npy`, images `train-0001_nsd-00013.png` (place counted from 1,
NSD's id from 0). `renamed`, as a course handed the data out: masks `lh.{class}_space.npy`, images `0.png`
(counted from 0, of which NSD's id is not known). Ids are 0-based from here on.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from percept.datasets.algonauts_config import (
    CLASSES,
    HEMISPHERES,
    MASKS,
    TEST_IMAGES,
    TRAINING_IMAGES,
    AlgonautsDataset,
)
from percept.files import PerceptError

Naming = Literal["official", "renamed"]
Part = Literal["train", "test"]
FOLDERS: dict[Part, str] = {"train": TRAINING_IMAGES, "test": TEST_IMAGES}
OFFICIAL = re.compile(r"(?P<part>train|test)-(?P<place>\d+)_nsd-(?P<stimulus>\d+)")
RENAMED = re.compile(r"(?P<place>\d+)")
IMAGES_PER_SUBJECT, FIRST_TEST = 100_000, 50_000  # ids of images of which NSD's id is not known


class Shown(NamedTuple):
    """An image and the row of the responses that belongs to it; all 0-based."""

    row: int
    stimulus: int
    path: Path


def naming(folder: Path) -> Naming:
    """The scheme that the masks and the training images of a subject's folder follow.

    Raises
    ------
    PerceptError : there are no masks or no images, or names of both schemes
    """
    if not folder.is_dir():
        beside = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise PerceptError(
            f"{folder} is not there. `dataset.root` has to hold a folder per subject (it holds: "
            f"{', '.join(beside) or 'none'}): correct `dataset.root`, or name only subjects that are there "
            "under `dataset.subjects`."
        )
    masks, images = _mask_names(folder), _image_names(folder)
    found = {**masks, **{name: path for name, path in images.items() if name not in masks}}
    if len(found) > 1:
        raise PerceptError(
            f"{folder} mixes two naming schemes: {found['official'].name} is as the Algonauts challenge "
            f"calls it, {found['renamed'].name} as in the renamed copy. Rows and ids would be read "
            "differently, so one of them is wrong: take all files of the subject from one source."
        )
    if not masks or not images:
        lacking = "ROI masks" if not masks else "training images"
        where = folder / ("roi_masks" if not masks else TRAINING_IMAGES)
        examples = (
            [template.format("lh", "streams") for template in MASKS.values()]
            if not masks
            else ["train-0001_nsd-00013.png", "0.png"]
        )
        raise PerceptError(f"{where} holds no {lacking} (such as {examples[0]} or {examples[1]}).")
    (name,) = found
    return name


def _mask_names(folder: Path) -> dict[str, Path]:
    """Per scheme a mask that follows it."""
    return {
        name: folder / template.format(side, atlas)
        for name, template in MASKS.items()
        for side in HEMISPHERES
        for atlas in CLASSES
        if (folder / template.format(side, atlas)).is_file()
    }


def _image_names(folder: Path) -> dict[str, Path]:
    """Per scheme a training image that follows it.

    Raises
    ------
    PerceptError : an image follows neither
    """
    found = {}
    for path in _pictures(folder / TRAINING_IMAGES):
        if OFFICIAL.fullmatch(path.stem):
            found["official"] = path
        elif RENAMED.fullmatch(path.stem):
            found["renamed"] = path
        else:
            raise PerceptError(
                f"{path} follows neither naming scheme (train-0001_nsd-00013.png, 0.png), so it is not known "
                "which row of the responses belongs to it. Remove or rename it."
            )
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))


def shown(ds: AlgonautsDataset, subject: str, part: Part) -> list[Shown]:
    """Images of a part, one per row of its responses, in the order of the rows; [] where there are none.

    Raises
    ------
    PerceptError : a place is missing or taken twice, a name is of the other part or scheme, or an image
        occurs twice
    """
    scheme = naming(ds.folder(subject))
    folder = ds.folder(subject) / FOLDERS[part]
    offset = ds.subjects.index(subject) * IMAGES_PER_SUBJECT + FIRST_TEST * (part == "test")
    images = [_placed(path, scheme, part, offset) for path in _pictures(folder)]
    images.sort()
    places = [image.row for image in images]
    _require_once(places, "place", images, folder)
    _require_once([image.stimulus for image in images], "NSD id", images, folder)
    if places != list(range(len(places))):
        gap = next(place for place in range(len(places)) if place not in set(places))
        first = 1 if scheme == "official" else 0
        raise PerceptError(
            f"{folder}: no image has the place {gap + first}, although there are {len(places)}; row {gap} of "
            "the responses (0-based) would be paired with another's image. Restore the missing files."
        )
    return images


def _placed(path: Path, scheme: Naming, part: Part, offset: int) -> Shown:
    """Row and id that a file name says: 1-based places of the official scheme end here."""
    pattern = OFFICIAL if scheme == "official" else RENAMED
    found = pattern.fullmatch(path.stem)
    if found is None or found.groupdict().get("part", part) != part:
        raise PerceptError(
            f"{path} is no {part} image of the {scheme} naming scheme that this tree follows. Remove or "
            "rename it: it would be paired with the wrong response."
        )
    if scheme == "renamed":
        return Shown(int(found["place"]), offset + int(found["place"]), path)
    return Shown(int(found["place"]) - 1, int(found["stimulus"]), path)


def _require_once(numbers: Iterable[int], what: str, images: list[Shown], folder: Path) -> None:
    twice = [number for number, n in Counter(numbers).items() if n > 1]
    if twice:
        which = [image.path.name for image in images if twice[0] in image[:2]]
        raise PerceptError(
            f"{folder}: {' and '.join(which)} have the same {what}, so it is not known which image "
            "belongs to which row of the responses. Keep one of them, under its own name."
        )


def parts(ds: AlgonautsDataset, subject: str) -> dict[Part, list[Shown]]:
    """Training and test images of a subject, each in the order of the rows.

    Raises
    ------
    PerceptError : as of `shown`; an image both trains and tests
    """
    found = {part: shown(ds, subject, part) for part in FOLDERS}
    both = {one.stimulus for one in found["train"]} & {one.stimulus for one in found["test"]}
    if both:
        raise PerceptError(
            f"{ds.folder(subject)}: the image {min(both)} is among the training and the test images "
            f"({len(both)} are): whatever is tested on them was trained on them. Remove them from one."
        )
    return found


def images(ds: AlgonautsDataset) -> dict[int, Path]:
    """Every image of the data set: 0-based id -> file, ascending; of an image of several subjects one file.

    Raises
    ------
    PerceptError : as of `parts`
    """
    found: dict[int, Path] = {}
    for subject in ds.subjects:
        own = [one for part in parts(ds, subject).values() for one in part]
        found = {one.stimulus: one.path for one in own} | found
    return dict(sorted(found.items()))
