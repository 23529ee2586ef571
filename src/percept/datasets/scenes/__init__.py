"""Procedural scenes: small pictures with objects, layouts, textures, captions and categories.

Every image is made from its seed and id alone, so that any one of them can be made again without the others.

>>> scene = compose(seed=0, stimulus=12)
>>> paint(scene).shape
(425, 425, 3)
"""

from percept.datasets.scenes.catalogue import CATEGORIES, SETTINGS, SUPERCATEGORIES, Category, Setting
from percept.datasets.scenes.compose import SIZE, Object, Scene, captions, compose
from percept.datasets.scenes.paint import paint

__all__ = [
    "CATEGORIES",
    "SETTINGS",
    "SIZE",
    "SUPERCATEGORIES",
    "Category",
    "Object",
    "Scene",
    "Setting",
    "captions",
    "compose",
    "paint",
]
