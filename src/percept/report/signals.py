"""Figures of what went in and how it was chosen: voxels, reliability, penalties, confusions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from percept.report import formats
from percept.report.figures import COLOURS, INK, WIDTH, Picture, picture, style


def grid(n: int, height: float, shared: bool = True) -> tuple[Figure, list]:
    """A figure with `n` panels, at most four in a row; with the same axes, or each with its own."""
    columns = min(n, 4)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False).ravel()
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, list(axes[:n])


def noise_ceiling(ceilings: Mapping[str, NDArray], n_repeats: float = 3) -> Picture | None:
    """Histogram of the noise ceilings of the voxels, a panel per subject.

    Parameters
    ----------
    ceilings : subject -> (voxel,) noise ceiling in per cent, 0..100; values that are not finite are left out
    n_repeats : repeats of the mean that the ceilings are for
    """
    finite = {subject: values[np.isfinite(values)] for subject, values in ceilings.items()}
    finite = {subject: values for subject, values in finite.items() if len(values)}
    if not finite:
        return None
    with style():
        figure, axes = grid(len(finite), 2.7)
        for axis, (subject, values) in zip(axes, finite.items(), strict=True):
            weights = np.full(len(values), 1 / len(values))
            axis.hist(values, bins=np.arange(0, 101, 4), weights=weights, color=COLOURS[0], alpha=0.85)
            axis.axvline(np.median(values), color=INK, linewidth=1.6)
            axis.set_title(f"{subject}: median {np.median(values):.0f} %")
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axis.set_xlabel("noise ceiling, % of variance")
            axis.grid(axis="x", visible=False)
        figure.supylabel("share of voxels", fontsize=10.5)
    medians = [f"{subject} {np.median(values):.0f} %" for subject, values in finite.items()]
    alt = f"Histograms of the noise ceiling of the voxels; medians: {formats.listed(medians)}."
    return picture(figure, "noise_ceiling", alt, n_repeats=f"{n_repeats:g}")


def validation_curve(history: pd.DataFrame) -> Picture | None:
    """Held-out R2 over the penalties tried, a panel per decoder, a line per subject.

    The area of a dot is the share of target dimensions that chose the penalty.

    Parameters
    ----------
    history : what ridge decoders write, and whose it is: decoder, subject, alpha, r2, n_best (dimensions that
        chose alpha), n_dims (dimensions of the row); folds, seeds, blocks of dimensions are averaged
    """
    history = (
        history[history.alpha > 0] if "alpha" in history else history.iloc[:0]
    )  # other decoders tried none
    if history.empty or history.alpha.nunique() < 2:
        return None
    with style():
        figure, axes = grid(history.decoder.nunique(), 3.0)
        for axis, (decoder, own) in zip(axes, history.groupby("decoder", sort=False), strict=True):
            for at, (subject, curve) in enumerate(own.groupby("subject", sort=False)):
                mean = _over_folds(curve)
                axis.plot(mean.index, mean.r2, color=COLOURS[at % 7], label=subject)
                axis.scatter(mean.index, mean.r2, s=4 + 160 * mean.share, color=COLOURS[at % 7], alpha=0.8)
            axis.set_xscale("log")
            axis.set_xlabel("penalty (alpha)")
            axis.set_title(decoder)
        figure.supylabel("held-out R²", fontsize=10.5)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8))
    alt = f"Held-out R² over the penalty, for {formats.listed(history.decoder.unique().tolist())}."
    return picture(figure, "validation_curve", alt)


def _over_folds(curve: pd.DataFrame) -> pd.DataFrame:
    """Per penalty: R2, the mean weighted by target dimensions, and the share of dimensions that chose it."""
    weighted = curve.assign(r2=curve.r2 * curve.n_dims).groupby("alpha")[["r2", "n_dims", "n_best"]].sum()
    return pd.DataFrame(
        {"r2": weighted.r2 / weighted.n_dims, "share": weighted.n_best / max(weighted.n_best.sum(), 1)}
    )


def confusions(true: NDArray, predicted: NDArray, labels: list[str]) -> pd.DataFrame:
    """Share of each true label (row) identified as each label (column); NaN for a label never shown.

    `true`, `predicted` : (n,) positions in `labels`
    """
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, (true, predicted), 1)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(counts / counts.sum(axis=1, keepdims=True), index=labels, columns=labels)


def confusion(shares: pd.DataFrame, decoder: str = "") -> Picture | None:
    """A confusion matrix, true labels down, identified labels across; numbers in per cent.

    `shares` : square, rows sum to 1; what `confusions` returns, or the mean of several
    """
    if shares.empty:
        return None
    n = len(shares)
    with style():
        side = min(max(0.62 * n, 3.2), 8.4)
        figure = Figure(figsize=(side + 2.2, side + 0.9), layout="constrained")
        axis = figure.subplots()
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(n), shares.columns, rotation=35, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(n), shares.index)
        axis.set(xlabel="identified as", ylabel="true", title=decoder)
        axis.grid(visible=False)
        for (row, column), value in np.ndenumerate(shares.to_numpy()):
            if n <= 16 and np.isfinite(value):
                ink = "white" if value > 0.55 else INK
                axis.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=ink, fontsize=10)
    right = np.nanmean(np.diag(shares))
    return picture(
        figure, "confusion", f"Confusion matrix {decoder}: {right:.0%} on the diagonal on average."
    )
