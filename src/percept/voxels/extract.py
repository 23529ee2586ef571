"""From the native tree to one matrix per subject: the union of all ROI sets, session by session.

No more than the selected voxels of one session are in memory, whatever the size of the volumes. The betas are
stored as released, so what is valid is decided here but never written into the numbers.
"""

import logging
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from percept.config import NativeTree, VoxelsConfig
from percept.datasets import nsd
from percept.datasets.download import ranges
from percept.datasets.download.bucket import Bucket, Refused
from percept.datasets.download.plan import require_terms
from percept.files import PerceptError
from percept.voxels import roi, store, stream

log = logging.getLogger(__name__)

SCALE = 300.0  # NSD's betas: int16 units per percent signal change


@dataclass(frozen=True)
class Selection:
    """The voxels that are extracted of one subject.

    Attributes
    ----------
    shape : (X, Y, Z)
    index : int (voxel,), flat C-order positions in (X, Y, Z), ascending
    table : a row per voxel: i, j, k and one column of label names per atlas
    labels : atlas column -> all names that the atlas has, with or without a voxel
    """

    shape: stream.Shape
    index: np.ndarray
    table: pd.DataFrame
    labels: dict[str, list[str]]


def selection(ds: NativeTree, config: VoxelsConfig, subject: str) -> Selection:
    """Union of the ROI sets `config.extract` of a subject.

    Raises
    ------
    PerceptError : unknown set, atlas or label; no voxel in the union; or as of `nsd.read_roi`
    """
    volumes, labels = {}, {}
    for atlas in roi.atlases_of(config.extract, config.rois):
        volumes[atlas], labels[atlas] = nsd.read_roi(Path(ds.root), subject, atlas, ds.space)
    if not volumes:
        raise PerceptError(
            f"voxels.extract names only {', '.join(config.extract)}: `all` stands for whatever the other "
            "sets extract, and there are none. Add the sets that you want, for example nsdgeneral."
        )
    inside = _union(volumes, labels, [roi.resolve(name, config.rois) for name in config.extract])
    if not inside.any():
        named = roi.union(config.extract, config.rois)
        raise PerceptError(
            f"the labels {', '.join(named)} select no voxel of {subject}, so there is nothing to "
            "extract. Choose larger sets (voxels.extract), or leave the subject out (dataset.subjects)."
        )
    index = np.flatnonzero(inside)
    table = _positions(index, inside.shape)
    for atlas, volume in volumes.items():
        table[roi.column(atlas)] = _names(volume.ravel()[index], labels[atlas])
    return Selection(
        inside.shape, index, table, {roi.column(atlas): [*names.values()] for atlas, names in labels.items()}
    )


def _union(
    volumes: dict[str, np.ndarray], labels: dict[str, dict[int, str]], sets: list[roi.Labels]
) -> np.ndarray:
    """Boolean OR over all labels of all sets, (X, Y, Z)."""
    inside = np.zeros(next(iter(volumes.values())).shape, bool)
    for label in dict.fromkeys(label for names in sets for label in names if label != roi.EVERYTHING):
        atlas, name = roi.split_label(label)
        roi.check_label(label, labels[atlas].values())
        if name is None:
            inside |= volumes[atlas] > 0
        else:
            inside |= np.isin(
                volumes[atlas], [number for number, known in labels[atlas].items() if known == name]
            )
    return inside


def _positions(index: np.ndarray, shape: stream.Shape) -> pd.DataFrame:
    ijk = np.unravel_index(index, shape)
    return pd.DataFrame({axis: where.astype(np.int16) for axis, where in zip("ijk", ijk, strict=True)})


def _names(numbers: np.ndarray, labels: dict[int, str]) -> pd.Series:
    """Label names, null where the atlas has no label (0) or no cortex (-1)."""
    return pd.Series([labels.get(int(number)) for number in numbers], dtype="str")


def extract_subject(ds: NativeTree, config: VoxelsConfig, subject: str, folder: str | Path) -> list[int]:
    """Write betas.h5 and voxels.parquet of one subject, and return the sessions they hold.

    Parameters
    ----------
    ds : the data set, a native tree of NSD
    config : which voxels, and what to do with invalid ones and missing sessions
    folder : where the files go; `store.write_trials` adds the trial table of the returned sessions

    Raises
    ------
    PerceptError : an input is missing, damaged or of another shape; `config.invalid` is "error" and there are
        invalid voxels; `config.missing_sessions` is "error" and there is one; naming file, subject, session
    """
    chosen = selection(ds, config, subject)
    ncsnr = _ncsnr(ds, config.invalid, subject, chosen)
    sessions = present_sessions(ds, subject, config.missing_sessions)
    shape = (len(sessions) * nsd.TRIALS_PER_SESSION, len(chosen.index))
    n_valid = np.zeros(shape[1], np.int16)
    with store.writing(folder, shape, len(sessions), subject=subject, scale=SCALE) as writer:
        for session in sessions:
            constant = writer.add(session, read_session(ds, subject, session, chosen))
            invalid = constant | ~_valid_in(ds, subject, session, chosen)
            _refuse(invalid, config.invalid, chosen.table, f"{subject}, session {session}")
            n_valid += ~invalid
            log.info("%s, session %d: %d of %d voxels valid", subject, session, (~invalid).sum(), shape[1])
        voxels = _voxel_table(chosen, ncsnr, n_valid, len(sessions))
        keep = _kept(voxels["valid"].to_numpy(), config.invalid, subject)
    if not keep.all():
        store.keep_columns(folder, keep)
    store.write_voxels(folder, voxels[keep].reset_index(drop=True), chosen.labels)
    return sessions


