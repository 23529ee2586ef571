"""Named sets of regions of interest: lists of atlas labels, selected on the voxel table.

A label is `atlas` (every voxel that the atlas labels, id > 0) or `atlas:label`. A set is the union of its
labels, a boolean OR: regions of different atlases overlap. A label that the atlas knows but no voxel of this
subject carries is legitimately empty; not every subject has every functional region.
"""

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from percept.config import nearest
from percept.files import PerceptError

log = logging.getLogger(__name__)

Labels = tuple[str, ...]
Custom = Mapping[str, Labels]
NONE: Custom = MappingProxyType({})
EVERYTHING = "all"  # whatever was extracted
NOT_ATLASES = frozenset(
    {
        "i",
        "j",
        "k",
        "vertex",
        "file_column",
        "ncsnr",
        "noise_ceiling",
        "n_valid_sessions",
        "n_sessions",
        "valid",
    }
)


def _labels(atlas: str, *names: str) -> Labels:
    return tuple(f"{atlas}:{name}" for name in names)


STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")

# `early` and `higher` split NSD's streams atlas, so that they are disjoint and `set3` is their union: `early`
# is the stream of that name (the ROI of Takagi & Nishimoto 2023 for the image latent), `higher` the other
# six. The retinotopic areas V1 to hV4, which MindEye 2 reports as "V1-V4", are `retinotopic`.
# set1 to set3 are the region lists of Koios1143/Machine-Learning-Final, verbatim.
SETS: Custom = MappingProxyType(
    {
        "nsdgeneral": ("nsdgeneral",),
        "V1": _labels("prf-visualrois", "V1v", "V1d"),
        "V2": _labels("prf-visualrois", "V2v", "V2d"),
        "V3": _labels("prf-visualrois", "V3v", "V3d"),
        "hV4": _labels("prf-visualrois", "hV4"),
        "retinotopic": ("prf-visualrois",),
        "early": _labels("streams", "early"),
        "higher": _labels("streams", *STREAMS[1:]),
        "faces": ("floc-faces",),
        "bodies": ("floc-bodies",),
        "places": ("floc-places",),
        "words": ("floc-words",),
        **{stream: _labels("streams", stream) for stream in STREAMS[1:]},
        "set1": (
            *_labels("prf-visualrois", "V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
            *_labels("floc-faces", "FFA-1", "FFA-2"),
            *_labels("floc-places", "PPA"),
        ),
        "set2": (
            *_labels("floc-bodies", "EBA", "FBA-1", "FBA-2", "mTL-bodies"),
            *_labels("floc-faces", "OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
            *_labels("floc-places", "OPA", "PPA", "RSC"),
        ),
        "set3": _labels("streams", *STREAMS),
    }
)
BUILT_IN_LABELS = frozenset(label for labels in SETS.values() for label in labels)


def column(atlas: str) -> str:
    """Name of an atlas as a column of the voxel table (`prf-visualrois` -> `prf_visualrois`)."""
    return atlas.replace("-", "_").replace(".", "_")


def split_label(label: str) -> tuple[str, str | None]:
    """`atlas:name` -> (atlas, name); `atlas` -> (atlas, None). Names may hold `/`, `+` and `:`."""
    atlas, colon, name = label.partition(":")
    return atlas, name if colon else None


def resolve(name: str, custom: Custom = NONE) -> Labels:
    """Labels of a named set; the sets of the config come before the built-in ones.

    Raises
    ------
    PerceptError : no set has this name; the existing ones are listed and the nearest is named
    """
    sets = {**SETS, **custom}
    if name == EVERYTHING and name not in custom:
        return (EVERYTHING,)
    if name not in sets:
        raise PerceptError(
            f"there is no ROI set {name!r}{nearest(name, [EVERYTHING, *sets])}. "
            "Use one of these, or define it under voxels.rois in the config."
        )
    return tuple(sets[name])


def atlases_of(sets: Iterable[str], custom: Custom = NONE) -> Labels:
    """Atlases (ROI files) that some sets need, without repetition, in the order of first use.

    `all` needs none of its own: it is whatever the other sets extract.
    """
    return atlases_of_labels(label for name in sets for label in resolve(name, custom) if label != EVERYTHING)


def atlases_of_labels(labels: Iterable[str]) -> Labels:
    """Atlases of some labels, without repetition, in the order of first use."""
    return tuple(dict.fromkeys(split_label(label)[0] for label in labels))


def union(sets: Iterable[str], custom: Custom = NONE) -> Labels:
    """The fewest labels with the same atlases and voxels as some sets together, sorted.

    Sets of the same union select the same voxels, whatever they are called and however they overlap. `all`
    adds nothing, and a label nothing where its whole atlas is in.

    Raises
    ------
    PerceptError : no set has one of these names
    """
    labels = {label for name in sets for label in resolve(name, custom)} - {EVERYTHING}
    whole = {label for label in labels if split_label(label)[1] is None}
    return tuple(sorted(label for label in labels if label in whole or split_label(label)[0] not in whole))


def members(table: pd.DataFrame, labels: Iterable[str]) -> np.ndarray:
    """Which voxels carry any of some labels: bool (voxel,), possibly none.

    Raises
    ------
    PerceptError : an atlas is no column of the table, or has no such label; what exists is listed
    """
    inside = np.zeros(len(table), bool)
    for label in labels:
        inside |= True if label == EVERYTHING else _carry(table, label)
    return inside


def select(table: pd.DataFrame, name: str, custom: Custom = NONE) -> np.ndarray:
    """Voxels of a named ROI set: bool (voxel,), at least one of them true.

    Parameters
    ----------
    table : voxel table, one column per atlas; `table.attrs["labels"]` (column -> names), where present, tells
        which labels exist although no voxel carries them
    name : a set of `SETS`, of `custom`, or `all`
    custom : sets of the config, name -> labels

    Raises
    ------
    PerceptError : the set, an atlas or a label is unknown, or the set selects no voxel
    """
    labels = resolve(name, custom)
    inside = members(table, labels)
    if not inside.any():
        raise PerceptError(
            f"the ROI set {name!r} ({', '.join(labels)}) selects none of the {len(table)} extracted voxels "
            "of this subject, so there is nothing to decode from. Choose a larger set, or leave the subject "
            "out."
        )
    return inside


def kept(table: pd.DataFrame, name: str, mask: str, custom: Custom = NONE) -> np.ndarray:
    """Voxels of the set `name` that a mask lets through: bool (voxel of `name`,), at least one of them true.

    A region of the mask that this subject lacks is empty, which `members` logs.

    Raises
    ------
    PerceptError : as of `select`, for either set; or no voxel of `name` lies in the mask
    """
    inside = select(table, name, custom)
    through = select(table, mask, custom)[inside]
    if not through.any():
        raise PerceptError(
            f"none of the {inside.sum()} voxels of the ROI set {name!r} lies in {mask!r}, so that this mask "
            "would set the whole input of the decoder to 0 and there would be nothing to learn from. Choose "
            "another `mask`, or a `roi` that overlaps with it."
        )
    log.info("the mask %s keeps %d of %d voxels of %s", mask, through.sum(), len(through), name)
    return through


def count(table: pd.DataFrame, custom: Custom = NONE) -> dict[str, int]:
    """Voxels of every set whose atlases the table has: name -> count, `all` first."""
    known = set(atlases(table))
    sets = {EVERYTHING: (EVERYTHING,), **SETS, **custom}
    return {
        name: int(members(table, labels).sum())
        for name, labels in sets.items()
        if all(label == EVERYTHING or column(split_label(label)[0]) in known for label in labels)
    }


def atlases(table: pd.DataFrame) -> list[str]:
    """Columns of a voxel table that hold labels."""
    return [name for name in table.columns if name not in NOT_ATLASES]


def _carry(table: pd.DataFrame, label: str) -> np.ndarray:
    atlas, name = split_label(label)
    if column(atlas) not in atlases(table):
        raise PerceptError(
            f"the voxel table has no atlas {atlas!r}{nearest(atlas, atlases(table))}. Extract a set that "
            "uses it (voxels.extract in the config), or correct the name."
        )
    found = table[column(atlas)]
    if name is None:
        return found.notna().to_numpy(bool)
    inside = (found == name).fillna(False).to_numpy(bool)
    if not inside.any():
        known = {*found.dropna().unique(), *table.attrs.get("labels", {}).get(column(atlas), ())}
        check_label(label, known)
        log.info("no voxel of this subject carries %s", label)
    return inside


def check_label(label: str, known: Iterable[str]) -> None:
    """Raise unless the atlas has this label; labels of the built-in sets exist by definition.

    Raises
    ------
    PerceptError : with the labels that exist and the nearest one
    """
    atlas, name = split_label(label)
    known = sorted(known)
    if name is not None and name not in known and label not in BUILT_IN_LABELS:
        raise PerceptError(
            f"the atlas {atlas!r} has no label {name!r}{nearest(name, known)}. Correct it in voxels.rois."
        )
