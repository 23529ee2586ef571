"""Voxel table of a lab's own data: coordinates, areas, validity."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.arrays.betas import Geometry, same_space
from percept.datasets.arrays.readers import as_text, read_array, read_table, read_volume
from percept.datasets.arrays_config import ArraysDataset, RoiSource, is_volume, locate
from percept.files import PerceptError

AXES = ["i", "j", "k"]
OURS = ("n_valid_sessions", "n_sessions", "valid")  # columns that are counted here
NO_AREA = ("", "0", "False", "n/a")  # what tables write where a voxel belongs to no area
UNKNOWN = -1  # coordinate of voxels whose place is not given


def read(
    ds: ArraysDataset, subject: str, n_voxels: int, coordinates: NDArray | None, geometry: Geometry | None
) -> pd.DataFrame:
    """i, j, k, one column per atlas, ncsnr; `attrs["labels"]` has the names of each atlas.

    Parameters
    ----------
    coordinates, geometry : (voxel, 3) int, and (shape, affine), of masked volumes; None for a matrix

    Raises
    ------
    PerceptError : rows, coordinates or labels do not fit the voxels of the betas
    """
    given = _voxel_table(ds, subject, n_voxels)
    places = _places(ds, subject, given, coordinates)
    atlases = {name: _areas(given[name]) for name in given if name not in (*AXES, *OURS, "ncsnr")}
    for name, roi in ds.rois.items():
        path = locate(roi.path, subject)
        atlases[name] = _named(roi, _numbers(ds, subject, path, places, geometry), path)
    columns = {name.replace("-", "_"): areas for name, areas in atlases.items()}
    known = {name: sorted({*areas.dropna(), *_names_of(ds, name)}) for name, areas in columns.items()}
    ncsnr = given.get("ncsnr", pd.Series(np.nan, index=given.index))
    voxels = places.assign(**columns, ncsnr=_numeric(ncsnr, ds, subject).astype(np.float32))
    voxels.attrs["labels"] = known
    return voxels


def _names_of(ds: ArraysDataset, column: str) -> list[str]:
    return [
        area
        for name, roi in ds.rois.items()
        if name.replace("-", "_") == column
        for area in roi.names.values()
    ]


def _voxel_table(ds: ArraysDataset, subject: str, n_voxels: int) -> pd.DataFrame:
    if ds.voxels is None:
        return pd.DataFrame(index=range(n_voxels))
    path = locate(ds.voxels, subject)
    if path.suffix == ".npy":
        coordinates = read_array(path)
        if coordinates.ndim != 2 or coordinates.shape[1] != 3:
            raise PerceptError(
                f"{path} has the shape {coordinates.shape}, but coordinates i, j, k are (voxel, 3)."
            )
        table = pd.DataFrame(np.asarray(coordinates), columns=AXES)
    else:
        table = read_table(path)
    if len(table) != n_voxels:
        raise PerceptError(
            f"{path} has {len(table)} rows, but the betas of subject {subject} have {n_voxels} voxels: the "
            "table needs one row per column of the betas, in the same order."
        )
    return table


def _numeric(column: pd.Series, ds: ArraysDataset, subject: str) -> pd.Series:
    try:
        return pd.to_numeric(column.replace("", np.nan))
    except (ValueError, TypeError) as error:
        raise PerceptError(
            f"{locate(ds.voxels or '', subject)} (subject {subject}): column {column.name!r} must hold "
            f"numbers ({error})."
        ) from error


def _places(
    ds: ArraysDataset, subject: str, given: pd.DataFrame, coordinates: NDArray | None
) -> pd.DataFrame:
    """i, j, k of every voxel, int16: from the volumes, else from the table, else unknown."""
    where = f"{locate(ds.voxels or '', subject)} (subject {subject})"
    if not set(AXES) <= set(given):
        places = np.full((len(given), 3), UNKNOWN) if coordinates is None else coordinates
        return pd.DataFrame(places, columns=AXES, dtype=np.int16)
    places = pd.DataFrame({axis: _numeric(given[axis], ds, subject) for axis in AXES}).astype(np.int16)
    if coordinates is not None and not np.array_equal(places, coordinates):
        row = int(np.flatnonzero((places.to_numpy() != coordinates).any(axis=1))[0])
        raise PerceptError(
            f"{where}: voxel {row} (0-based) has the coordinates {places.loc[row].tolist()}, but in the "
            f"masked volumes it is {coordinates[row].tolist()} (voxels in C order of i, j, k). Areas would "
            "be given to the wrong voxels: sort the table by i, then j, then k, and check that it was made "
            "with the same mask."
        )
    if places.duplicated().any():
        row = int(np.flatnonzero(places.duplicated())[0])
        raise PerceptError(
            f"{where}: voxel {row} (0-based) has the coordinates {places.loc[row].tolist()} of an earlier "
            "one; each voxel must be listed once."
        )
    return places


def _areas(column: pd.Series) -> pd.Series:
    """Names of areas, null where a voxel belongs to none."""
    text = [None if pd.isna(value) else as_text(value) for value in column]
    return pd.Series([None if area in NO_AREA else area for area in text], index=column.index, dtype=object)


def _named(roi: RoiSource, numbers: NDArray, path: Path) -> pd.Series:
    """Names of the areas of an atlas of numbers; numbers up to 0 are no area."""
    if not np.all(numbers == np.round(numbers)):  # also NaN
        raise PerceptError(f"{path} holds values that are no whole numbers, so they are no labels of areas.")
    names = [roi.names.get(int(number), str(int(number))) if number > 0 else None for number in numbers]
    return pd.Series(names, dtype=object)


def _numbers(
    ds: ArraysDataset, subject: str, path: Path, places: pd.DataFrame, geometry: Geometry | None
) -> NDArray:
    """The number that an atlas gives each voxel."""
    if not is_volume(path):
        numbers = np.asarray(read_array(path)).ravel()
        if len(numbers) != len(places):
            raise PerceptError(
                f"{path} has {len(numbers)} labels, but there are {len(places)} voxels (subject {subject}): "
                "one each is needed, in the order of the betas."
            )
        return numbers
    volume, affine = read_volume(path)
    if geometry is not None:
        same_space(path, (volume.shape, affine), ds.betas.paths(subject)[0], geometry)
    place = places.to_numpy()
    if place.min() < 0 or np.any(place.max(axis=0) >= volume.shape):
        raise PerceptError(
            f"{path} has the shape {volume.shape}, but the voxels of subject {subject} lie at "
            f"{place.min(axis=0)} to {place.max(axis=0)}: an atlas volume needs the coordinates of every "
            "voxel, 0-based, within its shape (`dataset.voxels` with the columns i, j, k)."
        )
    return volume[tuple(place.T)]


def with_validity(voxels: pd.DataFrame, betas: NDArray, trials: pd.DataFrame) -> pd.DataFrame:
    """In how many sessions a voxel varies: where it does not, it cannot be z-scored."""
    sessions = [np.flatnonzero(trials.session == number) for number in trials.session.unique()]
    varies = np.array([np.ptp(betas[rows], axis=0) > 0 for rows in sessions]).sum(axis=0)
    return voxels.assign(
        n_valid_sessions=varies.astype(np.int16),
        n_sessions=np.int16(len(sessions)),
        valid=varies == len(sessions),
    )
