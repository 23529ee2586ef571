"""Scenes as training data: small pictures with their captions and objects, and the batch of each step.

The scenes themselves are drawn by `percept.datasets.scenes.drawn.draw`, a layer above; this module only
stores and serves them, without torch.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.files import UNREADABLE, PerceptError, atomic, read_parquet, write_parquet
from percept.shortage import damage

SIDE = 64  # pixels
CAPTIONS = 5  # per scene, as in COCO
# NSD's stimuli, and with them those of every twin, are numbered below 73,000.
FIRST_TRAIN = 1_000_000
FIRST_HELD_OUT = 2_000_000
SHIFT = 2  # pixels in each direction, at most
MOST_BLUR = 2.5  # pixels, standard deviation
MOST_NOISE = 0.06  # standard deviation, as a share of the range
JITTER = 0.04  # of each channel's gain; small, because captions speak of bright and dim light


@dataclass(frozen=True)
class Scenes:
    """Small pictures and what they show.

    ``images`` (scene, 64, 64, 3) uint8 RGB; ``captions`` five each; ``objects`` names of the categories in
    each picture, largest visible first; ``settings`` names of the places.
    """

    images: NDArray[np.uint8]
    captions: tuple[tuple[str, ...], ...]
    objects: tuple[tuple[str, ...], ...]
    settings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def main(self) -> tuple[str, ...]:
        """Category of the largest object in each picture."""
        return tuple(names[0] for names in self.objects)

    def digest(self) -> str:
        """SHA-256 of the pictures and of all that is known of them."""
        told = json.dumps([self.images.shape, self.captions, self.objects, self.settings])
        running = hashlib.sha256(told.encode())
        running.update(np.ascontiguousarray(self.images))
        return running.hexdigest()

    def take(self, rows: NDArray[np.integer]) -> "Scenes":
        """The scenes at some rows."""
        return Scenes(
            self.images[rows],
            tuple(self.captions[row] for row in rows),
            tuple(self.objects[row] for row in rows),
            tuple(self.settings[row] for row in rows),
        )


@dataclass(frozen=True)
class Batch:
    """What one step is trained on: images (row, 64, 64, 3) uint8, one caption each, and the scenes' rows."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    rows: NDArray[np.int64]


def save(scenes: Scenes, folder: str | Path) -> None:
    """Write ``images.npz`` and, last, ``scenes.parquet`` (captions, objects, setting) into a folder."""
    folder = Path(folder)
    with atomic(folder / "images.npz") as temporary:
        np.savez(temporary, images=scenes.images)
    table = pd.DataFrame(
        {
            "captions": [list(each) for each in scenes.captions],
            "objects": [list(each) for each in scenes.objects],
            "setting": scenes.settings,
        }
    )
    write_parquet(table, folder / "scenes.parquet")


def load(folder: str | Path) -> Scenes:
    """Scenes as `save` wrote them.

    Raises
    ------
    PerceptError : pictures and descriptions are not of the same scenes
    """
    folder = Path(folder)
    try:
        with np.load(folder / "images.npz", allow_pickle=False) as stored:
            images = stored["images"]
    except damage(folder / "images.npz", *UNREADABLE, zipfile.BadZipFile) as error:
        raise PerceptError(
            f"{folder / 'images.npz'} is not readable ({error}): it is missing or damaged, and nothing can "
            "be trained on its pictures. Delete the folder and run the same command again."
        ) from error
    table = read_parquet(folder / "scenes.parquet")
    if len(table) != len(images):
        raise PerceptError(
            f"{folder} holds {len(images)} pictures but describes {len(table)} scenes: its two files come "
            "from different runs, and captions would be paired with wrong pictures. Delete the folder and "
            "run the same command again."
        )
    captions = tuple(tuple(each) for each in table["captions"])
    return Scenes(images, captions, tuple(tuple(each) for each in table["objects"]), tuple(table["setting"]))


def batch(scenes: Scenes, step: int, size: int, seed: int, *, augment: bool = True) -> Batch:
    """The batch of a step, a pure function of seed and step: training resumed at a step sees the same.

    Scenes are drawn without replacement within a batch, with one of their captions each. Augmentation moves
    each picture by up to `SHIFT` pixels (edges repeated) and scales its channels by up to `JITTER`; it never
    mirrors, because captions say left and right.
    """
    rng = np.random.default_rng([seed, step])
    rows = rng.choice(len(scenes), size, replace=False)
    said = tuple(scenes.captions[row][which] for row, which in zip(rows, _which(rng, size), strict=True))
    images = scenes.images[rows]
    return Batch(_augmented(images, rng) if augment else images, said, rows)


def _which(rng: np.random.Generator, size: int) -> NDArray[np.int64]:
    return rng.integers(CAPTIONS, size=size)


def _augmented(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shifted and tinted copies of (image, row, column, 3)."""
    down, right = rng.integers(-SHIFT, SHIFT + 1, (2, len(images), 1))
    row = np.clip(np.arange(images.shape[1]) + down, 0, images.shape[1] - 1)  # (image, row)
    column = np.clip(np.arange(images.shape[2]) + right, 0, images.shape[2] - 1)
    moved = images[np.arange(len(images))[:, None, None], row[:, :, None], column[:, None, :]]
    gain = rng.uniform(1 - JITTER, 1 + JITTER, (len(images), 1, 1, 3)).astype(np.float32)
    return np.clip(np.rint(moved * gain), 0, 255).astype(np.uint8)


def spoilt(images: NDArray[np.uint8], seed: tuple[int, ...]) -> NDArray[np.uint8]:
    """Copies of (image, row, column, 3), half of them blurred and noisy as reconstructions are."""
    rng = np.random.default_rng([*seed, 2])
    spoil = rng.random(len(images)) < 0.5
    sigma = np.where(spoil, rng.uniform(0, MOST_BLUR, len(images)), 0)
    noise = np.where(spoil, rng.uniform(0, MOST_NOISE, len(images)), 0).astype(np.float32)
    grain = rng.standard_normal(images.shape, dtype=np.float32) * (255 * noise)[:, None, None, None]
    return np.clip(np.rint(blurred(images, sigma) + grain), 0, 255).astype(np.uint8)


def blurred(images: NDArray[np.uint8], sigma: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each image (image, row, column, 3) under a Gaussian of its own width in pixels, edges reflected."""
    from scipy.ndimage import gaussian_filter1d

    found = images.astype(np.float32)
    for number in np.flatnonzero(sigma > 0):
        for axis in (0, 1):
            found[number] = gaussian_filter1d(found[number], sigma[number], axis=axis, mode="reflect")
    return found


def prompt(category: str) -> str:
    """The shortest caption, which names a category and nothing else."""
    return f"A picture of {'an' if category[0] in 'aeiou' else 'a'} {category}."


def present(scenes: Scenes, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which of the named categories each scene shows, (scene, name)."""
    return np.array([[name in objects for name in names] for objects in scenes.objects], dtype=bool)
