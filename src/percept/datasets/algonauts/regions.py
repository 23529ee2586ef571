"""Vertices of a challenge subject: hemisphere, place on fsaverage, and regions, as a voxel table.

Masks follow the challenge's conventions, which end here: hemispheres are joined, the left one first; numbers
become names through the mapping; in the mask of all vertices anything but 0 is inside (where it is the sum of
two masks, an overlap is 2).
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import nearest
from percept.datasets.algonauts import mapping
from percept.datasets.algonauts.tree import Naming
from percept.datasets.algonauts_config import ALL_VERTICES, CLASSES, HEMISPHERES, MASKS, NOISE_CEILING
from percept.datasets.arrays.readers import read_array
from percept.files import PerceptError

log = logging.getLogger(__name__)
N_FSAVERAGE = 163_842  # vertices of a hemisphere of fsaverage
UNKNOWN = -1  # vertex of responses whose place is not given
REGIONS = {  # of the release, in the order of its mappings; names as of NSD's atlases
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}
Sizes = tuple[int, int]  # vertices of the left and of the right hemisphere


def table(folder: Path, scheme: Naming, sizes: Sizes) -> pd.DataFrame:
    """A row per vertex, the left hemisphere first, in the order of the responses.

    Returns
    -------
    i, j, k (-1: a surface has none), hemisphere (lh, rh; an atlas like others), vertex (int32, 0-based on
    fsaverage; -1 unknown), file_column (int32, 0-based column in the file of its hemisphere),
    a column per class of regions with the name of the region or null, and noise_ceiling (share of variance
    in [0, 1]) where the organisers' files are there. `attrs["labels"]` has all names of each class; regions
    without a vertex are logged

    Raises
    ------
    PerceptError : a mask or mapping is missing, of another length, or has numbers or names unknown
    """
    columns = {axis: np.full(sum(sizes), UNKNOWN, np.int16) for axis in ("i", "j", "k")}
    columns |= {
        "hemisphere": np.repeat(HEMISPHERES, sizes),
        "vertex": _vertices(folder, sizes).astype(np.int32),
        "file_column": np.concatenate([np.arange(n, dtype=np.int32) for n in sizes]),
    }
    vertices = pd.DataFrame(columns)
    for atlas in CLASSES:
        names = _names(folder, atlas)
        paths = [folder / MASKS[scheme].format(side, atlas) for side in HEMISPHERES]
        numbers = [_numbers(path, n, names) for path, n in zip(paths, sizes, strict=True)]
        carried = [names.get(int(number)) for number in np.concatenate(numbers)]
        vertices[atlas.replace("-", "_")] = pd.Series(carried, dtype=object)
    ceiling = _noise_ceiling(folder, sizes)
    vertices = vertices if ceiling is None else vertices.assign(noise_ceiling=ceiling)
    vertices.attrs["labels"] = {"hemisphere": list(HEMISPHERES)} | {
        atlas.replace("-", "_"): list(names) for atlas, names in REGIONS.items()
    }
    _log_empty(vertices, folder)
    return vertices


def _names(folder: Path, atlas: str) -> dict[int, str]:
    """The mapping of a class, whose names have to be those of the atlas."""
    names = mapping.read(folder / "roi_masks", atlas)
    unknown = sorted(set(names.values()) - set(REGIONS[atlas]))
    lacking = [name for name in REGIONS[atlas] if name not in names.values()]
    if unknown or lacking:
        problem = (
            f"names a region {unknown[0]!r}{nearest(unknown[0], REGIONS[atlas])}"
            if unknown
            else f"does not name the region {lacking[0]!r}"
        )
        raise PerceptError(
            f"{folder / 'roi_masks'}: the mapping of {atlas} {problem}. ROI sets that ask for a region would "
            f"silently be without it: correct the name, in a mapping_{atlas}.json beside the released file."
        )
    return names


def _numbers(path: Path, n_vertices: int, names: dict[int, str]) -> NDArray:
    """The number of the region of each vertex of a hemisphere, (vertex,); 0 and below are none."""
    numbers = _of_hemisphere(path, n_vertices)
    foreign = sorted(set(np.unique(numbers[numbers > 0]).tolist()) - set(names))
    if foreign:
        raise PerceptError(
            f"{path} holds the number {foreign[0]}, which its mapping gives no name (it has "
            f"{', '.join(map(str, names))}): mask and mapping are of different releases. Take both from one."
        )
    return numbers


def _of_hemisphere(path: Path, n_vertices: int) -> NDArray:
    if not path.is_file():
        raise PerceptError(
            f"{path} is not there. Both hemispheres need every class of ROI masks; a region that a subject "
            "does not have is a mask without its number, not a missing file. Restore the file."
        )
    values = np.asarray(read_array(path))
    if values.shape != (n_vertices,):
        raise PerceptError(
            f"{path} has the shape {values.shape}, but the responses of this hemisphere have {n_vertices} "
            "vertices: regions would be given to the wrong vertices. Left and right, or two subjects, may be "
            "swapped, or the file may be in fsaverage space."
        )
    return values


def _vertices(folder: Path, sizes: Sizes) -> NDArray[np.int64]:
    """Index on fsaverage, (vertex,) of both hemispheres; -1 where the masks of all vertices are not there."""
    paths = [folder / ALL_VERTICES.format(side) for side in HEMISPHERES]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        log.warning("%s is not there: maps on the surface cannot be drawn", missing[0])
        return np.full(sum(sizes), UNKNOWN)
    return np.concatenate([_inside(path, n) for path, n in zip(paths, sizes, strict=True)])


def _inside(path: Path, n_vertices: int) -> NDArray[np.int64]:
    mask = np.asarray(read_array(path))
    inside = np.flatnonzero(mask != 0)  # by the challenge's convention, where an overlap may be 2
    if mask.shape != (N_FSAVERAGE,) or len(inside) != n_vertices:
        raise PerceptError(
            f"{path} has the shape {mask.shape} and {len(inside)} vertices inside, but fsaverage has "
            f"{N_FSAVERAGE} and the responses of this hemisphere {n_vertices}: values would be drawn at the "
            "wrong places. Left and right, or two subjects, may be swapped; restore the file."
        )
    return inside


def _noise_ceiling(folder: Path, sizes: Sizes) -> NDArray[np.float32] | None:
    """Share of the variance that can be explained, (vertex,); None where it is withheld.

    Raises
    ------
    PerceptError : one hemisphere alone, or values outside [0, 1]
    """
    paths = [folder / NOISE_CEILING.format(side) for side in HEMISPHERES]
    if not any(path.is_file() for path in paths):
        return None
    values = np.concatenate([_of_hemisphere(path, n) for path, n in zip(paths, sizes, strict=True)])
    known = values[np.isfinite(values)]
    if np.any((known < 0) | (known > 1)):
        raise PerceptError(
            f"{paths[0]} and {paths[1]} hold values from {known.min():g} to {known.max():g}, but a noise "
            "ceiling is a share of variance, 0 to 1: divide percentages by 100."
        )
    return values.astype(np.float32)


def _log_empty(vertices: pd.DataFrame, folder: Path) -> None:
    empty = [
        f"{atlas}:{name}"
        for atlas, names in REGIONS.items()
        for name in names
        if not (vertices[atlas.replace("-", "_")] == name).any()
    ]
    if empty:
        log.warning("%s: no vertex lies in %s; these regions are empty", folder, ", ".join(empty))
