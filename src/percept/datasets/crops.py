"""What a rectangle cut out of an image shows of an object: the area and the box of its visible part."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]  # (corner, 2): x, y
Box = tuple[float, float, float, float]
NOTHING: tuple[float, Box] = (0.0, (0.0, 0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Window:
    """A rectangle, in pixels of the original: `left` to `right`, `top` to `bottom`."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """In square pixels of the original."""
        return (self.right - self.left) * (self.bottom - self.top)

    def relative(self, left: float, top: float, right: float, bottom: float) -> Box:
        """A box of the original as left, top, width, height in shares of the sides of the window."""
        width, height = self.right - self.left, self.bottom - self.top
        return (
            float(left - self.left) / width, float(top - self.top) / height,
            float(right - left) / width, float(bottom - top) / height,
        )  # fmt: skip


def outlined(polygons: Sequence[Polygon], window: Window) -> tuple[float, Box]:
    """Visible area in square pixels, and the box around it, of an object of one or more parts."""
    parts = [part for each in polygons if len(part := clip(each, window))]
    if not parts:
        return NOTHING
    corners = np.concatenate(parts)
    box = window.relative(*corners.min(axis=0), *corners.max(axis=0))
    return sum(map(area_of, parts)), box


def area_of(polygon: Polygon) -> float:
    """Area of a polygon, by the shoelace formula."""
    x, y = polygon.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def clip(polygon: Polygon, window: Window) -> Polygon:
    """The part of a polygon inside a rectangle (Sutherland and Hodgman 1974); empty where they do not meet.

    Parts of a concave polygon stay connected by edges without area along the border.
    """
    for axis, limit, inwards in (
        (0, window.left, 1), (0, window.right, -1), (1, window.top, 1), (1, window.bottom, -1),
    ):  # fmt: skip
        depth = inwards * (polygon[:, axis] - limit)  # (corner,), above 0 inside
        if (depth >= 0).all():
            continue
        polygon = _cut(polygon, depth)
        if not len(polygon):
            break
    return polygon


def _cut(polygon: Polygon, depth: NDArray[np.float64]) -> Polygon:
    """The part of a polygon where `depth`, linear along its edges, is not negative."""
    following, next_depth = np.roll(polygon, -1, axis=0), np.roll(depth, -1)
    crosses = (depth < 0) != (next_depth < 0)
    share = np.where(crosses, depth / np.where(crosses, depth - next_depth, 1), 0)
    crossing = polygon + share[:, None] * (following - polygon)
    pairs = np.stack([polygon, crossing], axis=1).reshape(-1, 2)  # a corner, then where its edge crosses
    kept = np.stack([depth >= 0, crosses], axis=1).ravel()
    return pairs[kept]


def crowd(runs: dict[str, Any], window: Window) -> tuple[float, Box]:
    """Visible area and box of a crowd: pixels whose centres lie in the window."""
    rows, columns = np.nonzero(decode_runs(runs["counts"], runs["size"]))
    inside = (rows + 0.5 >= window.top) & (rows + 0.5 < window.bottom)
    inside &= (columns + 0.5 >= window.left) & (columns + 0.5 < window.right)
    rows, columns = rows[inside], columns[inside]
    if not len(rows):
        return NOTHING
    edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    return float(len(rows)), window.relative(*edges)


def decode_runs(counts: list[int], size: Sequence[int]) -> NDArray[np.bool_]:
    """Mask (row, column) of COCO's run lengths: lengths of 0s and 1s in turn, column by column.

    Raises
    ------
    ValueError : the runs do not fill the image
    """
    height, width = size
    if isinstance(counts, str) or sum(counts) != height * width:
        raise ValueError(f"run lengths that do not fill {height} x {width} pixels")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T
