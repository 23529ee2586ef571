"""A brain in a box: mask, ribbon, visual areas with their receptive fields, and every atlas of NSD.

The brain is an ellipsoid that fills the volume, the cortex its outer shell; visual areas follow each other
forward from the posterior pole. Array axes grow to Right, Anterior and Superior, as in NSD's volumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from percept.datasets.twin.labels import LABELS, VOLUMETRIC, number

RIBBON = 0.62  # normalised radius at which the cortex begins
VISUAL_SHARE = 0.095  # of all voxels of the volume: about 820 of 20 x 24 x 18
FIELD_DEG = 4.2  # half the width of NSD's stimuli
# share of the visual voxels up to which an area reaches, counted forward from the posterior pole
AREAS = {"V1": 0.27, "V2": 0.45, "V3": 0.58, "mid": 0.72, "high": 1.0}
# receptive-field sd in degrees: at the fovea, and its growth by degree of eccentricity
FIELD_SIZE = {"V1": (0.5, 0.1), "V2": (0.65, 0.18), "V3": (0.8, 0.28), "mid": (1.3, 0.4), "high": (2.5, 0.5)}
GLASSER_EARLY = {"V1": "V1", "V2": "V2", "V3": "V3", "mid": "V4"}
GLASSER_VENTRAL = ("VMV1", "VMV2", "VMV3", "PHA1", "PHA2", "PHA3", "VVC", "FFC", "PH", "TE2p")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Atlases = dict[str, NDArray[np.int16]]


@dataclass(frozen=True)
class Anatomy:
    """Voxels of the brain mask, in C order of (X, Y, Z), and what each belongs to.

    ``index`` (voxel,) flat C index into ``shape``; ``right``, ``ribbon``, ``visual`` (voxel,) bool;
    ``area`` (voxel,) name of the visual area or ""; ``stream`` (voxel,) label of atlas `streams` or 0;
    ``x_deg``, ``y_deg``, ``size_deg`` (voxel,) receptive field, NaN outside the visual voxels;
    ``atlases`` name -> (voxel,) label, with -1 where a surface atlas has no cortex.
    """

    shape: tuple[int, int, int]
    index: NDArray[np.int64]
    right: Bools
    ribbon: Bools
    visual: Bools
    area: NDArray[np.str_]
    x_deg: Floats
    y_deg: Floats
    size_deg: Floats
    atlases: Atlases

    def volume(self, values: NDArray, fill: float = 0, dtype: type = np.float32) -> NDArray:
        """Values of the brain's voxels as an (X, Y, Z) volume with `fill` elsewhere."""
        flat = np.full(int(np.prod(self.shape)), fill, dtype)
        flat[self.index] = values
        return flat.reshape(self.shape)

    def hemisphere(self, atlas: str, side: str) -> NDArray[np.float32]:
        """An atlas as a float32 volume: both hemispheres ("") or one ("lh", "rh"), the other one blanked."""
        blank = 0 if atlas in VOLUMETRIC else -1
        labels = self.atlases[atlas]
        if side:
            labels = np.where(self.right == (side == "rh"), labels, blank)
        return self.volume(labels, blank)


