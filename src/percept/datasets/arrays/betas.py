"""Betas of a lab's own data: matrices joined, volumes masked, drifts taken off."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.arrays.readers import blocks, open_volumes, read_array, read_volume
from percept.datasets.arrays_config import ArraysDataset, is_volume, locate
from percept.files import PerceptError

Geometry = tuple[tuple[int, ...], NDArray]  # shape and affine of a volume


def read(ds: ArraysDataset, subject: str) -> tuple[NDArray, NDArray | None, Geometry | None]:
    """Betas (row, voxel) of all rows; of volumes also the coordinates (voxel, 3) and the geometry.

    Raises
    ------
    PerceptError : files are missing or damaged, do not fit together or to the mask, or the mask is empty
    """
    paths = ds.betas.paths(subject)
    kinds = {is_volume(path) for path in paths}
    if kinds == {True}:
        return _read_volumes(paths, ds, subject)
    if kinds == {True, False} or ds.betas.mask != "nonzero":
        raise PerceptError(
            f"`dataset.betas` of subject {subject} "
            f"{'mixes matrices and volumes' if True in kinds else 'is a matrix'} ({paths[0]}, ...), to which "
            f"no mask {ds.betas.mask!r} can be applied: a matrix has its voxels as columns already. Remove "
            "`mask`, or give volumes (nii, nii.gz)."
        )
    return _joined([_read_matrix(path, ds) for path in paths], paths), None, None


def _read_matrix(path: Path, ds: ArraysDataset) -> NDArray:
    matrix = read_array(path, ds.betas.variable)
    if matrix.ndim != 2:
        raise PerceptError(
            f"{path} has the shape {matrix.shape}, but betas are a matrix of trials by voxels."
        )
    return matrix


def _joined(matrices: list[NDArray], paths: list[Path]) -> NDArray:
    """Matrices below each other."""
    for matrix, path in zip(matrices, paths, strict=True):
        if matrix.shape[1] != matrices[0].shape[1]:
            raise PerceptError(
                f"{path} has {matrix.shape[1]} voxels and {paths[0]} {matrices[0].shape[1]}: trials can only "
                "be joined when the columns are the same voxels."
            )
    return np.concatenate(matrices)


def _read_volumes(paths: list[Path], ds: ArraysDataset, subject: str) -> tuple[NDArray, NDArray, Geometry]:
    """Masked volumes; voxels are in C order of (i, j, k), as in NSD's extraction."""
    image = open_volumes(paths[0])
    geometry = image.shape[:3], image.affine
    for path in paths[1:]:
        other = open_volumes(path)
        same_space(path, (other.shape[:3], other.affine), paths[0], geometry)
    inside = _varying(paths) if ds.betas.mask == "nonzero" else _mask(ds, subject, paths[0], geometry)
    if not inside.any():
        raise PerceptError(
            f"subject {subject}: the mask {ds.betas.mask} of {paths[0]} holds no voxel, so there is nothing "
            "to decode from. Check that mask and volumes are the files meant."
        )
    flat = np.flatnonzero(inside)
    masked = [
        block.reshape(-1, block.shape[3])[flat].T
        for path in paths
        for block in blocks(open_volumes(path), path)
    ]
    betas = np.concatenate(masked, dtype=np.float32)
    return betas, np.stack(np.unravel_index(flat, inside.shape), axis=1), geometry


def _varying(paths: list[Path]) -> NDArray:
    """(x, y, z) bool, voxels that vary over the volumes (NaN does, so that it is reported)."""
    low, high = np.inf, -np.inf
    for path in paths:
        for block in blocks(open_volumes(path), path):
            low, high = np.minimum(low, block.min(axis=3)), np.maximum(high, block.max(axis=3))
    return ~(low == high)


def _mask(ds: ArraysDataset, subject: str, volumes: Path, geometry: Geometry) -> NDArray:
    path = locate(ds.betas.mask, subject)
    mask, affine = read_volume(path)
    same_space(path, (mask.shape, affine), volumes, geometry)
    return mask > 0


def same_space(path: Path, found: Geometry, reference: Path, expected: Geometry) -> None:
    """Refuse two volumes whose voxels are not the same places.

    Raises
    ------
    PerceptError : shapes or affines differ; both are printed
    """
    if found[0] != expected[0]:
        raise PerceptError(
            f"{path} has the shape {found[0]} and {reference} {expected[0]}: a mask, atlas or further run "
            "must have the same voxels as the volumes. Resample one of them to the grid of the other."
        )
    if not np.allclose(found[1], expected[1], atol=1e-3):  # mm; headers round
        raise PerceptError(
            f"{path} and {reference} have the same shape but different affines, so their voxels lie at "
            f"different places:\n{found[1]}\n{expected[1]}\nResample one of them to the grid of the other."
        )


def check_finite(betas: NDArray, subject: str, ds: ArraysDataset) -> None:
    """Refuse betas with NaN or infinite values; the first is named."""
    wrong = ~np.isfinite(betas) if betas.dtype.kind == "f" else np.zeros((1, 1), bool)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise PerceptError(
            f"{ds.betas.paths(subject)[0]} (subject {subject}) holds NaN or infinite values in "
            f"{wrong.any(0).sum()} of {betas.shape[1]} voxels and {wrong.any(1).sum()} of {len(betas)} "
            f"trials; the first is in row {row}, voxel {column} (0-based). One of them would spread to every "
            "prediction: mask these voxels, or leave the trials out of the file."
        )


def detrended(betas: NDArray, trials: pd.DataFrame) -> NDArray:
    """Betas without the least-squares line (mean and slope) of each run, (row, voxel) float64.

    Meant for the whole time course: rows of a run must follow each other, rest included. What is left of a
    voxel that is constant or a straight line in a run is exactly 0: a z-score would blow up rounding.

    Raises
    ------
    PerceptError : a run is interrupted by another
    """
    number = trials.groupby(["session", "run"]).ngroup().to_numpy()
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    if len(starts) != len(np.unique(number)):
        again = next(start for start in starts if number[start] in number[:start])
        raise PerceptError(
            "`dataset.betas.detrend` takes a line off the time course of each run, but run "
            f"{trials.run.iloc[again]} of session {trials.session.iloc[again]} goes on in row {again} "
            "(0-based) after another run. If runs are numbered anew in each session, name the session "
            "column under `dataset.trials.columns`; otherwise put the rows in the order of the scan or set "
            "`detrend: none`."
        )
    runs = np.split(np.asarray(betas, dtype=np.float64), starts[1:])
    return np.concatenate([_without_line(run) for run in runs])


def _without_line(run: NDArray) -> NDArray:
    from scipy.signal import detrend

    left = detrend(run, axis=0)
    rounding = np.finfo(np.float32).eps * np.abs(run).max(axis=0)  # betas come as float32 or coarser
    left[:, np.abs(left).max(axis=0) <= rounding] = 0
    return left
