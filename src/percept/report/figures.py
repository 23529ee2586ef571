"""Figures of the report, each from a table: SVG, colour-blind safe, on white, readable in print.

Every function returns a `Picture`, or None where the table does not hold what it would show. Titles and
captions are in `spec.yml`. Figures take the table that `summary.summarise` returns.
"""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter
from PIL import Image

from percept.evaluation.table import MEAN
from percept.files import atomic
from percept.report import formats, spec
from percept.report.summary import headline_pool

# Okabe & Ito (2008), distinct under all common forms of colour blindness; yellow is left out on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4B8A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, FAINT, GRID = "#1c242e", "#5c6672", "#e3e6ea"
WIDTH = 9.6  # inches; at 96 pixels per inch the width of the page's column
DIRECTIONS = ("image_from_brain", "brain_from_image")
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10.5, "axes.titlesize": 11.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.labelsize": 10.5, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "legend.fontsize": 10, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT,
    "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.grid": True,
    "grid.color": GRID, "axes.axisbelow": True, "figure.facecolor": "white", "lines.linewidth": 1.8,
    "svg.hashsalt": "percept",  # the same figure gives the same bytes
}  # fmt: skip


class Picture(NamedTuple):
    """An image for the report: its name in `spec.yml`, its bytes, and what it shows, in words."""

    name: str
    data: bytes
    media: str
    alt: str
    fills: dict[str, object] = {}  # noqa: RUF012 (values for the braces of its caption; never written to)
    href: str = ""  # where it lies, of a picture that is not in the page

    def uri(self) -> str:
        """The image as a data URI, so that a page holds it."""
        return f"data:{self.media};base64,{base64.b64encode(self.data).decode('ascii')}"

    def write(self, path: str | Path) -> None:
        """Write the image, atomically."""
        with atomic(path) as temporary:
            temporary.write_bytes(self.data)


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, within the block."""
    with mpl.rc_context(STYLE):
        yield


def svg(figure: Figure) -> bytes:
    """The figure as SVG without a date; text becomes outlines, so that it looks alike everywhere."""
    buffer = BytesIO()
    with style():  # the salt of its ids is read here
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def picture(figure: Figure, name: str, alt: str, **fills: object) -> Picture:
    """A matplotlib figure as a picture of the report."""
    return Picture(name, svg(figure), "image/svg+xml", alt, fills)


def from_png(name: str, path: str | Path, alt: str, **fills: object) -> Picture:
    """A PNG file, such as a contact sheet, as a picture of the report."""
    return Picture(name, Path(path).read_bytes(), "image/png", alt, fills)


def from_sheet(name: str, path: str | Path, alt: str, **fills: object) -> Picture:
    """A contact sheet as a picture of a page: WebP of quality 85, an eighth of its PNG."""
    buffer = BytesIO()
    with Image.open(path) as sheet:
        sheet.convert("RGB").save(buffer, format="webp", quality=85, method=4)
    return Picture(name, buffer.getvalue(), "image/webp", alt, fills)


def main_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first unit of test data: means over repeats where there are any."""
    units = [unit for unit in spec.load().units if (rows.unit == unit).any()]
    return rows[rows.unit == units[0]] if units else rows


def retrieval_curve(rows: pd.DataFrame, nouns: spec.Words) -> Picture | None:
    """Top-1 accuracy over pool size, a panel per direction, with chance and limits."""
    rows = main_unit(rows[(rows.metric == "top1") & (rows.subject == MEAN)])
    rows = rows[rows.control.isna() | rows.control.isin(["chance", "bayes_oracle", "bayes_finite"])]
    directions = [name for name in DIRECTIONS if (rows.direction == name).any()]
    if rows.pool.nunique() < 2 or not directions:
        return None
    with style():
        figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
        axes = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, directions, strict=True):
            _curves(axis, rows[rows.direction == name])
            axis.set_title(nouns.fill(spec.direction(name, nouns)).capitalize())
            axis.set_xlabel(f"candidates in the pool ({nouns.items} or responses)")
        axes[0].set_ylabel("top-1 accuracy")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
        best = rows[rows.control.isna()].groupby("pool")["value"].max()
    alt = ", ".join(f"{value:.0%} of {pool}" for pool, value in best.items())
    return picture(figure, "retrieval_curve", f"Top-1 accuracy over pool size; the highest curve: {alt}.")


