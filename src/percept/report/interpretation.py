"""Figures of what trained decoders use: regions left out, with the null of as many random voxels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from percept.files import read_parquet
from percept.report import formats
from percept.report.figures import COLOURS, FAINT, GRID, INK, WIDTH, Picture, picture, style

FALSE_DISCOVERIES = 0.05  # rate up to which a group counts as used more than random voxels
COLUMNS = 2  # panels beside each other
HELD = {"roi": "region", "block": "cube", "voxel": "single voxel"}
INFORMATION = {"r2_solo": "alone", "r2_zero": "zeroed", "r2_unique": "unique"}
REPLACED = {
    "conditional_mean": "what the other voxels predict of them",
    "zero": "their mean response",
    "permuted": "their responses to other {items}",
}


def read(paths: Sequence[str | Path]) -> pd.DataFrame:
    """The tables of all analyses and subjects below each other; empty without any."""
    return pd.concat([read_parquet(path) for path in paths], ignore_index=True) if paths else pd.DataFrame()


def pictures(table: pd.DataFrame, items: str = "images") -> Iterator[Picture]:
    """Per analysis: regions left out; what they carry; what the images lose; those that were measured.

    Parameters
    ----------
    table : rows of `percept.interpretation.table`, of all analyses and subjects
    items : what stimuli are called
    """
    if table.empty:
        return
    for name, own in table.groupby("analysis", sort=False):
        replaced = REPLACED[own.replacement.iloc[0]].format(items=items)
        fills = {"label": name, "decoder": own.decoder.iloc[0], "replaced": replaced}
        if (lost := own[(own.grouping == "roi") & (own.metric == "projection")]).size:
            yield _left_out(lost, -1, "leave_one_out", "lost projection", fills | {"tally": tally(own)})
        if (carried := own[own.metric.isin(INFORMATION)]).size:
            yield _information(carried, fills)
        images = [metric for metric in own.metric.unique() if metric.startswith("image_")]
        if images:
            seen = own[own.metric == images[0]]
            yield _left_out(seen, 1, "images_without_regions", "change of the image", fills)


def tally(own: pd.DataFrame) -> str:
    """How many groups of each grouping lose more than random voxels do, in words."""
    own = own[(own.metric == "projection") & own.q_value.notna()]
    counted = [
        f"{int((some.q_value <= FALSE_DISCOVERIES).sum())} of {len(some)} {HELD[kind]}s"
        for kind, some in own.groupby("grouping", sort=False)
    ]
    return formats.listed(counted)


def _panels(subjects: Sequence[str], n_lines: int) -> tuple[Figure, list[Axes]]:
    columns = min(COLUMNS, len(subjects))
    rows = -(-len(subjects) // columns)
    figure = Figure(figsize=(WIDTH, rows * (1.3 + 0.36 * n_lines)), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axis in axes[len(subjects) :]:
        axis.set_visible(False)
    for axis, subject in zip(axes, subjects, strict=False):
        axis.set_title(subject)
    return figure, list(axes)


def _left_out(rows: pd.DataFrame, sign: int, name: str, what: str, fills: dict[str, object]) -> Picture:
    """A bar per region, right is more lost, over the band of random sets; a panel per subject."""
    subjects = rows.subject.unique().tolist()
    with style():
        figure, axes = _panels(subjects, rows.groupby("subject").size().max())
        for axis, subject in zip(axes, subjects, strict=False):
            _bars(axis, rows[rows.subject == subject], sign)
            axis.set_xlabel(what)
    first = rows[rows.subject == subjects[0]]
    largest = first.iloc[int(np.argmax(sign * first.value.to_numpy()))]
    alt = (
        f"Bars of {what} for {len(first)} regions of {formats.listed(subjects)}; the longest of "
        f"{subjects[0]}: {short(largest.group)}."
    )
    return picture(figure, name, alt, **fills)


def _bars(axis: Axes, rows: pd.DataFrame, sign: int) -> None:
    """Bars in colour where the false discovery rate is low; grey boxes hold the random sets."""
    for at, row in enumerate(rows.itertuples()):
        used = not pd.isna(row.q_value) and row.q_value <= FALSE_DISCOVERIES
        low, high = sorted((sign * row.null_low, sign * row.null_high))
        axis.barh(at, high - low, left=low, height=0.86, color=GRID, zorder=1)
        axis.plot([sign * row.null_mean] * 2, [at - 0.43, at + 0.43], color=FAINT, linewidth=1.2, zorder=2)
        axis.barh(at, sign * row.value, height=0.42, color=COLOURS[0] if used else FAINT, zorder=3)
        ends = [sign * row.ci_low, sign * row.ci_high]
        axis.plot(ends, [at, at], color=INK, linewidth=1.4, zorder=4)
        if row.n_matched < row.n_voxels:
            axis.scatter([sign * row.whole], [at], marker="D", s=30, color=INK, zorder=4)
    axis.axvline(0, color=INK, linewidth=0.8, zorder=5)
    labels = [f"{short(row.group)}  ({_voxels(row.n_matched, row.n_voxels)})" for row in rows.itertuples()]
    _lines(axis, labels)


def _lines(axis: Axes, labels: Sequence[str]) -> None:
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")


def _voxels(matched: int, n_voxels: int) -> str:
    return f"{n_voxels}" if matched == n_voxels else f"{matched} of {n_voxels}"


def short(group: str) -> str:
    """`atlas:label` as the label, with the atlas behind it."""
    atlas, _, label = group.partition(":")
    return f"{label}, {atlas}" if label else atlas


def _information(rows: pd.DataFrame, fills: dict[str, object]) -> Picture:
    """Three marks per region: R2 alone, lost if zeroed, unique; a panel per subject."""
    subjects, regions = rows.subject.unique().tolist(), rows.group.nunique()
    with style():
        figure, axes = _panels(subjects, regions)
        for axis, subject in zip(axes, subjects, strict=False):
            _marks(axis, rows[rows.subject == subject])
            axis.set_xlabel("R²")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    alt = f"R² of each region alone, lost if zeroed, and unique, for {formats.listed(subjects)}."
    return picture(figure, "region_information", alt, **fills)


def _marks(axis: Axes, rows: pd.DataFrame) -> None:
    names = rows.group.unique().tolist()
    for colour, (offset, (metric, label)) in zip(
        COLOURS, zip((-0.2, 0.0, 0.2), INFORMATION.items(), strict=True), strict=False
    ):
        own = rows[rows.metric == metric]
        at = np.array([names.index(group) for group in own.group]) + offset
        axis.hlines(at, own.ci_low, own.ci_high, color=colour, linewidth=2)
        axis.scatter(own.value, at, color=colour, s=34, zorder=3, label=label)
    axis.axvline(0, color=INK, linewidth=0.8)
    _lines(axis, [f"{short(name)}" for name in names])
