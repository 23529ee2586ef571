"""One table and one figure per sweep: what every combination of settings scored, and how it was trained."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from percept.evaluation import table
from percept.evaluation.table import TEXT
from percept.report import formats
from percept.report.figures import COLOURS, DIRECTIONS, MARKERS, Picture, main_unit, picture, style
from percept.report.signals import grid as panels
from percept.report.summary import headline_pool

Grid = Mapping[str, Mapping[str, Any]]  # decoder -> its values, by setting
Run = tuple[str, str, int]  # subject, decoder, seed
LINES = ("-", "--", ":", "-.")
LOSSES = {"loss": "training", "validation_loss": "validation"}  # column of a history -> split


def shown(value: object) -> str:
    """A swept value as a word: of a list its items, of nothing `none`."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


def long(
    grid: Grid,
    scores: Mapping[Run, pd.DataFrame],
    splits: Sequence[pd.DataFrame],
    histories: Mapping[Run, pd.DataFrame],
) -> pd.DataFrame:
    """Everything that is known of a sweep, one number per row.

    Columns: one per setting that was swept (as text), then those of the long table and `split`. Rows: what is
    scored on test images under the rule that validation chose; what is scored by split; and of what was
    trained step by step the last training loss, the lowest validation loss and its epoch (metrics `loss`,
    `best_loss`, `best_epoch`).
    """
    schema = {**table.SCHEMA, "split": TEXT}
    known = [table.conform(table.chosen(rows).assign(split="test"), schema) for rows in scores.values()]
    known += [rows[rows["name"].isin(list(grid))] for rows in splits]
    first = next(iter(scores.values()))
    for (subject, name, seed), history in histories.items():
        about = first.iloc[0][["dataset", "protocol"]].to_dict()
        about |= {"subject": subject, "what": "decoder", "name": name, "seed": seed}
        known.append(table.conform(pd.DataFrame([about | one for one in _trained(history)]), schema))
    rows = table.concat(known, schema)
    values = pd.DataFrame({name: {k: shown(v) for k, v in own.items()} for name, own in grid.items()}).T
    own = [column for column in rows if column not in values]  # a swept `roi` or `target` is a column of both
    return values.loc[rows["name"]].reset_index(drop=True).join(rows[own])


