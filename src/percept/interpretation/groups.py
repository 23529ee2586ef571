"""Which voxels are perturbed together: one alone, those of a region, those of a small cube."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.voxels import roi


class Group(NamedTuple):
    """Voxels that are replaced together.

    voxels : (k,) ascending columns of the responses
    """

    grouping: str
    name: str
    voxels: NDArray[np.intp]


def regions(table: pd.DataFrame, side: int, smallest: int) -> list[Group]:
    """A group per label of each atlas, `atlas:label`; regions of different atlases overlap.

    A label that all voxels carry is left out: there would be no other voxel to compare it with.

    Parameters
    ----------
    table : rows of the voxel table that the decoder reads
    side, smallest : not used here; the groupings are called alike
    """
    found = []
    for atlas in roi.atlases(table):
        for label in sorted(table[atlas].dropna().unique()):
            voxels = np.flatnonzero((table[atlas] == label).fillna(False).to_numpy(bool))
            if 0 < len(voxels) < len(table):
                found.append(Group("roi", f"{atlas}:{label}", voxels))
    return found


def blocks(table: pd.DataFrame, side: int, smallest: int) -> list[Group]:
    """Cubes of `side` voxels that tile the volume, those with at least `smallest` voxels of the decoder."""
    corner = table[["i", "j", "k"]].to_numpy() // side  # (voxel, axis)
    corners, code = np.unique(corner, axis=0, return_inverse=True)
    members = [np.flatnonzero(code.ravel() == number) for number in range(len(corners))]
    return [
        Group("block", "-".join(map(str, (at * side).tolist())), voxels)
        for at, voxels in zip(corners, members, strict=True)
        if smallest <= len(voxels) < len(table)
    ]


def voxels(table: pd.DataFrame, side: int, smallest: int) -> list[Group]:
    """Every voxel by itself, named by its place i-j-k; where a table has no places, by its number."""
    names = (
        table[["i", "j", "k"]].astype(str).agg("-".join, axis=1).tolist()
        if {"i", "j", "k"} <= set(table)
        else map(str, range(len(table)))
    )
    return [Group("voxel", name, np.array([at])) for at, name in enumerate(names)]


GROUPINGS: dict[str, Callable[[pd.DataFrame, int, int], list[Group]]] = {
    "roi": regions,
    "block": blocks,
    "voxel": voxels,
}


def places(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Place i, j, k of every voxel (voxel,) in the volume; empty where a table has no places."""
    return {axis: table[axis].to_numpy(float) for axis in ("i", "j", "k") if axis in table}


def centre(places: Mapping[str, NDArray[np.float64]], group: Group) -> dict[str, float]:
    """Mean place of a group, by axis."""
    return {axis: float(values[group.voxels].mean()) for axis, values in places.items()}


def random_sets(n: int, size: int, n_sets: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Sets of `size` of n things, (set, size), drawn without replacement within a set."""
    return np.stack([rng.permutation(n)[:size] for _ in range(n_sets)])


def matched_size(group: Group, n_voxels: int) -> int:
    """Voxels at which a group is compared with random ones from outside it.

    A group of more than half of what lies outside has too few different counterparts: it is compared at half
    the size of the outside, in mean over random parts of it.
    """
    return max(1, min(len(group.voxels), (n_voxels - len(group.voxels)) // 2))
