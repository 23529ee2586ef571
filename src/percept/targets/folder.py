"""A folder of images of any size, as targets ask for images: a pool outside the data set.

Row i is the i-th file in the order of the paths. Of each image the central square is brought to one size,
because that is what NSD made of its photographs: a network then sees both in the same way.
"""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps

from percept.files import PerceptError, inside, read_parquet, write_parquet
from percept.shortage import damage

log = logging.getLogger(__name__)
SUFFIXES = (".jpg", ".jpeg", ".png")
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow raises
THREADS = 8  # decoding releases the interpreter lock
LISTED = 10  # files that a message names


@dataclass(frozen=True)
class ImageFolder:
    """Images by their number among the sorted paths.

    Attributes
    ----------
    path : the folder
    files : paths of the images in it, relative to it, sorted
    size : side in pixels of what `images` returns
    """

    path: Path
    files: tuple[str, ...]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def images(self, stimuli: Iterable[int]) -> NDArray[np.uint8]:
        """Images (image, size, size, 3), in the order asked; on white where they are transparent.

        Raises
        ------
        PerceptError : a file cannot be read; then all are tried, and those that cannot be read are named
        """
        wanted = [self.path / self.files[int(one)] for one in stimuli]
        try:
            with ThreadPoolExecutor(THREADS) as readers:
                return np.stack(list(readers.map(partial(square, size=self.size), wanted)))
        except damage(self.path, *UNREADABLE) as error:
            bad = self._unreadable()
            if not bad:  # it can be read again: a passing fault of the file system
                raise
            raise self._refusal(bad) from error

    def _unreadable(self) -> dict[str, str]:
        """All files that cannot be read, and why: one at a time, a large pool would take many runs."""
        log.warning("%s: an image cannot be read; looking at all %d for others", self.path, len(self))
        with ThreadPoolExecutor(THREADS) as readers:
            problems = readers.map(problem, (self.path / name for name in self.files))
            bad = {name: why for name, why in zip(self.files, problems, strict=True) if why}
        for name, why in bad.items():
            log.warning("%s: %s", self.path / name, why)
        return bad

    def _refusal(self, bad: dict[str, str]) -> PerceptError:
        named = "; ".join(f"{name} ({why})" for name, why in list(bad.items())[:LISTED])
        more = f" and {len(bad) - LISTED} more, all of them in the log" if len(bad) > LISTED else ""
        return PerceptError(
            f"{len(bad)} of the {len(self)} files in {self.path} cannot be read as images: {named}{more}. A "
            "pool has a row of embeddings for every file, so none is passed over: remove or replace them, "
            "and run the same command again; what was computed is kept. If files came or went after the "
            "pool was encoded, add `--forcerun encode_pool`."
        )


def list_images(folder: str | Path) -> list[str]:
    """Paths of the images in a folder and below it, relative to it, sorted; hidden ones are left out.

    Links to files are followed, links to other folders are not.

    Raises
    ------
    PerceptError : no such folder, or no image in it
    """
    folder = Path(folder)
    found = [
        Path(where, name).relative_to(folder).as_posix()
        for where, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(SUFFIXES)
    ]
    found = sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))
    if not found:
        what = f"holds no image ({', '.join(SUFFIXES)})" if folder.is_dir() else "is no folder"
        raise PerceptError(
            f"{folder} {what}, so nothing can be found in this pool: set `images` of its entry of `pools` to "
            "the folder of its images."
        )
    return found


def write_list(folder: str | Path, path: str | Path) -> None:
    """Write the table of the images in a folder: the column `file`, as of `list_images`."""
    write_parquet(pd.DataFrame({"file": list_images(folder)}), path)


def read_list(path: str | Path, folder: str | Path, size: int) -> ImageFolder:
    """The images of a folder that were listed in a table.

    Raises
    ------
    PerceptError : the table is damaged, or names a file outside the folder
    """
    table = read_parquet(path)
    if "file" not in table or not all(isinstance(name, str) for name in table["file"]):
        raise PerceptError(
            f"{path} is no list of images, which has one column, `file`: delete it and run the same command "
            "again; the workflow makes it anew."
        )
    for name in table["file"]:
        inside(folder, name, path)
    return ImageFolder(Path(folder), tuple(table["file"]), size)


def square(path: Path, size: int) -> NDArray[np.uint8]:
    """The central square of an image, upright, brought to (size, size, 3)."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            paper = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(paper, image.convert("RGBA"))
        return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC))


def problem(path: Path) -> str:
    """Why a file cannot be read as an image; empty where it can."""
    try:
        square(path, 1)
    except damage(path, *UNREADABLE) as error:
        return " ".join(f"{type(error).__name__}: {error}".replace(repr(str(path)), "").split()).rstrip(": ")
    return ""
