"""The twin's feature space: what an image is to its simulated brain.

An early block (luminance, colour, contrast and orientation at places of the visual field) and a semantic
block (categories, kinds of place, layout), each reduced to its leading principal components. Components keep
their natural, decaying variance; each block has variance 1 in all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from percept.datasets.scenes import CATEGORIES, SETTINGS, SIZE, SUPERCATEGORIES, Scene

GRID = 7  # cells along each side of the visual field
CHANNELS = (
    "luminance", "red-green", "blue-yellow", "contrast", "horizontal", "falling", "vertical", "rising",
)  # fmt: skip
CELL = 12  # pixels of the reduced image along a cell; 7 x 12 of its 85 are used
N_EARLY, N_SEMANTIC = 14, 10
N_MODES = N_EARLY + N_SEMANTIC


@dataclass(frozen=True)
class Space:
    """Features of a set of images and how raw descriptions map onto them.

    ``features`` (image, mode); ``early_axes`` (cell x cell x channel, early mode) and ``semantic_axes``
    (attribute, semantic mode) hold the responses of each mode to a unit change of a standardised description.
    """

    features: NDArray[np.float32]
    early_axes: NDArray[np.float32]
    semantic_axes: NDArray[np.float32]


def early(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Local image statistics, (7, 7, 8) float32 over (row, column, channel), from (425, 425, 3) RGB.

    Orientation channels hold the energy of the luminance gradient within 45 degrees of an edge's direction.
    """
    small = np.asarray(Image.fromarray(image).reduce(SIZE // 85), dtype=np.float32) / 255
    red, green, blue = small[..., 0], small[..., 1], small[..., 2]
    luminance = 0.3 * red + 0.59 * green + 0.11 * blue
    d_row, d_column = np.gradient(luminance)
    energy = np.hypot(d_row, d_column)
    along = np.arctan2(d_row, d_column) + np.pi / 2  # an edge runs across its gradient; rows run downwards
    edges = [energy * np.clip(np.cos(2 * (along - angle)), 0, None) for angle in np.pi / 4 * np.arange(4)]
    maps = np.stack([luminance, red - green, blue - (red + green) / 2, energy, *edges], axis=-1)
    side = GRID * CELL
    cells = maps[:side, :side].reshape(GRID, CELL, GRID, CELL, len(CHANNELS)).mean(axis=(1, 3))
    contrast = luminance[:side, :side].reshape(GRID, CELL, GRID, CELL).std(axis=(1, 3))
    cells[..., 3] = contrast
    return cells


def attributes() -> tuple[str, ...]:
    """Names of the semantic description's entries."""
    layout = ("objects", "area", "left-right", "depth", "inside")
    return tuple(dict.fromkeys((*CATEGORIES, *SUPERCATEGORIES, *SETTINGS, *layout)))  # person is both


def semantic(scene: Scene) -> NDArray[np.float32]:
    """What a scene is about, (attribute,) float32: visible size by category, kind of place, layout."""
    value = dict.fromkeys(attributes(), 0.0)
    boxes = np.array([thing.box for thing in scene.objects])
    for thing, size in zip(scene.objects, np.sqrt(boxes[:, 2] * boxes[:, 3]), strict=True):
        value[thing.category] = value[thing.category] + size
        supercategory = CATEGORIES[thing.category].supercategory
        if supercategory != thing.category:
            value[supercategory] += size
    value[scene.setting] = 0.4  # the weight of a middling object
    area = boxes[:, 2] * boxes[:, 3]
    value["objects"] = 0.1 * len(boxes)
    value["area"] = area.sum()
    value["left-right"] = float(np.average(boxes[:, 0] + boxes[:, 2] / 2 - 0.5, weights=area))
    value["depth"] = float(np.average(boxes[:, 1] + boxes[:, 3], weights=area))
    value["inside"] = 0.4 * SETTINGS[scene.setting].indoor
    return np.array(list(value.values()), dtype=np.float32)


def space(early_maps: NDArray[np.float32], semantics: NDArray[np.float32]) -> Space:
    """Leading principal components of both descriptions over all images of the twin.

    Parameters
    ----------
    early_maps : (image, 7, 7, 8), standardised here by channel
    semantics : (image, attribute), centred here

    Raises
    ------
    ValueError : fewer images than modes
    """
    if len(early_maps) <= N_MODES:
        raise ValueError(
            f"a twin of {len(early_maps)} images cannot fill a feature space of {N_MODES} dimensions: "
            "raise `dataset.sessions` or `dataset.shared_images`"
        )
    channels = early_maps - early_maps.mean(axis=0)
    channels = channels / channels.std(axis=(0, 1, 2))
    early_features, early_axes = _components(channels.reshape(len(channels), -1), N_EARLY)
    semantic_features, semantic_axes = _components(semantics - semantics.mean(axis=0), N_SEMANTIC)
    return Space(np.concatenate([early_features, semantic_features], axis=1), early_axes, semantic_axes)


def _components(x: NDArray[np.float32], n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (image, n) with total variance 1, and their axes (description, n), signs fixed."""
    _, _, axes = np.linalg.svd(x.astype(np.float64), full_matrices=False)
    axes = axes[:n].T
    axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(n)])
    scores = x @ axes
    scale = 1 / np.sqrt(scores.var(axis=0).sum())
    return (scores * scale).astype(np.float32), (axes * scale).astype(np.float32)
