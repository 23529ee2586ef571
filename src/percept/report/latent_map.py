"""A map of test images by what was decoded of them: thumbnails where they lie, framed by what they show."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from percept.files import atomic
from percept.report.figures import COLOURS, FAINT, WIDTH, style

HEIGHT = 8.0  # inches
DPI = 150
SIDE = 72  # pixels of a thumbnail
APART = (0.05, 0.068)  # least distance of thumbnails in x or y, in shares of the map; others are dots


class Images(Protocol):
    """Where the pictures come from, such as `percept.targets.sources.NativeSource`."""

    def images(self, stimuli: Sequence[int]) -> NDArray[np.uint8]:
        """Images (stimulus, height, width, 3)."""


def write(images: pd.DataFrame, source: object, path: str | Path) -> None:
    """Draw the map of `latent.Analysed.images` as PNG; stimuli that are no images are dots."""
    buffer = BytesIO()
    with style():
        draw(images, source).savefig(buffer, format="png", dpi=DPI)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def draw(images: pd.DataFrame, source: object) -> Figure:
    """The map as a figure.

    Parameters
    ----------
    images : a row per image: stimulus, x and y in [0, 1], group (or none), and clusters in further columns
    source : with a method `images` where stimuli are images
    """
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axis = figure.add_subplot()
    groups = grouping(images)
    colours = palette(groups)
    places = images[["x", "y"]].to_numpy()
    axis.scatter(*places.T, s=22, c=[colours[group] for group in groups], linewidths=0)
    shown = spaced(places, APART) if hasattr(source, "images") else np.empty(0, dtype=np.intp)
    _thumbnails(axis, images.iloc[shown], groups.iloc[shown].map(colours), source)
    axis.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5))
    return figure


def grouping(images: pd.DataFrame) -> pd.Series:
    """What colours each image: the kind of its main object, or else its cluster. Rare kinds go together."""
    named = images["group"] if images["group"].notna().all() else None
    if named is None:
        first = next((name for name in images.columns if name.startswith("kmeans_")), None)
        named = pd.Series("images", index=images.index)  # too few of them to be put into clusters
        named = named if first is None else "cluster " + (images[first] + 1).astype(str)
    kept = named.value_counts().index[: len(COLOURS)]
    return named.where(named.isin(kept), "others")


def palette(groups: pd.Series) -> Mapping[str, str]:
    """Group -> colour, the most frequent first; `others` in grey, last."""
    names = [name for name in groups.value_counts().index if name != "others"]
    colours = dict(zip(names, COLOURS, strict=False))
    return colours | ({"others": FAINT} if (groups == "others").any() else {})


def spaced(places: NDArray, apart: tuple[float, float]) -> NDArray[np.intp]:
    """Rows of places (item, 2) that lie at least `apart` from each other in x or y, taken in their order."""
    chosen: list[int] = []
    for row, place in enumerate(places):
        if (np.abs(places[chosen] - place) >= apart).any(axis=1).all():
            chosen.append(row)
    return np.array(chosen, dtype=np.intp)


def _thumbnails(axis: Axes, images: pd.DataFrame, colours: pd.Series, source: Images) -> None:
    for (_, image), colour in zip(images.iterrows(), colours, strict=True):
        picture = Image.fromarray(source.images([int(image["stimulus"])])[0]).resize((SIDE, SIDE))
        box = AnnotationBbox(
            OffsetImage(np.asarray(picture), zoom=0.4 * 72 / SIDE),  # 0.4 inches at any resolution
            (image["x"], image["y"]),
            pad=0.12,
            bboxprops={"edgecolor": colour, "facecolor": colour, "linewidth": 0.5},
        )
        axis.add_artist(box)
