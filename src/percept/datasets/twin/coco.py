"""COCO annotations of the twin's scenes: captions and instances, in the coordinates of the uncropped
originals.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.scenes import CATEGORIES, Scene, captions
from percept.datasets.twin.tables import CROPS
from percept.files import write_json

FOLDER = "annotations"
# COCO's 80 categories: their ids run from 1 to 90 with gaps
_CATEGORIES = {
    "person": "1 person",
    "vehicle": "2 bicycle,3 car,4 motorcycle,5 airplane,6 bus,7 train,8 truck,9 boat",
    "outdoor": "10 traffic light,11 fire hydrant,13 stop sign,14 parking meter,15 bench",
    "animal": "16 bird,17 cat,18 dog,19 horse,20 sheep,21 cow,22 elephant,23 bear,24 zebra,25 giraffe",
    "accessory": "27 backpack,28 umbrella,31 handbag,32 tie,33 suitcase",
    "sports": "34 frisbee,35 skis,36 snowboard,37 sports ball,38 kite,39 baseball bat,40 baseball glove,"
    "41 skateboard,42 surfboard,43 tennis racket",
    "kitchen": "44 bottle,46 wine glass,47 cup,48 fork,49 knife,50 spoon,51 bowl",
    "food": "52 banana,53 apple,54 sandwich,55 orange,56 broccoli,57 carrot,58 hot dog,59 pizza,60 donut,"
    "61 cake",
    "furniture": "62 chair,63 couch,64 potted plant,65 bed,67 dining table,70 toilet",
    "electronic": "72 tv,73 laptop,74 mouse,75 remote,76 keyboard,77 cell phone",
    "appliance": "78 microwave,79 oven,80 toaster,81 sink,82 refrigerator",
    "indoor": "84 book,85 clock,86 vase,87 scissors,88 teddy bear,89 hair drier,90 toothbrush",
}


def categories() -> list[dict[str, Any]]:
    """The 80 categories as COCO lists them."""
    return [
        {"id": int(number), "name": name, "supercategory": group}
        for group, entries in _CATEGORIES.items()
        for number, name in (entry.split(" ", 1) for entry in entries.split(","))
    ]


def write(scenes: Iterable[Scene], table: pd.DataFrame, root: Path) -> None:
    """Write captions and instances of both splits under ``annotations/``.

    Parameters
    ----------
    scenes : of the images used; an image's `stimulus` is its row of `table`
    table : as `tables.stim_info`
    """
    scenes = list(scenes)
    for split in ("train2017", "val2017"):
        rows = [(scene, table.loc[scene.stimulus]) for scene in scenes]
        chosen = [(scene, row) for scene, row in rows if row["cocoSplit"] == split]
        images = [_image(row) for _, row in chosen]
        common = {"info": {"description": "Procedural scenes of the twin"}, "licenses": [], "images": images}
        said = [
            {"id": 10 * int(row["cocoId"]) + number, "image_id": int(row["cocoId"]), "caption": text}
            for scene, row in chosen
            for number, text in enumerate(captions(scene))
        ]
        instances = [note for scene, row in chosen for note in _instances(scene, row)]
        if chosen:
            instances.append(_crowd(*chosen[0]))
        write_json(common | {"annotations": said}, root / FOLDER / f"captions_{split}.json")
        seen = {"annotations": instances, "categories": categories()}
        write_json(common | seen, root / FOLDER / f"instances_{split}.json")


def _size(row: pd.Series) -> tuple[tuple[float, ...], tuple[int, int]]:
    return next(crop for crop in CROPS if str(crop[0]) == row["cropBox"])


def _image(row: pd.Series) -> dict[str, Any]:
    width, height = _size(row)[1]
    number = int(row["cocoId"])
    return {"id": number, "width": width, "height": height, "file_name": f"{number:012d}.jpg", "license": 0}


def _instances(scene: Scene, row: pd.Series) -> Iterator[dict[str, Any]]:
    """One polygon per object: the ellipse in its box, in pixels of the original."""
    crop, (width, height) = _size(row)
    top, left = crop[0] * height, crop[2] * width
    side = height - (crop[0] + crop[1]) * height
    angle = 2 * np.pi * np.arange(12) / 12
    for number, thing in enumerate(scene.objects):
        x, y, w, h = (share * side for share in thing.box)
        outline = np.stack([x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))], axis=1)
        outline = np.clip(outline, 0, side) + np.array([left, top])
        yield {
            "id": 100 * int(row["cocoId"]) + number,
            "image_id": int(row["cocoId"]),
            "category_id": CATEGORIES[thing.category].coco_id,
            "segmentation": [outline.round(2).ravel().tolist()],
            "area": round(_area(outline), 2),
            "bbox": [*outline.min(axis=0).round(2).tolist(), *np.ptp(outline, axis=0).round(2).tolist()],
            "iscrowd": 0,
        }


def _area(outline: NDArray[np.float64]) -> float:
    """Area of a polygon (corner, 2), by the shoelace formula."""
    x, y = outline.T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def _crowd(scene: Scene, row: pd.Series) -> dict[str, Any]:
    """A crowd, coded by run lengths in column order, as COCO does for many small things: a strip on the
    left.
    """
    width, height = _size(row)[1]
    strip = 20 * height
    return {
        "id": 100 * int(row["cocoId"]) + 99,
        "image_id": int(row["cocoId"]),
        "category_id": CATEGORIES[scene.categories[0]].coco_id,
        "segmentation": {"counts": [0, strip, width * height - strip], "size": [height, width]},
        "area": strip,
        "bbox": [0, 0, 20, height],
        "iscrowd": 1,
    }
