"""Reader of NSD's native tree: the one border where 1-based ids, units and axis orders of the release end.

Inside Percept a stimulus is its 0-based nsd id (row of the image file), volumes have axes (X, Y, Z), and
sessions, runs and trials keep NSD's own numbers, from 1. Nothing is unpickled: the stimulus table is read
from the released csv, never from its pickle.
"""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from percept.datasets.nsd_keys import (
    ATLASES,
    EXPDESIGN,
    N_SHARED,
    N_STIMULI,
    RELEASED_SESSIONS,
    STIM_INFO,
    STIMULI,
    TRIALS_PER_SESSION,
    check_atlas,
    check_subject,
    common_files,
    damaged,
    existing,
    files_needed,
    key_betas,
    key_betas_folder,
    key_brainmask,
    key_label_table,
    key_mean,
    key_ncsnr,
    key_responses,
    key_roi,
    key_valid,
    key_volume,
    session_files,
    sessions_of,
    subject_files,
)
from percept.datasets.nsd_tables import Design, read_design, read_stim_info, read_trials, schedule
from percept.files import UNREADABLE, PerceptError, gzip_damage
from percept.shortage import damage

__all__ = [
    "ATLASES",
    "EXPDESIGN",
    "N_SHARED",
    "N_STIMULI",
    "RELEASED_SESSIONS",
    "STIMULI",
    "STIM_INFO",
    "TRIALS_PER_SESSION",
    "Design",
    "check_atlas",
    "check_subject",
    "common_files",
    "files_needed",
    "key_betas",
    "key_betas_folder",
    "key_brainmask",
    "key_label_table",
    "key_mean",
    "key_ncsnr",
    "key_responses",
    "key_roi",
    "key_valid",
    "key_volume",
    "read_design",
    "read_label_table",
    "read_roi",
    "read_stim_info",
    "read_stimuli",
    "read_trials",
    "read_volume",
    "schedule",
    "session_files",
    "sessions_of",
    "subject_files",
    "subject_shape",
]

DAMAGED = (*UNREADABLE, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError)


def subject_shape(root: str | Path, subject: str, space: str) -> tuple[int, ...]:
    """Voxels along (X, Y, Z) of a subject, from the header of its brain mask."""
    path = existing(Path(root) / key_brainmask(subject, space), f"the brain mask of {subject}")
    try:
        return tuple(map(int, _load(path).shape))
    except damage(path, *DAMAGED) as error:
        raise damaged(path, error) from error


def _load(path: Path) -> nib.spatialimages.SpatialImage:
    """A volume whose gzip stream is whole: nibabel stops before the checksum at its end."""
    if path.suffix == ".gz" and (problem := gzip_damage(path)):
        raise EOFError(problem)
    return nib.load(path)


def _require_shape(path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if tuple(shape) != tuple(expected):
        raise PerceptError(
            f"{path} has shape {tuple(shape)}, but the subject's brain mask has {tuple(expected)}: voxels "
            "would be matched by index with the wrong places. The files are of different subjects or spaces; "
            "check `dataset.space` and download the wrong one again."
        )


def read_volume(path: str | Path, shape: tuple[int, ...] | None = None) -> NDArray:
    """Read a volume, (X, Y, Z), in the data type of its file.

    Parameters
    ----------
    path : a nii.gz file
    shape : voxels along (X, Y, Z) that the volume must have (`subject_shape`)

    Raises
    ------
    PerceptError : the file is missing, damaged, or of another shape
    """
    path = existing(Path(path), "a volume")
    try:
        volume = np.asanyarray(_load(path).dataobj)
    except damage(path, *DAMAGED) as error:
        raise damaged(path, error) from error
    if shape is not None:
        _require_shape(path, volume.shape, shape)
    return volume


def read_label_table(path: str | Path) -> dict[int, str]:
    """Read a `.ctab`, lines of "id name" with any white space; names may hold `/` and `+`."""
    path = existing(Path(path), "the names of ROI labels")
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        return {int(row[0]): row[1] for row in rows if row and not row[0].startswith("#")}
    except (ValueError, IndexError) as error:
        raise damaged(path, error) from error


def read_roi(
    root: str | Path, subject: str, atlas: str, space: str
) -> tuple[NDArray[np.int16], dict[int, str]]:
    """ROI volume and the names of its labels.

    Parameters
    ----------
    atlas : name of an ROI file, e.g. "prf-visualrois", or "lh.prf-visualrois" for its left half

    Returns
    -------
    volume : (X, Y, Z) int16: -1 outside, 0 unlabelled, 1..N; members are `> 0` or `== id`, never `!= 0`
    labels : id -> name, ids above 0 only; a label may have no voxel in a subject

    Raises
    ------
    PerceptError : unknown atlas; a file is missing or damaged; the volume has another shape than the brain
        mask, or an id that the label table does not name
    """
    root = Path(root)
    path = root / key_roi(subject, atlas, space)
    values = read_volume(path, subject_shape(root, subject, space))
    table = root / key_label_table(subject, atlas)
    labels = {number: name for number, name in read_label_table(table).items() if number > 0}
    volume = np.rint(values).astype(np.int16)
    unnamed = sorted(set(np.unique(volume[volume > 0]).tolist()) - labels.keys())
    if unnamed:
        raise PerceptError(
            f"{path} holds the ids {unnamed}, which {table} does not name: their voxels would belong to "
            f"no ROI. The two files are of different atlases; download them again. Named are: {labels}."
        )
    return volume, labels


def read_stimuli(root: str | Path, stimuli: ArrayLike) -> NDArray[np.uint8]:
    """Images, (stimulus, 425, 425, 3) uint8 RGB, in the order asked; 0.54 MB each.

    Parameters
    ----------
    stimuli : 0-based nsd ids, in any order, repeated as often as wanted

    Raises
    ------
    PerceptError : the file is missing or damaged, or has no such image
    """
    path = existing(Path(root) / STIMULI, "the images")
    stimuli = np.asarray(stimuli, dtype=np.int64).ravel()
    try:
        with h5py.File(path) as file:
            bricks = file["imgBrick"]
            if bricks.dtype != np.uint8 or bricks.ndim != 4:
                raise ValueError(f"imgBrick is {bricks.dtype} of the shape {bricks.shape}")
            _require_images(path, stimuli, len(bricks))
            images = np.empty((stimuli.size, *bricks.shape[1:]), dtype=np.uint8)
            for row in np.argsort(stimuli, kind="stable"):  # forward through the file
                bricks.read_direct(images, np.s_[stimuli[row]], np.s_[row])
    except damage(path, *DAMAGED) as error:
        raise damaged(path, error) from error
    return images


def _require_images(path: Path, stimuli: NDArray[np.int64], n_images: int) -> None:
    outside = stimuli[(stimuli < 0) | (stimuli >= n_images)]
    if outside.size:
        raise PerceptError(
            f"{path} holds images 0 to {n_images - 1}, but image {outside[0]} was asked for: ids are 0-based "
            "(73KID - 1). The image file and the trial table belong to different data sets; check "
            "`dataset.root`."
        )
