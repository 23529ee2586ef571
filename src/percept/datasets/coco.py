"""Captions and objects of NSD's images, which are crops of images of COCO (Lin et al. 2014).

What was cut off is not there for the subject, so objects are clipped to the crop and measured in it. COCO's
annotations are CC BY 4.0; the twin writes files of the same form.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from percept.datasets import crops
from percept.datasets.crops import Polygon, Window
from percept.files import PerceptError

SPLITS = ("train2017", "val2017")
ARCHIVE = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
SMALLEST = 1e-4  # of the crop's area: 18 of NSD's 425 x 425 pixels; what is smaller is not called visible
BLANK = re.compile(r"[\s,]*")


def key(what: str, split: str) -> str:
    """Path of `captions` or `instances` of a split, relative to the root of the data set."""
    return f"annotations/{what}_{split}.json"


KEYS = tuple(key(what, split) for what in ("captions", "instances") for split in SPLITS)


@dataclass(frozen=True)
class Visible:
    """The part of one object that NSD's crop shows.

    area : share of the crop
    box : left, top, width, height in shares of the crop's side
    crowd : many things of the category, annotated as one
    """

    category: str
    supercategory: str
    area: float
    box: tuple[float, float, float, float]
    crowd: bool


def captions(root: str | Path, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
    """Captions of each stimulus (0-based nsd id), in the order of their ids; COCO has five or more an image.

    Raises
    ------
    PerceptError : annotations are missing or damaged, or say nothing about an image
    """
    images = _images(root, stimuli)
    found: dict[int, dict[int, str]] = defaultdict(dict)
    for path, wanted in _files(root, "captions", images):
        for _, entry in entries(path, ["annotations"]):
            try:
                if (number := entry["image_id"]) in wanted:
                    found[number][entry["id"]] = " ".join(
                        entry["caption"].split()
                    )  # some end in a line break
            except (LookupError, TypeError, AttributeError) as error:
                raise _damaged(path, error) from error
    _require(images, found, root, "captions")
    return [tuple(found[number][each] for each in sorted(found[number])) for number in images.coco_id]


def objects(root: str | Path, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
    """Names of the categories visible in each stimulus, by the area of all their objects, largest first.

    Raises
    ------
    PerceptError : as of `visible`
    """
    ranked = []
    for things in visible(root, stimuli):
        area: dict[str, float] = defaultdict(float)
        for thing in things:
            area[thing.category] += thing.area
        ranked.append(tuple(sorted(area, key=lambda name: (-area[name], name))))
    return ranked


def visible(root: str | Path, stimuli: Sequence[int]) -> list[tuple[Visible, ...]]:
    """Objects that the crop of each stimulus shows, largest first, down to `SMALLEST`.

    Areas are exact for polygons (clipped to the crop) and crowds (counted pixels); that one object hides a
    part of another is not known.

    Raises
    ------
    PerceptError : annotations are missing or damaged, or say nothing about an image
    """
    images = _images(root, stimuli)
    found: dict[int, list[Visible]] = {}
    for path, wanted in _files(root, "instances", images):
        windows, annotated, categories = _instances(path, wanted, images)
        found |= {number: [] for number in windows}
        for note in (each for each in annotated if each.image in windows):
            thing = _seen(note, categories, windows[note.image], path)
            if thing.area >= SMALLEST:
                found[note.image].append(thing)
    _require(images, found, root, "instances")
    return [tuple(sorted(found[number], key=lambda thing: -thing.area)) for number in images.coco_id]


@dataclass(frozen=True)
class _Note:
    """What is needed of an annotation: `shape` is run lengths, or a list of polygons."""

    image: int
    category: int
    crowd: bool
    shape: dict[str, Any] | list[Polygon]


def _instances(
    path: Path, wanted: set[int], images: "_Images"
) -> tuple[dict[int, Window], list[_Note], dict[int, dict[str, Any]]]:
    """Crops of the wanted images, their annotations, all categories; the lists may come in any order."""
    windows, notes, categories = {}, [], {}
    for name, entry in entries(path, ["images", "annotations", "categories"]):
        try:
            if name == "categories":
                categories[entry["id"]] = entry
            elif name == "annotations" and entry["image_id"] in wanted:
                notes.append(_note(entry))
            elif name == "images" and entry["id"] in wanted:
                crop = images.crop[entry["id"]]
                windows[entry["id"]] = _window(crop, entry["width"], entry["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error
    return windows, notes, categories


def _note(entry: dict[str, Any]) -> _Note:
    shape = entry["segmentation"]
    if not isinstance(shape, dict):  # arrays take a quarter of the memory of lists
        shape = [np.array(each, dtype=np.float64).reshape(-1, 2) for each in shape]
    return _Note(entry["image_id"], entry["category_id"], bool(entry["iscrowd"]), shape)


@dataclass(frozen=True)
class _Images:
    """The originals of some stimuli: ids in the order asked, those of each split, and shares cut off."""

    stimuli: list[int]
    coco_id: list[int]
    by_split: dict[str, set[int]]
    crop: dict[int, tuple[float, float, float, float]]  # top, bottom, left, right


def _images(root: str | Path, stimuli: Sequence[int]) -> _Images:
    from percept.datasets import nsd_tables

    table = nsd_tables.read_stim_info(root).set_index("stimulus")
    asked = [int(one) for one in stimuli]
    foreign = [one for one in asked if one not in table.index]
    if foreign:
        raise PerceptError(
            f"the stimulus table of {root} has no image {foreign[0]}, so its captions and objects are "
            "unknown: ids are 0-based (73KID - 1). Check `dataset.root`."
        )
    table = table.loc[asked]
    numbers = table["coco_id"].astype(int)
    sides = ["crop_top", "crop_bottom", "crop_left", "crop_right"]
    crop = dict(zip(numbers, map(tuple, table[sides].to_numpy()), strict=True))
    by_split = {split: set(numbers[table["coco_split"] == split]) for split in SPLITS}
    return _Images(asked, numbers.tolist(), by_split, crop)


def _files(root: str | Path, what: str, images: _Images) -> Iterator[tuple[Path, set[int]]]:
    """The annotation files that say something about the images, each with the ids of its images."""
    for split, wanted in images.by_split.items():
        if not wanted:
            continue
        path = Path(root) / key(what, split)
        if not path.is_file():
            raise PerceptError(
                f"{path} is missing: captions and objects of the stimuli are read from COCO's annotations. "
                "`snakemake fetch_annotations --cores 1` (with the `--configfile` of your analysis) fetches "
                f"them; by hand, unpack {ARCHIVE} so that the folder `annotations` lies in {root}."
            )
        yield path, wanted


def _require(images: _Images, found: Collection[int], root: str | Path, what: str) -> None:
    for stimulus, number in zip(images.stimuli, images.coco_id, strict=True):
        if number not in found:
            raise PerceptError(
                f"the {what} under {Path(root) / 'annotations'} say nothing about stimulus {stimulus} (image "
                f"{number} of COCO): they are not those of COCO 2017 train and val, or of another twin. "
                "Delete them, and run the same command again."
            )


def entries(path: Path, names: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of some lists of the JSON object in a file, each with the name of its list, as they come.

    COCO's instances are one object of 450 MB, which as Python's lists and numbers would take several GB; here
    memory is the text and a single entry.

    Raises
    ------
    PerceptError : the file is not such an object, is cut off, or lacks one of the lists
    """
    decode = json.JSONDecoder().raw_decode
    met = set()
    try:
        text = path.read_text(encoding="utf-8")
        place = _next(text, text.index("{") + 1)
        while text[place] != "}":
            name, place = decode(text, place)
            place = _next(text, text.index(":", place) + 1)
            if name not in names:
                place = _next(text, _end(text, place))
                continue
            met.add(name)
            place = _next(text, text.index("[", place) + 1)
            while text[place] != "]":
                entry, place = decode(text, place)
                place = _next(text, place)
                yield name, entry
            place = _next(text, place + 1)
    except (ValueError, IndexError, AttributeError, RecursionError) as error:
        raise _damaged(path, error) from error
    if missing := set(names) - met:
        raise _damaged(path, LookupError(f"no list of {', '.join(sorted(missing))}"))


