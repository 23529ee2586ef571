"""What the page says about the clusters and distances among predicted embeddings."""

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from percept.evaluation.table import MEAN
from percept.report import formats, spec

SECTION = "latents"
NAMED = re.compile(r"(silhouette|ami_images|ami_categories)_(kmeans|agglomerative)_(\d+)")
COLUMNS = ("rsa", "silhouette", "ami_images", "ami_categories")
READS = "In brackets: what is found where there is nothing to find. p: the largest of any subject"
METHODS = {"kmeans": "k-means", "agglomerative": "agglomerative"}


def tables(rows: pd.DataFrame, nouns: spec.Words) -> list[dict[str, Any]]:
    """A table per decoder, for the template of matrices; rows are distances, then clusterings.

    Parameters
    ----------
    rows : the table that `summary.summarise` returns
    """
    own = rows[rows["metric"].map(lambda name: name == "rsa" or NAMED.fullmatch(name) is not None)]
    decoders = own["name"].dropna().unique()
    return [_table(own[own["name"] == name], str(name), nouns) for name in decoders]


def _table(rows: pd.DataFrame, name: str, nouns: spec.Words) -> dict[str, Any]:
    metrics = [spec.load().metric(column) for column in COLUMNS]
    measured = [
        (column, metric)
        for column, metric in zip(COLUMNS, metrics, strict=True)
        if rows["metric"].str.startswith(column).any()
    ]
    lines = list(_lines(rows, [column for column, _ in measured]))
    return {
        "caption": f"{name} · {nouns.mean}",
        "aside": False,
        "missing": [],
        "notes": [],
        "columns": [{"label": nouns.fill(one.label), "detail": "", "pool": ""} for _, one in measured],
        "blocks": [{"title": READS, "lines": lines}],
    }


def _lines(rows: pd.DataFrame, columns: list[str]) -> Iterator[dict[str, Any]]:
    clusterings = sorted(
        {found.groups()[1:] for name in rows["metric"] if (found := NAMED.fullmatch(name))},
        key=lambda one: (list(METHODS).index(one[0]), int(one[1])),
    )
    yield _line("All pairs", "", rows, ["rsa" if column == "rsa" else None for column in columns])
    for method, n_clusters in clusterings:
        wanted = [None if column == "rsa" else f"{column}_{method}_{n_clusters}" for column in columns]
        yield _line(f"{n_clusters} clusters", METHODS[method], rows, wanted)


def _line(name: str, detail: str, rows: pd.DataFrame, metrics: list[str | None]) -> dict[str, Any]:
    return {"name": name, "detail": detail, "below": False, "cells": [_cell(rows, one) for one in metrics]}


def _cell(rows: pd.DataFrame, metric: str | None) -> dict[str, str]:
    own = rows[rows["metric"] == metric] if metric else rows.iloc[:0]
    value = _mean(own[own["control"].isna()])
    if value is None:
        return {"value": "", "interval": "", "share": ""}
    nothing = _mean(own[own["control"].isin(["shuffled", "cloud"])])
    measure = spec.load().metric(str(metric))
    p_value = own.loc[own["control"].isna() & (own["subject"] != MEAN), "p_value"].max()
    return {
        "value": formats.bare(value, measure),
        "interval": "" if nothing is None else f"[{formats.bare(nothing, measure)}]",
        "share": "" if pd.isna(p_value) else f"p = {formats.p_value(p_value)}".replace("= <", "<"),
    }


def _mean(rows: pd.DataFrame) -> float | None:
    """The mean over subjects, which a tidy table holds for one subject as well."""
    values = rows.loc[rows["subject"] == MEAN, "value"].dropna()
    return float(values.iloc[0]) if len(values) else None
