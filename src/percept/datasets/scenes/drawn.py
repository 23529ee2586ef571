"""Scenes as training data of the small networks, drawn by number."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from percept.backbones.tiny.data import SIDE, Scenes
from percept.datasets.scenes.compose import Scene, captions, compose
from percept.datasets.scenes.paint import paint

SEED = 0


def draw(first: int, n: int) -> Scenes:
    """The scenes numbered `first` to `first + n - 1`, about 5 ms each.

    Numbers of training and held-out scenes start at `percept.backbones.tiny.data.FIRST_TRAIN` and
    ``FIRST_HELD_OUT``, far above those of any data set.
    """
    scenes = [compose(SEED, first + number) for number in range(n)]
    return Scenes(
        np.stack([reduced(paint(scene)) for scene in scenes]),
        tuple(captions(scene) for scene in scenes),
        tuple(visible(scene) for scene in scenes),
        tuple(scene.setting for scene in scenes),
    )


def reduced(image: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """A square picture at `side` pixels, as open_clip's preprocessing reduces it: bicubic, antialiased."""
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def visible(scene: Scene) -> tuple[str, ...]:
    """Names of the categories in the picture, by the visible area of their largest object.

    Each object covers the ellipse in its box; what stands in front hides what is behind it. A category of
    which nothing is left to see (one scene in fifty has one) comes last, since captions still name it.
    """
    row, column = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
    front = np.full((SIDE, SIDE), -1)
    for number, thing in enumerate(scene.objects):  # from back to front
        left, top, width, height = thing.box
        x, y = (column - left) / width - 0.5, (row - top) / height - 0.5
        front[x**2 + y**2 <= 0.25] = number
    area: dict[str, int] = {}
    for number, thing in enumerate(scene.objects):
        area[thing.category] = max(area.get(thing.category, 0), int((front == number).sum()))
    return tuple(sorted(area, key=lambda name: -area[name]))
