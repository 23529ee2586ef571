"""Figure of how networks were trained: loss of training and validation, and what it took."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from percept.report import formats
from percept.report.figures import COLOURS, FAINT, Picture, picture, style
from percept.report.signals import grid

VALIDATED = "validation_loss"
DIVERGENCE = "validation_divergence"  # of the answers of self-supervised networks: 0 is a collapse
SCALES = {  # column -> what its panel is called; each has a scale of its own
    "loss": "training",
    VALIDATED: "validation",
    DIVERGENCE: "divergence",
}


def training_curve(history: pd.DataFrame, records: Sequence[Mapping[str, Any]] = ()) -> Picture | None:
    """Loss over the epochs, two panels per decoder (training, validation), a line per subject.

    Self-supervised decoders have a third one, which shows whether their answers still differ.

    The two losses are on scales of their own: what is trained changes with the phases of a schedule, what is
    validated does not. A dot marks the epoch whose weights were kept.

    Parameters
    ----------
    history : what networks write, and whose it is: decoder, subject, epoch, loss and, where there are
        validation images, validation_loss
    records : decoder, subject, and what the training took: parameters, seconds, peak_memory_mb, chosen_epoch
    """
    trained = history[history["epoch"].notna()] if "epoch" in history else history.iloc[:0]
    if trained.empty:
        return None
    panels = list(_panels(trained))
    with style():
        figure, axes = grid(len(panels), 2.8, shared=False)
        for axis, (decoder, column, own) in zip(axes, panels, strict=True):
            chosen = _chosen(records, decoder) if column == VALIDATED else {}
            _draw(axis, own, column, chosen)
            axis.set_title(f"{decoder}: {SCALES[column]}", fontsize=10.5)
            axis.set_xlabel("epoch")
            if column == DIVERGENCE:
                axis.set_ylim(bottom=0)
            axis.set_ylabel("share of the most" if column == DIVERGENCE else "loss")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8))
    names = formats.listed(list(dict.fromkeys(decoder for decoder, _, _ in panels)))
    alt = f"Loss over the epochs of training, of {names}."
    return picture(figure, "training_curve", alt, costs=costs(records))


def costs(records: Sequence[Mapping[str, Any]]) -> str:
    """One sentence per decoder about the largest of its trainings: parameters, time, rate, memory."""
    told = []
    for decoder, own in pd.DataFrame(list(records)).groupby("decoder", sort=False) if records else []:
        largest = own.max(numeric_only=True)
        parts = [
            f"{largest['parameters'] / 1e6:,.3g} million parameters",
            f"{largest['seconds']:,.0f} s",
            f"{largest['samples_per_s']:,.0f} images per second",
            f"{largest['peak_memory_mb']:,.0f} MB",
        ]
        if energy := largest.get("energy_j"):
            parts.append(f"{energy / 3.6e6:.2g} kWh" if pd.notna(energy) else "")
        note = own["note"].dropna().iloc[0] if "note" in own and own["note"].notna().any() else ""
        told.append(f"{decoder}: {', '.join(filter(None, parts))}{f' ({note})' if note else ''}.")
    return " ".join(told)


def _panels(trained: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for decoder, own in trained.groupby("decoder", sort=False):
        for column in SCALES:
            if column in own and own[column].notna().any():
                yield decoder, column, own


def _chosen(records: Sequence[Mapping[str, Any]], decoder: str) -> dict[str, float]:
    """Subject -> the epoch that was kept."""
    own = [one for one in records if one["decoder"] == decoder and one.get("chosen_epoch") is not None]
    return {one["subject"]: one["chosen_epoch"] for one in own}


def _draw(axis: Axes, own: pd.DataFrame, column: str, chosen: Mapping[str, float]) -> None:
    for at, (subject, curve) in enumerate(own.groupby("subject", sort=False)):
        mean = curve[["epoch", column]].dropna().groupby("epoch")[column].mean()
        axis.plot(mean.index, mean, color=COLOURS[at % 7], label=subject)
        if (kept := chosen.get(subject)) in mean.index:
            axis.scatter([kept], [mean[kept]], s=36, color=COLOURS[at % 7], edgecolor=FAINT, zorder=3)
