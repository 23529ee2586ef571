"""One figure per subject: how many voxels each ROI set has, and where in the brain signal can be expected."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from percept.files import PerceptError, atomic
from percept.voxels import roi, store

if TYPE_CHECKING:
    import nibabel as nib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Background = str | Path | nib.Nifti1Image | None

N_CUTS = 6
ABSENT = -1.0  # ncsnr is never negative
INK, MUTED, BAR, COLOURS = "#1f2430", "#6b7280", "#3b6ea8", "viridis"
IMAGE = {"origin": "lower", "interpolation": "nearest", "aspect": "equal"}
FORMATS = (".png", ".svg", ".pdf")


def write(
    folder: str | Path,
    path: str | Path,
    subject: str,
    background: "Background" = None,
    custom_rois: roi.Custom = roi.NONE,
) -> None:
    """Draw the figure of one subject from its voxel table.

    Parameters
    ----------
    folder : of the subject, with betas.h5 and voxels.parquet
    path : png, svg or pdf
    background : mean or anatomical volume of the space of the voxels (NSD: `nsd.key_mean`), or None: the
        voxels are drawn alone
    custom_rois : sets of the config, counted beside the built-in ones

    Raises
    ------
    PerceptError : the format is unknown, or a voxel lies outside the background
    """
    if Path(path).suffix not in FORMATS:
        raise PerceptError(
            f"{path}: a figure is written as {', '.join(FORMATS)}; give its name one of these endings."
        )
    from matplotlib import rc_context

    figure = draw(store.read_voxels(folder), subject, background, custom_rois)
    dateless = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[Path(path).suffix]
    with atomic(path) as temporary, rc_context({"svg.hashsalt": "percept"}):  # equal data, equal bytes
        figure.savefig(temporary, dpi=150, metadata=dateless)


def draw(
    voxels: pd.DataFrame,
    subject: str,
    background: "Background" = None,
    custom_rois: roi.Custom = roi.NONE,
) -> "Figure":
    """The figure: bars of voxels per ROI set, axial cuts of ncsnr on the background."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = roi.count(voxels, custom_rois)
    figure = Figure(figsize=(11, max(3.6, 0.24 * len(counts) + 1.2)), facecolor="white")
    FigureCanvasAgg(figure)  # no global state: many figures may be drawn by one process
    has_map = {"i", "j", "k"} <= set(voxels.columns) and has_ncsnr(voxels)
    draw_counts(figure.add_axes((0.1, 0.04, 0.24 if has_map else 0.86, 0.83)), counts)
    if has_map:
        draw_map(figure, voxels, background)
    n_invalid = int((~voxels["valid"]).sum()) if "valid" in voxels else 0
    figure.text(0.02, 0.955, subject, size=13, weight="bold", color=INK, va="center")
    figure.text(0.98, 0.955, _subtitle(voxels, n_invalid), size=9, color=MUTED, ha="right", va="center")
    return figure


def has_ncsnr(voxels: pd.DataFrame) -> bool:
    """Whether any voxel has a noise-ceiling SNR; without repeats none has."""
    return "ncsnr" in voxels and bool(np.isfinite(voxels["ncsnr"]).any())


def _subtitle(voxels: pd.DataFrame, n_invalid: int) -> str:
    """What the figure says in words: voxels, sessions, median ncsnr."""
    parts = [f"{len(voxels):,} voxels extracted"]
    if n_invalid:
        parts.append(f"{n_invalid:,} of them flagged invalid")
    if "n_sessions" in voxels:
        parts.append(f"{int(voxels['n_sessions'].max())} sessions")
    if has_ncsnr(voxels):
        parts.append(f"median ncsnr {voxels['ncsnr'].median():.2f}")
    return "  ·  ".join(parts)


