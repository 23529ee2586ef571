"""Stimuli of a lab's own data: which id each one has, its image, its label."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from percept.datasets.arrays import trials
from percept.datasets.arrays.readers import n_rows, read_rows, read_table
from percept.datasets.arrays_config import ArraysDataset, StimuliSource, locate
from percept.files import PerceptError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
WHOLE = re.compile(r"\d+")
LARGEST_ID = np.iinfo(np.int32).max  # as ids are stored


def catalogue(ds: ArraysDataset) -> dict[str, int]:
    """Every stimulus that has an id: its label -> its id, 0-based.

    Ids are the same for all subjects. `labels`: position among the distinct stimuli that any subject saw,
    sorted. Folder: the number that the stem of the file is, or, where a stem is no number, the position among
    the sorted stems. Array: the position, counted from `first_id`.
    """
    if ds.stimuli == "labels":
        tables = [trials.read_table(ds, subject) for subject in ds.subjects]
        seen = {label for table in tables for label in table.stimulus[trials.used(ds, table)]}
        return {label: position for position, label in enumerate(sorted(seen, key=_natural))}
    path = locate(ds.stimuli.path)
    if path.is_dir():
        return {stem: number for number, (stem, _) in _image_files(path).items()}
    first = ds.stimuli.first_id
    return {str(first + position): position for position in range(n_rows(path, ds.stimuli.variable))}


def _natural(label: str) -> tuple[int, int, str]:
    """Numbers first, by value; then text."""
    return (0, int(label), label) if WHOLE.fullmatch(label) else (1, 0, label)


def _image_files(folder: Path) -> dict[int, tuple[str, Path]]:
    """Stimulus id -> (stem, file), ascending.

    Raises
    ------
    PerceptError : the folder has no images, or two of them stand for the same stimulus
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise PerceptError(
            f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); see `dataset.stimuli.path`."
        )
    numbered = all(WHOLE.fullmatch(file.stem) and int(file.stem) <= LARGEST_ID for file in files)
    order = {stem: place for place, stem in enumerate(sorted({file.stem for file in files}))}
    found: dict[int, tuple[str, Path]] = {}
    for file in files:
        number = int(file.stem) if numbered else order[file.stem]
        if number in found:
            raise PerceptError(
                f"{file} and {found[number][1]} both stand for stimulus {file.stem!r}, so it is not known "
                "which image was shown. Keep one of them."
            )
        found[number] = (file.stem, file)
    return dict(sorted(found.items()))


def identify(ds: ArraysDataset, stimuli: Sequence[str], known: dict[str, int], where: str) -> NDArray:
    """Ids, (trial,) int32, of stimuli named as in the trial table.

    A stimulus is found by its label, by the name of its file, or, among numbers, by its value (`7` is `007`).

    Raises
    ------
    PerceptError : a stimulus is in no image or label of the data set; the first is named
    """
    by_value = {str(int(label)): number for label, number in known.items() if WHOLE.fullmatch(label)}
    ids = {}
    for label in dict.fromkeys(stimuli):
        stem = label if label in known else _stem(label)
        value = str(int(stem)) if WHOLE.fullmatch(stem) else stem
        ids[label] = known.get(stem, by_value.get(value))
    unknown = [label for label, number in ids.items() if number is None]
    if unknown:
        place = "the trial tables" if ds.stimuli == "labels" else locate(ds.stimuli.path)
        raise PerceptError(
            f"{where}: stimulus {unknown[0]!r} has no image in {place} ({len(unknown)} of {len(ids)} "
            f"stimuli have none; there are {len(known)}, such as {', '.join(list(known)[:3])}). Without it "
            "the trial cannot be scored: add the image, correct the table, or list the stimulus under "
            "`dataset.trials.leave_out`."
        )
    return np.array([ids[label] for label in stimuli], dtype=np.int32)


def _stem(label: str) -> str:
    """Name of an image file without folder and suffix; any other label as it is."""
    return Path(label).stem if Path(label).suffix.lower() in IMAGE_SUFFIXES else label


def labels(ds: ArraysDataset, stimuli: Sequence[int]) -> list[str]:
    """Names of stimuli, in the order asked for, duplicates allowed.

    Raises
    ------
    PerceptError : an id that no stimulus has
    """
    names = {number: label for label, number in catalogue(ds).items()}
    _known(stimuli, names, ds)
    return [names[int(stimulus)] for stimulus in stimuli]


def images(ds: ArraysDataset, stimuli: Sequence[int]) -> NDArray:
    """Images of stimuli, (n, row, column, 3) uint8, in the order asked for, duplicates allowed.

    Raises
    ------
    PerceptError : the data set has labels and no images, an id that no image has, an image that is damaged,
        not uint8, or of another size than the others while `dataset.stimuli.size` is not set
    """
    if ds.stimuli == "labels":
        raise PerceptError(
            f"data set {ds.name} has labels as stimuli (`dataset.stimuli: labels`) and no images, so image "
            "targets, reconstructions and image metrics cannot be computed. Choose a target that uses "
            "labels, or give images."
        )
    path = locate(ds.stimuli.path)
    if path.is_dir():
        files = _image_files(path)
        _known(stimuli, files, ds)
        return read_files([files[int(stimulus)][1] for stimulus in stimuli], ds.stimuli.size)
    _known(stimuli, range(n_rows(path, ds.stimuli.variable)), ds)
    return _from_array(path, ds.stimuli, np.asarray(stimuli, dtype=int))