def present_sessions(ds: NativeTree, subject: str, missing: Literal["error", "skip"]) -> list[int]:
    """Sessions of the config that are there; a missing one is an error, or logged and left out."""
    wanted = nsd.sessions_of(ds, subject)
    keys = {session: nsd.key_betas(subject, session, ds) for session in wanted}
    absent = {session: key for session, key in keys.items() if not _exists(ds, key)}
    if absent and (missing == "error" or len(absent) == len(wanted)):
        first = next(iter(absent.values()))
        raise PerceptError(
            f"the betas of {subject} lack the sessions {', '.join(map(str, absent))} of {len(wanted)} "
            f"(first: {first} is not there). Without them repeats and splits are not as asked. Fetch them, "
            "ask for fewer (dataset.sessions), or set voxels.missing_sessions to skip."
        )
    if absent:
        log.warning("%s: missing sessions skipped: %s", subject, ", ".join(map(str, absent)))
    return [session for session in wanted if session not in absent]


def _remote(ds: NativeTree) -> bool:
    """Whether betas are read from the server; the twin's files and a user's own copy are local."""
    return ds.format == "hdf5-ranges" and ds.kind == "nsd" and ds.download.enabled


def _exists(ds: NativeTree, key: str) -> bool:
    if not _remote(ds):
        return (Path(ds.root) / key).is_file()
    require_terms(ds.terms_accepted)
    try:
        Bucket(ds.download).head(key)
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def read_session(ds: NativeTree, subject: str, session: int, chosen: Selection) -> np.ndarray:
    """Betas of the selected voxels in one session, int16 (trial, voxel); the same bits in every format."""
    key = nsd.key_betas(subject, session, ds)
    if _remote(ds):
        betas = ranges.read_session(key, ds.download, chosen.index, chosen.shape)
        stream.check_shape((*chosen.shape, len(betas)), (*chosen.shape, nsd.TRIALS_PER_SESSION), key)
        return betas
    read = stream.read_nifti if ds.format == "nii.gz" else stream.read_hdf5
    place = f"{subject}, session {session}"
    return read(Path(ds.root) / key, chosen.index, chosen.shape, place, nsd.TRIALS_PER_SESSION)


def _valid_in(ds: NativeTree, subject: str, session: int, chosen: Selection) -> np.ndarray:
    """Voxels that the release calls valid in a session (all of them where it has no such file)."""
    path = Path(ds.root) / nsd.key_valid(subject, session, ds.space)
    if not path.is_file():
        return np.ones(len(chosen.index), bool)
    return nsd.read_volume(path, chosen.shape).ravel()[chosen.index] > 0


def _refuse(invalid: np.ndarray, policy: str, table: pd.DataFrame, where: str) -> None:
    if policy == "error" and invalid.any():
        first = tuple(table.loc[np.flatnonzero(invalid)[0], ["i", "j", "k"]])
        raise PerceptError(
            f"{where}: {invalid.sum()} of {len(invalid)} extracted voxels have no valid betas (constant, all "
            f"0 or flagged by the release; first: {tuple(map(int, first))}). They cannot be z-scored. Set "
            "voxels.invalid to drop (leave them out of all sessions) or zero (keep them, 0 where invalid)."
        )


def _ncsnr(ds: NativeTree, policy: str, subject: str, chosen: Selection) -> np.ndarray:
    """Released noise-ceiling SNR of the selected voxels, float32 (voxel,), NaN where there is none."""
    path = Path(ds.root) / nsd.key_ncsnr(subject, ds)
    ncsnr = nsd.read_volume(path, chosen.shape).ravel()[chosen.index].astype(np.float32)
    _refuse(~np.isfinite(ncsnr), policy, chosen.table, f"{subject}, {path} (NaN there)")
    return ncsnr


def _voxel_table(chosen: Selection, ncsnr: np.ndarray, n_valid: np.ndarray, n_sessions: int) -> pd.DataFrame:
    """The table of the selection with ncsnr and validity: valid in all sessions and with a finite ncsnr."""
    return chosen.table.assign(
        ncsnr=ncsnr,
        n_valid_sessions=n_valid,
        n_sessions=np.full(len(n_valid), n_sessions, np.int16),
        valid=(n_valid == n_sessions) & np.isfinite(ncsnr),
    )


def _kept(valid: np.ndarray, policy: str, subject: str) -> np.ndarray:
    """Voxels that stay: the valid ones ("drop"), or all, flagged in the table ("zero"); bool (voxel,)."""
    if valid.all():
        return valid
    log.warning(
        "%s: %d of %d voxels are invalid (voxels.invalid: %s)", subject, (~valid).sum(), len(valid), policy
    )
    if policy == "zero":
        return np.ones_like(valid)
    if not valid.any():
        raise PerceptError(
            f"none of the {len(valid)} extracted voxels of {subject} is valid in every session, so nothing "
            "would be left. Set voxels.invalid to zero, use other sessions, or check the betas."
        )
    return valid
