"""Every reconstruction by every image metric, beside its ceiling and its controls, as texts for the page."""

from typing import Any

import pandas as pd

from percept.evaluation.table import MEAN
from percept.report import formats, spec
from percept.report.figures import main_unit
from percept.report.summary import reason, shared_notes, unmeasured

CEILING = "recovery"
CONTROLS = ("nearest_train", "mean_image", "random_image", "shuffled")


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """Image metrics that the rows have, with or without a value: the field's first, unknown ones last."""
    known = [column.metric for column in spec.load().headline["reconstruction"]]
    seen = rows.metric.dropna().unique().tolist()
    return [name for name in known if name in seen] + [name for name in seen if name not in known]


def tables(rows: pd.DataFrame, differences: pd.DataFrame, nouns: spec.Words) -> list[dict[str, Any]]:
    """A compact table per reconstruction, means over subjects: a metric per line, a control per column.

    Parameters
    ----------
    rows : what `summary.summarise` returns
    differences : what `differences.to_controls` returns; it may be empty
    """
    rows = main_unit(rows[(rows.what == "reconstruction") & (rows.subject == MEAN)])
    names = rows[rows.control.isna()]["name"].dropna().unique()
    return [_table(name, rows, differences, nouns) for name in names]


def _table(name: str, rows: pd.DataFrame, differences: pd.DataFrame, nouns: spec.Words) -> dict[str, Any]:
    mine = rows[(rows["name"] == name).fillna(False)]
    method = mine[mine.control.isna()]
    shown = [one for one in (CEILING, *CONTROLS) if mine[mine.control == one].value.notna().any()]
    paired = differences[differences["name"] == name]
    about = method.iloc[0]
    return {
        "name": name,
        "detail": " · ".join(str(about[part]) for part in ("target", "roi") if not pd.isna(about[part])),
        "notes": shared_notes(method[method.value.notna()].note.tolist()),
        "key": _key_numbers(method),
        "columns": [nouns.fill(spec.load().rows[one].label) for one in shown],
        "lines": [
            _line(metric, _by_control(mine, metric), _by_control(paired, metric), shown, nouns)
            for metric in metrics_of(method)
        ],
    }


def _key_numbers(method: pd.DataFrame) -> str:
    """The scores by which a reconstruction is told from the others at a glance."""
    known = spec.load()
    parts = []
    for panel in known.panels:
        metric = next((one for one in panel if (method.metric == one).any()
                       and not unmeasured(method, one)), None)  # fmt: skip
        if metric:
            value = method[method.metric == metric].value.iloc[0]
            parts.append(f"{known.metric(metric).label} {formats.score(value, known.metric(metric))}")
    return " · ".join(parts)


def _by_control(rows: pd.DataFrame, metric: str) -> dict[str | None, Any]:
    """Control -> its first row of a metric, as a tuple with names; None stands for the method itself."""
    own = rows[rows.metric == metric]
    controls = [None if pd.isna(control) else control for control in own.control]
    return dict(reversed([*zip(controls, own.itertuples(index=False), strict=True)]))


def _line(
    name: str,
    rows: dict[str | None, Any],
    differences: dict[str | None, Any],
    shown: list[str],
    nouns: spec.Words,
) -> dict[str, Any]:
    metric, method = spec.load().metric(name), rows[None]
    line = {"label": metric.label, "hint": _hint(metric, method), "reads": nouns.fill(metric.reads)}
    if pd.isna(method.value):
        return line | {"missing": reason(method.note), "cells": []}
    cells = [_cell(method, metric)]
    cells += [_cell(rows.get(control), metric, differences.get(control)) for control in shown]
    return line | {"missing": "", "cells": cells}


def _hint(metric: spec.Metric, method: Any) -> str:  # noqa: ANN401 (a row)
    """How to take the number: what the method scores by guessing, or which way is up."""
    if metric.better == "lower":
        return "lower is better"
    return "" if pd.isna(method.chance) else f"chance {formats.score(method.chance, metric)}"


def _cell(row: Any, metric: spec.Metric, paired: Any = None) -> dict[str, str]:  # noqa: ANN401 (rows)
    cell = {"value": formats.MISSING, "interval": "", "difference": "", "verdict": ""}
    if row is None:
        return cell
    cell["value"] = formats.score(row.value, metric)
    cell["interval"] = formats.interval(row.ci_low, row.ci_high, metric)
    if paired is not None:
        cell |= difference(paired, metric)
    return cell


def difference(row: Any, metric: spec.Metric) -> dict[str, str]:  # noqa: ANN401 (a row)
    """A paired difference with its interval, as text, and whether that is better or worse for certain."""
    sign = "+" if row.difference > 0 else ""
    ends = formats.interval(row.ci_low, row.ci_high, metric)
    side = 1 if row.ci_low > 0 else -1 if row.ci_high < 0 else 0
    side *= 1 if metric.better == "higher" else -1
    return {
        "difference": f"{sign}{formats.bare(row.difference, metric)} {ends}".strip(),
        "verdict": {1: "better", -1: "worse", 0: ""}[side],
    }
