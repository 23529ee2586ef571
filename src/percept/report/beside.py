"""Published scores as tables of their own, ours above them where the data set is the one they are about."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from percept.datasets.nsd_keys import RELEASED_SESSIONS
from percept.evaluation.field import FIELD_METRICS
from percept.evaluation.table import MEAN
from percept.report import formats, published, spec
from percept.report.figures import main_unit
from percept.report.summary import noted, shared_notes

POOL = 300
SUBJECTS = ("subj01", "subj02", "subj05", "subj07")  # over whom the field averages
HEADED = "headed "  # begins the part of a note that says under which heading a number was printed


class Column(NamedTuple):
    """A measure of the published tables."""

    metric: str
    direction: str | None = None


COLUMNS = [
    *(Column(name) for name in FIELD_METRICS),
    Column("top1", "image_from_brain"),
    Column("top1", "brain_from_image"),
]
UNKNOWN = Column("top1")  # of a direction that nobody could verify: told, not tabulated


def section(
    rows: pd.DataFrame, printed: pd.DataFrame | None, dataset: Mapping[str, Any], nouns: spec.Words
) -> dict[str, Any] | None:
    """The section of published scores, or None where there are none.

    The field averages over `SUBJECTS`, and so do our rows beside it, or they are left out.

    Parameters
    ----------
    rows : what `summary.summarise` returns
    printed : what `published.load` returns
    dataset : its settings; where it is not NSD, nothing of ours stands in these tables, and they are folded
        away
    """
    if printed is None or printed.empty:
        return None
    comparable = dataset.get("kind") == "nsd"
    own = _own(rows) if comparable else rows.iloc[:0]
    is_mean = printed.subject == MEAN
    sessions = _sessions(dataset)
    of_means = {
        "This report": list(_ours(_over_subjects(own), sessions)),
        "Published": list(_printed(printed[is_mean])),
    }
    by_subject = {
        "This report": list(_ours(own, sessions, with_subject=True)),
        "Published": list(_printed(printed[~is_mean], with_subject=True)),
    }
    tables = [
        _table("Means over subjects 1, 2, 5 and 7", of_means, not comparable, nouns)
        | {"notes": _absent(own) if comparable else []},
        _table("Single subjects", by_subject, True, nouns),
    ]
    told = "; ".join(f"{word}: {meaning}" for word, meaning in published.SURE.items())
    intro = f"{spec.load().published['comparable' if comparable else 'other']} How sure: {told}."
    return {"intro": intro, "tables": [one for one in tables if one["blocks"]]}


def _table(caption: str, blocks: dict[str, list[dict]], aside: bool, nouns: spec.Words) -> dict[str, Any]:
    shown = {title: lines for title, lines in blocks.items() if lines}
    every = [line for lines in shown.values() for line in lines]
    used = [at for at, _ in enumerate(COLUMNS) if any(line["values"][at] for line in every)]
    headings = [{"label": "Protocol", "detail": "", "pool": ""}]
    return {
        "caption": f"{caption} · published" if aside else caption,
        "aside": aside,
        "missing": [],
        "notes": [],
        "columns": [*headings, *(_heading(COLUMNS[at], nouns) for at in used)],
        "blocks": [
            {"title": title, "lines": [_line(line, used) for line in lines]} for title, lines in shown.items()
        ],
    }


def _heading(column: Column, nouns: spec.Words) -> dict[str, str]:
    metric = spec.load().metric(column.metric)
    if column.metric != "top1":
        return {
            "label": metric.label,
            "detail": "lower is better" if metric.better == "lower" else "",
            "pool": "",
        }
    detail = spec.direction(column.direction, nouns)
    return {"label": metric.label, "detail": detail, "pool": f"1 of {POOL}"}


def _line(line: dict[str, Any], used: list[int]) -> dict[str, Any]:
    cells = [{"value": line["protocol"], "interval": "", "share": ""}]
    cells += [{"value": line["values"][at] or formats.MISSING, "interval": "", "share": ""} for at in used]
    return {"name": line["name"], "detail": line["detail"], "cells": cells, "below": False}


def _printed(rows: pd.DataFrame, with_subject: bool = False) -> Iterator[dict[str, Any]]:
    for (method, protocol, subject), own in rows.groupby(["method", "protocol", "subject"], sort=False):
        source, sure = "; ".join(own.source.unique()), " or ".join(own.sure.unique())
        told = [source, sure, *shared_notes(own.note.tolist())]
        unknown = [_unknown(row) for row in own[_about(own, UNKNOWN)].itertuples()]
        told += [f"top-1 in directions that are unknown: {', '.join(unknown)}"] if unknown else []
        yield {
            "name": f"{method}, {subject}" if with_subject else method,
            "detail": "; ".join(told),
            "protocol": protocol,
            "values": [_cell(own, column) for column in COLUMNS],
        }


def _unknown(row: Any) -> str:  # noqa: ANN401 (a named tuple of pandas)
    """A score of unknown direction with the heading under which it was printed."""
    heading = next((part.removeprefix(HEADED) for part in noted(row.note) if part.startswith(HEADED)), "")
    value = formats.score(row.value, spec.load().metric(row.metric))
    return f"{value} (as {heading})" if heading else value


def _own(rows: pd.DataFrame) -> pd.DataFrame:
    """Our rows that can stand in these tables: single subjects, in the pool of the field."""
    rows = main_unit(rows[rows.control.isna() & (rows.subject != MEAN)])
    return rows[((rows.metric != "top1") | (rows.pool == POOL)).fillna(False)]


def _over_subjects(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the subjects of the field, of what every one of them has; `n` is the smallest."""
    rows = rows[rows.subject.isin(SUBJECTS) & rows.value.notna()]
    keys = ["name", "protocol", "metric", "direction", "pool"]
    groups = rows.groupby(keys, dropna=False, sort=False)
    means = groups.agg(value=("value", "mean"), n=("n", "min"), subjects=("subject", "nunique"))
    means = means.reset_index().assign(subject=MEAN)
    return means[means.subjects == len(SUBJECTS)]


