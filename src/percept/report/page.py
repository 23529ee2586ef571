"""The pages: everything in one file, no request to a network, nothing in it that could run but one script."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from percept.evaluation.table import MEAN
from percept.report import spec, views
from percept.report.figures import Picture
from percept.report.summary import matrices, summarise
from percept.report.table import tidy

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{}'; base-uri 'none'"


@cache
def environment() -> Environment:
    """Templates of the package; every value is escaped, a name that is missing is an error."""
    loader = PackageLoader("percept.report", "templates")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


@cache
def assets() -> dict[str, str]:
    """Style, script, and a content policy that allows this script alone and no connection."""
    loader, env = environment().loader, environment()
    style, script = (loader.get_source(env, name)[0] for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "policy": POLICY.format(f"sha256-{digest}")}


def render(
    results: pd.DataFrame,
    audit: pd.DataFrame,
    manifest: Mapping[str, Any],
    figures: Sequence[Picture | None] = (),
    sheets: Sequence[Picture] = (),
    title: str = "Percept",
) -> str:
    """The report as one HTML page that works offline.

    Parameters
    ----------
    results : long table of all evaluations; it may be empty, lack limits, controls or a subject
    audit : a row per check, with `status` ("pass", "warn", "fail") or a boolean `passed`
    manifest : what `provenance.manifest` returns; the data set in its configuration decides what stimuli are
        called and which terms are quoted
    figures, sheets : pictures in any order; None stands for a figure that the data did not allow
    """
    nouns = spec.words(manifest)
    chosen, everything = summarise(results), tidy(results)
    checks = views.audit(audit)
    verdict = views.verdict(checks)
    sections = views.sections([one for one in (*figures, *sheets) if one is not None], nouns)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            facts=_facts(chosen, manifest, nouns),
            verdict=verdict,
            contents=_contents(sections),
            headlines=views.headlines(chosen, nouns),
            summaries=_summaries(chosen, nouns),
            sections=sections,
            table=views.results(everything, nouns),
            audit=checks,
            glossary=_glossary(nouns),
            metrics=_metrics(everything, nouns),
            manifest=views.records(manifest),
            terms=_terms(manifest, nouns),
            **assets(),
        )
    )


def render_table(results: pd.DataFrame, manifest: Mapping[str, Any], title: str = "Results") -> str:
    """The tables alone, as a page of their own: the summary of the mean and of each subject, and all rows."""
    nouns = spec.words(manifest)
    chosen = summarise(results)
    subjects = views.subjects(chosen)
    shown = [matrix for who in (MEAN, *subjects) for matrix in matrices(chosen, who)]
    return (
        environment()
        .get_template("table.html.j2")
        .render(
            title=title,
            summaries=[views.summary(matrix, nouns) for matrix in shown],
            table=views.results(tidy(results), nouns),
            **assets(),
        )
    )


def _facts(rows: pd.DataFrame, manifest: Mapping[str, Any], nouns: spec.Words) -> dict[str, Any]:
    names = views.subjects(rows)
    datasets = sorted(rows.dataset.dropna().unique())
    badges = [", ".join(names)] if names else []
    badges += [f"protocol {name}" for name in sorted(rows.protocol.dropna().unique())]
    return {
        "dataset": ", ".join(datasets) or "no results",
        "badges": badges,
        "opening": views.opening(rows, nouns) if names else "There are no results yet.",
        "made": views.made(manifest),
    }


def _summaries(rows: pd.DataFrame, nouns: spec.Words) -> list[dict[str, Any]]:
    """The summaries of the mean; of each kind and protocol the first unit is open, the others are folded."""
    shown = [(matrix, (matrix.what, matrix.protocol)) for matrix in matrices(rows)]
    seen = [key for _, key in shown]
    return [views.summary(one, nouns, key in seen[:at]) for at, (one, key) in enumerate(shown)]


def _contents(sections: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    middle = [(section["id"], section["title"]) for section in sections]
    ends = [
        ("table", "All results"),
        ("audit", "Audit"),
        ("glossary", "Glossary"),
        ("manifest", "Provenance"),
    ]
    return [("summary", "Summary"), *middle, *ends]


def _glossary(nouns: spec.Words) -> list[dict[str, str]]:
    entries = spec.load().glossary
    return [{"term": nouns.fill(one.term), "meaning": nouns.fill(one.meaning)} for one in entries]


def _metrics(rows: pd.DataFrame, nouns: spec.Words) -> list[dict[str, str]]:
    known = {name: spec.load().metric(name) for name in rows.metric.dropna().unique()}
    return [{"term": one.label, "meaning": nouns.fill(one.reads)} for one in known.values()]


def _terms(manifest: Mapping[str, Any], nouns: spec.Words) -> dict[str, str] | None:
    kind = manifest.get("config", {}).get("dataset", {}).get("kind")
    terms = spec.load().terms.get(kind)
    return {"title": terms.title, "text": nouns.fill(terms.text)} if terms else None