def _next(text: str, place: int) -> int:
    """Where the next key, value or closing bracket begins."""
    return BLANK.match(text, place).end()


def _end(text: str, place: int) -> int:
    """Where a value ends; the elements of a list are read and forgotten one by one."""
    decode = json.JSONDecoder().raw_decode
    if text[place] != "[":
        return decode(text, place)[1]
    place = _next(text, place + 1)
    while text[place] != "]":
        place = _next(text, decode(text, place)[1])
    return place + 1


def _damaged(path: Path, error: Exception) -> PerceptError:
    return PerceptError(
        f"{path} is not readable as annotations of COCO ({type(error).__name__}: {error}): it is cut off or "
        "damaged. Delete it and run the same command again, which fetches it anew."
    )


def _window(crop: tuple[float, float, float, float], width: int, height: int) -> Window:
    top, bottom, left, right = crop
    return Window(left * width, top * height, (1 - right) * width, (1 - bottom) * height)


def _seen(note: _Note, categories: dict[int, dict[str, Any]], window: Window, path: Path) -> Visible:
    measure = crops.crowd if isinstance(note.shape, dict) else crops.outlined
    try:
        area, box = measure(note.shape, window)
        names = (categories[note.category][key] for key in ("name", "supercategory"))
        return Visible(*names, area / window.area, box, note.crowd)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