def _curves(axis: Axes, rows: pd.DataFrame) -> None:
    names = rows[rows.control.isna()]["name"].unique()
    for at, name in enumerate(names):
        own = rows[rows.control.isna() & (rows["name"] == name)].sort_values("pool")
        pool, colour = own.pool.to_numpy(float), COLOURS[at % len(COLOURS)]
        dash = "-" if at < len(COLOURS) else "--"
        axis.fill_between(pool, own.ci_low, own.ci_high, color=colour, alpha=0.13, linewidth=0)
        axis.plot(
            pool, own.value, dash, color=colour, marker=MARKERS[at % len(MARKERS)], markersize=6, label=name
        )
    for control, line in (("bayes_oracle", "-"), ("bayes_finite", (0, (5, 2))), ("chance", (0, (1, 1.5)))):
        own = rows[rows.control == control].groupby("pool")["value"].max()  # of several ROI sets, the best
        if len(own):
            label = spec.load().rows[control].label
            axis.plot(own.index.to_numpy(float), own, color=INK, linestyle=line, linewidth=1.4, label=label)
    pools = sorted(rows.pool.dropna().unique())
    axis.set_xscale("log")
    axis.set_xticks(pools, [f"{pool:,}" for pool in pools])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(0, 1.02)
    axis.yaxis.set_major_formatter(PercentFormatter(1))


class Dots(NamedTuple):
    """One line of a dot plot: a label, and for each panel its rows (the mean and the subjects)."""

    label: str
    panels: list[pd.DataFrame]
    colour: str