def _absent(rows: pd.DataFrame) -> list[str]:
    """Why nothing of ours stands beside the means, where a subject of theirs was not decoded."""
    lacking = [name for name in SUBJECTS if name not in set(rows.subject.dropna())]
    if not lacking:
        return []
    return [f"Without a mean of this report over the same subjects: {formats.listed(lacking)} not decoded"]


def _sessions(dataset: Mapping[str, Any]) -> dict[str, int]:
    """Sessions of each subject that were used."""
    asked = dataset.get("sessions", "all")
    asked = RELEASED_SESSIONS if asked == "all" else asked
    return {name: asked.get(name, 0) if isinstance(asked, Mapping) else asked for name in RELEASED_SESSIONS}


def _ours(
    rows: pd.DataFrame, sessions: Mapping[str, int], with_subject: bool = False
) -> Iterator[dict[str, Any]]:
    """Our methods with a measure of the table; the protocol as theirs: sessions / test images."""
    for (name, protocol, subject), own in rows.groupby(
        ["name", "protocol", "subject"], sort=False, dropna=False
    ):
        values = [_cell(own, column) for column in COLUMNS]
        if any(values):
            whose = SUBJECTS if subject == MEAN else [subject]
            used = "–".join(str(n) for n in sorted({sessions.get(one, 0) for one in whose}))
            yield {
                "name": f"{name}, {subject}" if with_subject else name,
                "detail": f"protocol {protocol}",
                "protocol": f"{used}/{int(own.n.max())}",
                "values": values,
            }


def _about(rows: pd.DataFrame, column: Column) -> pd.Series:
    """Which rows have a value for a column, (row,) bool."""
    own = (rows.metric == column.metric) & rows.value.notna()
    if column.metric == "top1":
        same = rows.direction.isna() if column.direction is None else rows.direction == column.direction
        own &= same.fillna(False)
    return own.fillna(False).astype(bool)


def _cell(rows: pd.DataFrame, column: Column) -> str:
    metric = spec.load().metric(column.metric)
    return ", ".join(formats.score(value, metric) for value in rows[_about(rows, column)].value)