def _known(stimuli: Sequence[int], known: Collection[int], ds: ArraysDataset) -> None:
    unknown = [int(stimulus) for stimulus in stimuli if int(stimulus) not in known]
    if unknown:
        raise PerceptError(
            f"data set {ds.name} has no stimulus {unknown[0]}; it has {len(known)} (ids are 0-based)."
        )


def read_files(paths: Sequence[Path], size: int | None = None) -> NDArray[np.uint8]:
    """Image files (n, row, column, 3), in the order asked for; a file that is named twice is read once.

    Parameters
    ----------
    size : pixels of the central square to which each is brought; None leaves them as they are

    Raises
    ------
    PerceptError : an image is damaged, or of another size than the others
    """
    distinct = {path: _read_image(path, size) for path in dict.fromkeys(paths)}
    _same_size({path: image.shape for path, image in distinct.items()})
    return np.stack([distinct[path] for path in paths])


def _read_image(path: Path, size: int | None) -> NDArray:
    try:
        with Image.open(path) as image:
            return _resized(image.convert("RGB"), size)
    except (UnidentifiedImageError, OSError) as error:
        raise PerceptError(f"{path} is not readable as an image ({error}): replace the file.") from error


def _resized(image: Image.Image, size: int | None) -> NDArray:
    """(row, column, 3) uint8; with `size`, the central square of the image in that many pixels."""
    if size is not None:
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        image = image.crop((left, top, left + side, top + side)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
    return np.asarray(image, dtype=np.uint8)


def _same_size(shapes: dict[Path, tuple[int, ...]]) -> None:
    first, *others = shapes.items()
    for path, shape in others:
        if shape != first[1]:
            raise PerceptError(
                f"{path} has {shape[1]} x {shape[0]} pixels and {first[0]} {first[1][1]} x {first[1][0]}, "
                "but images are compared pixel by pixel. Set `dataset.stimuli.size` (of a challenge tree: "
                "`dataset.size`) to bring them to one size."
            )


def _from_array(path: Path, source: StimuliSource, rows: NDArray) -> NDArray:
    stack = read_rows(path, source.variable, rows)
    if stack.ndim == 3:  # grey
        stack = np.repeat(stack[..., None], 3, axis=3)
    if stack.dtype != np.uint8 or stack.ndim != 4 or stack.shape[3] != 3:
        raise PerceptError(
            f"{path} holds images as {stack.dtype} {stack.shape[1:]}, but they must be uint8, 0 to 255, with "
            "the axes (image, row, column) or (image, row, column, 3). Convert them once and save them "
            "again."
        )
    if source.size is None:
        return stack
    return np.stack([_resized(Image.fromarray(image), source.size) for image in stack])


def texts(ds: ArraysDataset, stimuli: Sequence[int], column: str) -> list[tuple[str, ...]]:
    """What a column of the trial tables, such as `caption`, says about stimuli, in the order asked for.

    Each row may say something else: these are the distinct texts of all trials of a stimulus, of all
    subjects, in the order of the tables.

    Raises
    ------
    PerceptError : no table has the column, or no row of a stimulus says anything
    """
    known = catalogue(ds)
    said: dict[int, dict[str, None]] = {}
    for subject in ds.subjects:
        for number, text in _told(ds, subject, column, known):
            said.setdefault(number, {})[text] = None
    silent = [int(stimulus) for stimulus in stimuli if int(stimulus) not in said]
    if silent:
        raise PerceptError(
            f"data set {ds.name}: the column `{column}` of the trial tables ({locate(ds.trials.path, '*')}) "
            f"says nothing about {len(silent)} stimuli, the first is {silent[0]}. Add the column, with a "
            "text in at least one row of each stimulus, or name a target that reads images."
        )
    return [tuple(said[int(stimulus)]) for stimulus in stimuli]


def _told(ds: ArraysDataset, subject: str, column: str, known: dict[str, int]) -> Iterator[tuple[int, str]]:
    """Stimulus and text of the rows of one table that are used and say something."""
    path = locate(ds.trials.path, subject)
    table = read_table(path, ds.trials.names)
    if column in table:
        shown = trials.read_table(ds, subject)
        told = table[column].fillna("").astype(str).str.strip()
        rows = trials.used(ds, shown) & (told != "").to_numpy()
        ids = identify(ds, shown.stimulus[rows].tolist(), known, f"{path} (subject {subject})")
        yield from zip(ids.tolist(), told[rows], strict=True)


@dataclass(frozen=True)
class _Told:
    """What trial tables may say about stimuli."""

    ds: ArraysDataset

    def captions(self, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
        """From the column `caption`; errors as of `texts`."""
        return texts(self.ds, stimuli, "caption")

    def objects(self, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
        """From the column `objects`, names parted by commas, the largest first; errors as of `texts`."""
        rows = texts(self.ds, stimuli, "objects")
        return [tuple(name.strip() for name in row[0].split(",")) for row in rows]


@dataclass(frozen=True)
class LabelSource(_Told):
    """What targets can ask of a data set whose stimuli are labels."""

    def labels(self, stimuli: Sequence[int]) -> list[str]:
        """One category name per stimulus; errors as of `labels`."""
        return labels(self.ds, stimuli)


@dataclass(frozen=True)
class ImageSource(_Told):
    """What targets can ask of a data set that has images."""

    def images(self, stimuli: Sequence[int]) -> NDArray:
        """Images (stimulus, row, column, 3) uint8; errors as of `images`."""
        return images(self.ds, stimuli)


def source(ds: ArraysDataset) -> LabelSource | ImageSource:
    """The stimuli of a data set, as `percept.targets.encode` asks for them."""
    return LabelSource(ds) if ds.stimuli == "labels" else ImageSource(ds)