def build(shape: tuple[int, int, int], empty: tuple[str, str] | None = None) -> Anatomy:
    """The anatomy of a volume; `empty` names an (atlas, label) that this subject does not have."""
    axes = [(2 * np.arange(n) + 1) / n - 1 for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    radius = np.linalg.norm(grid, axis=1)
    index = np.flatnonzero(radius <= 1)
    u, radius = grid[index], radius[index]
    ribbon = radius >= RIBBON
    forward = np.where(
        ribbon, np.arccos(-u[:, 1] / np.maximum(radius, RIBBON)), np.inf
    )  # angle from the posterior pole
    n_visual = min(round(VISUAL_SHARE * len(grid)), int(ribbon.sum()))
    visual = np.zeros(len(index), bool)
    visual[np.argsort(forward, kind="stable")[:n_visual]] = True
    right = u[:, 0] >= 0
    area = _areas(forward, visual, right)
    field = _fields(u, area, right)
    atlases = _atlases(u, forward, field, (ribbon, visual, right), area)
    if empty:
        atlas, label = empty
        atlases[atlas][atlases[atlas] == number(atlas, label)] = 0
    return Anatomy(shape, index, right, ribbon, visual, area, *field, atlases)


def _share(values: Floats, groups: list[Bools]) -> Floats:
    """Rank of each value within its group, in (0, 1); groups must not overlap."""
    share = np.full(len(values), np.nan)
    for group in groups:
        ranks = np.argsort(np.argsort(values[group], kind="stable"))
        share[group] = (ranks + 0.5) / max(len(ranks), 1)
    return share


def _areas(forward: Floats, visual: Bools, right: Bools) -> NDArray[np.str_]:
    share = _share(forward, [visual & right, visual & ~right])
    area = np.full(len(forward), "", dtype="<U4")
    area[visual] = np.array(list(AREAS))[np.searchsorted(list(AREAS.values()), share[visual])]
    return area


def _fields(u: Floats, area: NDArray[np.str_], right: Bools) -> tuple[Floats, Floats, Floats]:
    """Receptive fields: the fovea lies laterally, the upper field below, each side sees the other side."""
    groups = [(area == name) & side for name in AREAS for side in (right, ~right)]
    eccentricity = 0.3 + 4.0 * (1 - _share(np.abs(u[:, 0]), groups)) ** 1.5
    elevation = np.pi * (0.5 - _share(u[:, 2], groups))
    x = eccentricity * np.cos(elevation) * np.where(right, -1, 1)
    y = eccentricity * np.sin(elevation)
    size = np.full(len(u), np.nan)
    for name, (fovea, growth) in FIELD_SIZE.items():
        size[area == name] = fovea + growth * eccentricity[area == name]
    return x, y, size


def _atlases(
    u: Floats, forward: Floats, field: tuple[Floats, Floats, Floats], masks: tuple[Bools, Bools, Bools],
    area: NDArray[np.str_],
) -> Atlases:  # fmt: skip
    ribbon, visual, right = masks
    atlases = {name: np.where(ribbon, 0, -1).astype(np.int16) for name in LABELS}
    atlases["nsdgeneral"][visual] = 1
    _early_atlases(atlases, field, area)
    groups = [(area == name) & side for name in ("mid", "high") for side in (right, ~right)]
    height = _share(u[:, 2], groups)  # ventral, lateral, parietal from below
    third = np.digitize(height, (0.42, 0.7))  # NaN goes last; masked by the area
    for name, first in (("mid", 2), ("high", 5)):
        here = area == name
        atlases["streams"][here] = first + third[here]
    hv4 = (area == "mid") & (third == 0)
    atlases["prf-visualrois"][hv4] = atlases["Kastner2015"][hv4] = 7
    _floc(atlases, u, right, third + 10 * (area != "high"))
    _parcels(atlases, np.where(ribbon, forward + 0.2 * u[:, 2], 0), (ribbon, visual, right), area, third)
    radius = np.linalg.norm(u, axis=1)
    for name, inner, outer in (("thalamus", 0.0, 0.22), ("MTL", 0.3, 0.42)):
        here = (radius >= inner) & (radius < outer)
        atlases[name][:] = 0
        atlases[name][here] = 1 + np.floor(_share(u[:, 1], [here])[here] * len(LABELS[name]))
    return atlases


def _early_atlases(atlases: Atlases, field: tuple[Floats, Floats, Floats], area: NDArray) -> None:
    x, y, _ = field
    for order, name in enumerate(("V1", "V2", "V3")):
        for half, here in enumerate((y > 0, y <= 0)):  # ventral areas see the upper field
            voxels = (area == name) & here
            atlases["prf-visualrois"][voxels] = atlases["Kastner2015"][voxels] = 1 + 2 * order + half
            atlases["streams"][voxels] = 1
    mapped = np.isin(area, ("V1", "V2", "V3", "mid"))
    atlases["prf-eccrois"][mapped] = 1 + np.digitize(np.hypot(x, y)[mapped], (0.5, 1, 2, 4))


def _floc(atlases: Atlases, u: Floats, right: Bools, part: NDArray[np.int64]) -> None:
    """Category areas: slices of the ventral (0), lateral (1) and parietal (2) parts of high visual cortex."""
    plan = (  # part, sorted along axis, then atlas, share of the part, labels from back to front
        (0, 0, (("floc-places", 0.3, ("PPA",)),
                ("floc-words", 0.2, ("VWFA-1", "VWFA-2", "mfs-words", "mTL-words")),
                ("floc-faces", 0.3, ("FFA-1", "FFA-2", "mTL-faces", "aTL-faces")),
                ("floc-bodies", 0.2, ("FBA-1", "FBA-2", "mTL-bodies")))),
        (1, 2, (("floc-faces", 0.3, ("OFA",)), ("floc-bodies", 0.5, ("EBA",)),
                ("floc-words", 0.2, ("OWFA",)))),
        (2, 0, (("floc-places", 0.4, ("RSC",)), ("floc-places", 0.3, ("OPA",)))),
    )  # fmt: skip
    for which, axis, slices in plan:
        groups = [(part == which) & side for side in (right, ~right)]
        along = _share(np.abs(u[:, 0]) if axis == 0 else u[:, axis], groups)
        start = 0.0
        for atlas, width, names in slices:
            here = (along >= start) & (along < start + width)
            start += width
            for side in (right, ~right):
                _slice(atlases, atlas, u[:, 1], here & side, names)


def _parcels(
    atlases: Atlases, along: Floats, masks: tuple[Bools, Bools, Bools], area: NDArray, third: NDArray
) -> None:
    """Kastner's higher areas, Glasser's parcels and the sulci: consecutive pieces of each hemisphere."""
    ribbon, visual, right = masks
    high, beyond = area == "high", ribbon & ~visual
    higher = LABELS["Kastner2015"][7:]
    after_v4 = np.isin(area, ("mid", "high")) & (atlases["Kastner2015"] != 7)
    for name, parcel in GLASSER_EARLY.items():
        atlases["HCP_MMP1"][area == name] = number("HCP_MMP1", parcel)
    taken = {*GLASSER_EARLY.values(), *GLASSER_VENTRAL}
    free = [name for name in LABELS["HCP_MMP1"] if name not in taken]
    for side in (right, ~right):
        for which in range(3):
            names = higher[4 * which : 4 * which + 4]
            _slice(atlases, "Kastner2015", along, side & after_v4 & (third == which), names)
        _slice(atlases, "Kastner2015", -along, side & beyond & (along > 2.2), higher[12:])
        _slice(atlases, "HCP_MMP1", along, side & high & (third == 0), GLASSER_VENTRAL)
        _slice(atlases, "HCP_MMP1", along, side & ((high & (third > 0)) | beyond), free)
        folds = np.floor(9 * along / np.pi) % 2 == 0  # every other stretch of cortex lies in a sulcus
        _slice(atlases, "corticalsulc", along, side & ribbon & folds, LABELS["corticalsulc"])


def _slice(atlases: Atlases, atlas: str, along: Floats, here: Bools, names: Sequence[str]) -> None:
    """Cut the voxels of `here` into as many consecutive pieces as there are names."""
    piece = np.floor(_share(along, [here])[here] * len(names)).astype(int)
    atlases[atlas][here] = np.array([number(atlas, name) for name in names])[piece]