def dot_plot(lines: Sequence[Dots], titles: Sequence[str], percent: Sequence[bool], alike: bool) -> Figure:
    """Values of methods with their intervals, a panel per measure, a line per method, subjects as small dots.

    A vertical tick on a line is its Bayes limit: thick for the oracle, thin for finite data. Panels that are
    `alike` show the same measure and share their axis.
    """
    with style():
        figure = Figure(figsize=(WIDTH, 1.5 + 0.42 * len(lines)), layout="constrained")
        axes = figure.subplots(1, len(titles), sharex=alike, sharey=True, squeeze=False)[0]
        for panel, (axis, title) in enumerate(zip(axes, titles, strict=True)):
            for at, line in enumerate(lines):
                _dots(axis, at, line.panels[panel], line.colour)
            axis.set_title(title)
            axis.set_xlim(left=min(0, axis.get_xlim()[0]))
            if percent[panel]:
                axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes[0].set_yticks(range(len(lines)), [line.label for line in lines])
        axes[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


def _dots(axis: Axes, at: int, rows: pd.DataFrame, colour: str) -> None:
    means, subjects = rows[rows.subject == MEAN], rows[rows.subject != MEAN]
    spread = np.linspace(-0.16, 0.16, len(subjects)) if len(subjects) > 1 else np.zeros(len(subjects))
    axis.scatter(subjects.value, at + spread, s=16, color=colour, alpha=0.45, linewidth=0)
    for row in means.itertuples():
        if not (pd.isna(row.ci_low) or pd.isna(row.ci_high)):
            axis.plot(
                [row.ci_low, row.ci_high], [at, at], color=colour, linewidth=2.4, solid_capstyle="round"
            )
        axis.scatter(
            [row.value], [at], s=62, marker="D", color=colour, edgecolor="white", linewidth=0.9, zorder=3
        )
        for limit, shade in ((row.limit_oracle, INK), (row.limit_finite, FAINT)):
            axis.plot([limit, limit], [at - 0.3, at + 0.3], color=shade, linewidth=2 if shade == INK else 1.2)


def decoder_comparison(rows: pd.DataFrame, nouns: spec.Words) -> Picture | None:
    """Decoders and controls at the headline pool, a panel per direction."""
    pool, rows = headline_pool(rows), main_unit(rows[rows.metric == "top1"])
    rows = rows[(rows.pool == pool).fillna(False)]
    directions = [name for name in DIRECTIONS if (rows.direction == name).any()]
    if rows.empty or not directions:
        return None
    panels = [rows[rows.direction == name] for name in directions]
    lines = _method_lines(panels, rows) + _control_lines(panels, rows)
    figure = dot_plot(lines, [_title(name, nouns) for name in directions], [True] * len(directions), True)
    return picture(figure, "decoder_comparison", _alt(rows[rows.direction == directions[0]]), pool=pool)


def _title(direction: str, nouns: spec.Words) -> str:
    return spec.direction(direction, nouns).capitalize()


def _method_lines(panels: list[pd.DataFrame], rows: pd.DataFrame) -> list[Dots]:
    names = rows[rows.control.isna()]["name"].dropna().unique()
    return [
        Dots(
            name, [panel[panel.control.isna() & (panel["name"] == name)] for panel in panels], COLOURS[at % 7]
        )
        for at, name in enumerate(names)
    ]


def _control_lines(panels: list[pd.DataFrame], rows: pd.DataFrame) -> list[Dots]:
    """A line per control; where each method has its own, the line is their mean."""
    known = spec.load().rows
    drawn = [name for name in known if known[name].group == "controls" or name == "recovery"]
    columns = ["value", "ci_low", "ci_high", "limit_oracle", "limit_finite"]
    return [
        Dots(
            known[name].label,
            [
                panel[panel.control == name].groupby("subject", as_index=False)[columns].mean()
                for panel in panels
            ],
            FAINT,
        )
        for name in drawn
        if (rows.control == name).any()
    ]


def _alt(rows: pd.DataFrame) -> str:
    own = rows[rows.control.isna() & (rows.subject == MEAN)]
    shown = [f"{row.name_} {row.value:.1%}" for row in own.rename(columns={"name": "name_"}).itertuples()]
    return f"Dot plot of {formats.listed(shown) if shown else 'controls'}, with controls below."


def reconstruction_comparison(rows: pd.DataFrame, nouns: spec.Words) -> Picture | None:
    """Reconstructions and their controls, a panel for each of the image metrics that tell most."""
    known = spec.load()
    rows = main_unit(rows[(rows.what == "reconstruction") & rows.value.notna()])
    measured = [[metric for metric in panel if (rows.metric == metric).any()] for panel in known.panels]
    metrics = [options[0] for options in measured if options]
    if not metrics:
        return None
    panels = [rows[rows.metric == metric] for metric in metrics]
    lines = _method_lines(panels, rows) + _control_lines(panels, rows)
    percent = [known.metric(metric).format == "percent" for metric in metrics]
    figure = dot_plot(lines, [known.metric(metric).label for metric in metrics], percent, False)
    names = formats.listed(rows["name"].dropna().unique().tolist())
    return picture(
        figure, "reconstruction_comparison", f"Dot plot of the image metrics of {names} and controls."
    )


def roi_comparison(rows: pd.DataFrame, nouns: spec.Words) -> Picture | None:
    """Targets that were decoded from several ROI sets, a line per set."""
    pool = headline_pool(rows)
    rows = main_unit(rows[(rows.metric == "top1") & rows.control.isna() & (rows.pool == pool).fillna(False)])
    several = rows.groupby("target")["roi"].transform("nunique") > 1
    rows = rows[several.fillna(False)]
    directions = [name for name in DIRECTIONS if (rows.direction == name).any()]
    if rows.empty or not directions:
        return None
    lines = []
    for at, (_, own) in enumerate(rows.groupby("target", sort=False)):
        for (name, roi), _ in own.groupby(["name", "roi"], sort=False):
            chosen = [own[(own["name"] == name) & (own.direction == direction)] for direction in directions]
            lines.append(Dots(f"{roi}  ({name})", chosen, COLOURS[at % len(COLOURS)]))
    figure = dot_plot(lines, [_title(name, nouns) for name in directions], [True] * len(directions), True)
    return picture(figure, "roi_comparison", _alt(rows[rows.direction == directions[0]]), pool=pool)