def _trained(history: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of what a training came to, where it went step by step."""
    if "epoch" not in history or "loss" not in history:
        return []
    found = [{"metric": "loss", "value": history["loss"].iloc[-1], "split": "train"}]
    if "validation_loss" in history and history["validation_loss"].notna().any():
        best = history["validation_loss"].idxmin()
        found.append(
            {"metric": "best_loss", "value": history["validation_loss"][best], "split": "validation"}
        )
        found.append({"metric": "best_epoch", "value": history["epoch"][best], "split": "validation"})
    return found


def wide(rows: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """A row per decoder of the sweep, means over subjects and seeds: its settings, then its scores.

    Columns: `decoder`, the settings, `n_runs`, then `{split} {metric}` of losses and errors, of an error also
    what its controls score, and the top-1 accuracies of both directions on test images.
    """
    fields = list(next(iter(grid.values())))
    made = []
    for name, own in rows.groupby("name", sort=False):
        cells = {"decoder": name, **own.iloc[0][fields].to_dict()}
        cells["n_runs"] = len(own[["subject", "seed"]].drop_duplicates())
        for (split, metric), part in own[
            own["metric"].isin(["loss", "best_loss", "best_epoch", "mae"])
        ].groupby(["split", "metric"], sort=False):
            means = part.groupby(part["control"].fillna(""), sort=False)["value"].mean()
            cells |= {f"{split} {metric}{f' of {one}' if one else ''}": value for one, value in means.items()}
        cells |= {column: part["value"].mean() for column, part in _accuracies(own).items()}
        made.append(cells)
    return pd.DataFrame(made)


def _accuracies(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Column -> rows of the top-1 accuracy of each direction in the headline pool, of methods themselves."""
    pool = headline_pool(rows)
    top = main_unit(rows[(rows["metric"] == "top1") & rows["control"].isna()])
    top = top[(top["pool"] == pool).fillna(False)]
    found = {one: top[top["direction"] == one] for one in DIRECTIONS}
    return {f"test top1 {one} of {pool}": part for one, part in found.items() if len(part)}


def curves(grid: Grid, histories: Mapping[Run, pd.DataFrame]) -> dict[str, dict[str, pd.Series]]:
    """Column of the history -> decoder -> its mean over subjects and seeds by epoch; {} without epochs."""
    found: dict[str, dict[str, pd.Series]] = {}
    for column, name in product(LOSSES, grid):
        own = [one for (_, decoder, _), one in histories.items() if decoder == name and column in one]
        own = [one.dropna(subset=[column]).set_index("epoch")[column] for one in own if "epoch" in one]
        if own and any(map(len, own)):
            found.setdefault(column, {})[name] = pd.concat(own).groupby(level=0).mean()
    return found


def figure(
    sweep: str, grid: Grid, rows: pd.DataFrame, trained: Mapping[str, Mapping[str, pd.Series]]
) -> Picture:
    """Losses over the epochs, a line per decoder, and scores over the setting that varies fastest.

    The first setting has the colour, all others together the line; scores are means over subjects and seeds,
    with the mean of the intervals of the single ones.

    Parameters
    ----------
    grid : decoder -> its values; rows : what `long` returns; trained : what `curves` returns
    """
    scores = _scores(rows)
    looks = _looks(grid)
    with style():
        drawn, axes = panels(max(len(trained) + len(scores), 1), 3.4, shared=False)
        for axis, (column, lines) in zip(axes, trained.items(), strict=False):
            for name, curve in lines.items():
                axis.plot(curve.index, curve, label=_label(grid[name]), **looks[name])
            axis.set_title(f"{LOSSES[column]} loss", fontsize=10.5)
            axis.set_xlabel("epoch")
        for axis, (title, part) in zip(axes[len(trained) :], scores.items(), strict=True):
            _over_setting(axis, grid, part)
            axis.set_title(title, fontsize=10.5)
        _legend(drawn, axes)
    alt = f"The sweep {sweep}: losses and scores of {len(grid)} decoders, by {formats.listed(_fields(grid))}."
    return picture(drawn, "sweep", alt)


def _scores(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Title -> rows with a mean and an interval per decoder."""
    own = rows[rows["control"].isna()]
    found = {f"{split} error": own[(own["metric"] == "mae") & (own["split"] == split)]
             for split in ("train", "validation")}  # fmt: skip
    for column, part in _accuracies(own).items():
        found[column.removeprefix("test ").partition(" of ")[0].replace("_", " ")] = part
    return {title: part for title, part in found.items() if len(part)}


def _fields(grid: Grid) -> list[str]:
    return list(next(iter(grid.values())))


def _label(values: Mapping[str, Any]) -> str:
    return ", ".join(map(shown, values.values()))


def _looks(grid: Grid) -> dict[str, dict[str, Any]]:
    """Decoder -> colour of its first value, and line of the others."""
    firsts = list(dict.fromkeys(shown(next(iter(one.values()))) for one in grid.values()))
    rests = list(dict.fromkeys(_label(dict(list(one.items())[1:])) for one in grid.values()))
    return {
        name: {
            "color": COLOURS[firsts.index(shown(next(iter(one.values())))) % len(COLOURS)],
            "linestyle": LINES[rests.index(_label(dict(list(one.items())[1:]))) % len(LINES)],
        }
        for name, one in grid.items()
    }


def _over_setting(axis: Axes, grid: Grid, rows: pd.DataFrame) -> None:
    """Scores over the last setting, a line per combination of the others."""
    last = _fields(grid)[-1]
    ticks = list(dict.fromkeys(shown(one[last]) for one in grid.values()))
    means = rows.groupby("name")[["value", "ci_low", "ci_high"]].mean()
    lines: dict[str, list[str]] = {}
    for name, one in grid.items():
        lines.setdefault(_label(dict(list(one.items())[:-1])), []).append(name)
    for at, (label, names) in enumerate(lines.items()):
        own = means.loc[names]
        x = [ticks.index(shown(grid[name][last])) + 0.06 * (at - (len(lines) - 1) / 2) for name in names]
        ends = [own["value"] - own["ci_low"], own["ci_high"] - own["value"]]
        axis.errorbar(x, own["value"], yerr=ends, color=COLOURS[at % 7], marker=MARKERS[at % 7], label=label,
                      markersize=5, linewidth=1.2)  # fmt: skip
    axis.set_xticks(range(len(ticks)), ticks)
    axis.set_xlabel(last)


def _legend(drawn: Figure, axes: Sequence[Axes]) -> None:
    handles, labels = axes[0].get_legend_handles_labels()
    if any(labels):
        drawn.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8.5)


def text_table(sweep: str, rows: pd.DataFrame, grid: Grid) -> dict[str, Any]:
    """The wide table as texts for the page."""
    found = wide(rows, grid).drop(columns="decoder")
    lines = [
        [f"{one:.4g}" if isinstance(one, float) else str(one) for one in row]
        for row in found.itertuples(index=False, name=None)
    ]
    caption = f"Sweep {sweep} · means over subjects and seeds"
    return {"caption": caption, "columns": [name.replace("_", " ") for name in found.columns], "lines": lines}