def draw_counts(axes: "Axes", counts: dict[str, int]) -> None:
    """Horizontal bars, in the order of the sets, each with its number."""
    names, values = list(counts), np.array(list(counts.values()))
    places = np.arange(len(names))[::-1]
    axes.barh(places, values, color=BAR, height=0.68)
    for place, value in zip(places, values, strict=True):
        axes.text(value, place, f" {value:,}", va="center", size=7.5, color=INK if value else MUTED)
    axes.set_yticks(places, names, size=8.5, color=INK)
    axes.set_xlim(0, 1.18 * max(1, values.max()))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_title("Voxels per ROI set", size=10, color=INK, loc="left")
    axes.tick_params(length=0)
    axes.set_xticks([])
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def draw_map(figure: "Figure", voxels: pd.DataFrame, background: "Background") -> None:
    """Axial cuts of ncsnr on the background, from low to high, with one colour bar."""
    from matplotlib import colormaps

    ncsnr, anatomy, affine = volumes(voxels, background)
    outside_blank = np.where(anatomy > 0, anatomy, np.nan)
    window = crop(np.isfinite(ncsnr) | (anatomy > 0))
    top = max(float(np.nanpercentile(ncsnr, 99)), 1e-3)
    grey = np.percentile(anatomy[anatomy > 0], 99) if (anatomy > 0).any() else 1.0
    for panel, slice_ in enumerate(cuts(ncsnr)):
        axes = figure.add_axes(_panel(panel))
        axes.set_axis_off()
        axes.imshow(outside_blank[(*window, slice_)].T, cmap="gray", vmin=0, vmax=1.25 * grey, **IMAGE)
        shown = axes.imshow(
            ncsnr[(*window, slice_)].T,
            cmap=colormaps[COLOURS].with_extremes(bad=(0, 0, 0, 0)),
            vmin=0,
            vmax=top,
            **IMAGE,
        )
        height = float((affine @ (0, 0, slice_, 1))[2])
        unit = " mm" if background is not None else ""
        axes.set_title(f"z = {height:.0f}{unit}", size=8.5, color=MUTED, pad=2)
    bar = figure.add_axes((0.52, 0.055, 0.32, 0.018))
    figure.colorbar(shown, cax=bar, orientation="horizontal").outline.set_visible(False)
    bar.tick_params(length=0, labelsize=8, labelcolor=MUTED)
    bar.set_title(
        "ncsnr (noise-ceiling SNR), axial cuts, left hemisphere on the left", size=8.5, color=INK, pad=4
    )


def _panel(number: int) -> tuple[float, float, float, float]:
    """Place of one cut in the figure, three to a row."""
    row, column = divmod(number, N_CUTS // 2)
    return 0.38 + 0.205 * column, 0.515 - 0.39 * row, 0.195, 0.345


def volumes(voxels: pd.DataFrame, background: "Background") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise-ceiling SNR and background on one grid whose axes grow to the right, to the front and upwards.

    Returns
    -------
    ncsnr : float (X, Y, Z), NaN where nothing was extracted
    anatomy : float (X, Y, Z), 0 where there is none
    affine : (4, 4), to mm

    Raises
    ------
    PerceptError : a voxel lies outside the background
    """
    import nibabel as nib
    from nilearn.image import reorder_img

    ijk = voxels[["i", "j", "k"]].to_numpy()
    if background is None:
        background = nib.Nifti1Image(np.zeros(ijk.max(axis=0) + 1, np.float32), np.eye(4))
    elif not isinstance(background, nib.Nifti1Image):
        background = nib.load(background)
    if (ijk.max(axis=0) >= background.shape[:3]).any():
        raise PerceptError(
            f"the background volume has the shape {background.shape[:3]}, but there are voxels at "
            f"{tuple(ijk.max(axis=0).tolist())}: it is of another subject or space. Give the mean volume of "
            "this subject."
        )
    placed = np.full(background.shape[:3], ABSENT, np.float32)
    placed[tuple(ijk.T)] = voxels["ncsnr"].fillna(ABSENT)
    anatomy = nib.Nifti1Image(np.nan_to_num(np.asarray(background.dataobj, np.float32)), background.affine)
    anatomy = reorder_img(anatomy, resample="nearest", copy_header=True)
    ncsnr = reorder_img(nib.Nifti1Image(placed, background.affine), resample="nearest", copy_header=True)
    values = np.asarray(ncsnr.dataobj)
    return np.where(values == ABSENT, np.nan, values), np.asarray(anatomy.dataobj), anatomy.affine


def crop(inside: np.ndarray) -> tuple[slice, slice]:
    """Bounding box in x and y of what is inside a volume (X, Y, Z), one voxel wider where there is room."""
    box = []
    for axis in (0, 1):
        where = np.flatnonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))
        box.append(slice(max(0, where[0] - 1), where[-1] + 2))
    return tuple(box)


def cuts(ncsnr: np.ndarray, n_cuts: int = N_CUTS) -> list[int]:
    """Axial slices, evenly over the 5th to 95th percentile of the mapped voxels, ascending, none twice."""
    k = np.nonzero(np.isfinite(ncsnr))[2]
    return np.unique(np.linspace(*np.percentile(k, (5, 95)), n_cuts).round().astype(int)).tolist()
