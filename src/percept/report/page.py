"""The pages: everything in one file, no request to a network, nothing in it that could run but one script."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from percept.report import beside, differences, latents, reconstructions, spec, views
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


@dataclass(frozen=True)
class Extras:
    """What a page may show besides results, audit and figures.

    sheets : contact sheets; those with a `method` among their fills stand beside its table
    differences : what `differences.to_controls` returns
    published : what `published.load` returns; beside our scores only where the data set is NSD
    gallery : where the gallery is, relative to the page
    systems : what `system_page.cards` returns; their pages lie in `systems/` beside the page
    tables : section -> plain tables in it, each with a caption, columns and lines of texts
    """

    sheets: Sequence[Picture] = ()
    differences: pd.DataFrame | None = None
    published: pd.DataFrame | None = None
    gallery: str | None = None
    systems: Sequence[Mapping[str, str]] = ()
    tables: Mapping[str, Sequence[dict[str, Any]]] = field(default_factory=dict)


@cache
def assets(styles: tuple[str, ...] = ("style.css",), scripted: str = "script.js") -> dict[str, str]:
    """Style, script, and a content policy that allows this script alone and no connection."""
    loader, env = environment().loader, environment()
    style = "\n".join(loader.get_source(env, name)[0] for name in styles)
    script = loader.get_source(env, scripted)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "policy": POLICY.format(f"sha256-{digest}")}


def render(
    results: pd.DataFrame,
    audit: pd.DataFrame,
    manifest: Mapping[str, Any],
    figures: Sequence[Picture | None] = (),
    title: str = "Percept",
    extras: Extras | None = None,
) -> str:
    """The report as one HTML page that works offline.

    Parameters
    ----------
    results : long table of all evaluations; it may be empty, lack limits, controls or a subject
    audit : a row per check, with `status` ("pass", "warn", "fail") or a boolean `passed`
    manifest : what `provenance.manifest` returns; the data set in its configuration decides what stimuli are
        called and which terms are quoted
    figures : pictures in any order; None stands for a figure that the data did not allow
    """
    nouns, extras = spec.words(manifest), extras or Extras()
    chosen, everything = summarise(results), tidy(results)
    checks = views.audit(audit)
    verdict = views.verdict(checks)
    sections = _sections(chosen, figures, extras, nouns)
    dataset = manifest.get("config", {}).get("dataset", {})
    printed = beside.section(chosen, extras.published, dataset, nouns)
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            facts=_facts(chosen, manifest, nouns),
            verdict=verdict,
            contents=_contents(sections, printed, extras),
            systems=extras.systems,
            headlines=views.headlines(chosen, nouns),
            summaries=summaries(chosen, nouns),
            sections=sections,
            items=nouns.items,
            scores=nouns.scores,
            printed=printed,
            table=views.results(everything, nouns),
            audit=checks,
            glossary=_glossary(nouns),
            metrics=_metrics(everything, nouns),
            manifest=views.records(manifest),
            terms=terms(manifest, nouns),
            **assets(),
        )
    )


def render_table(results: pd.DataFrame, manifest: Mapping[str, Any], title: str = "Results") -> str:
    """The tables alone, as a page of their own: the summary of the mean and of each subject, and all rows."""
    nouns = spec.words(manifest)
    chosen = summarise(results)
    shown = [matrix for who in views.whom(chosen) for matrix in matrices(chosen, who)]
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


def summaries(rows: pd.DataFrame, nouns: spec.Words) -> list[dict[str, Any]]:
    """The summaries of the mean; of each kind and protocol the first unit is open, the others are folded."""
    shown = [(matrix, (matrix.what, matrix.protocol)) for matrix in matrices(rows)]
    seen = [key for _, key in shown]
    return [views.summary(one, nouns, key in seen[:at]) for at, (one, key) in enumerate(shown)]


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


def _sections(
    rows: pd.DataFrame, figures: Sequence[Picture | None], extras: Extras, nouns: spec.Words
) -> list[dict[str, Any]]:
    """Sections with their figures; that of the reconstructions has a table per method, and the gallery."""
    of_method = [one for one in extras.sheets if one.fills.get("method")]
    shown = [one for one in (*figures, *extras.sheets) if one is not None and one not in of_method]
    gains = pd.DataFrame(columns=differences.COLUMNS) if extras.differences is None else extras.differences
    methods = reconstructions.tables(rows, gains, nouns)
    for method in methods:
        own = [one for one in of_method if one.fills["method"] == method["name"]]
        method["figures"] = views.told_once([views.figure(one, nouns) for one in own])
        of_method = [one for one in of_method if one not in own]
    kept = {*extras.tables} | ({"reconstructions"} if methods else set())
    sections = views.sections([*shown, *of_method], nouns, kept)
    for section in sections:
        section["tables"] = extras.tables.get(section["id"], ())
        own = section["id"] == "reconstructions"
        section |= {"methods": methods if own else [], "gallery": extras.gallery if own else None}
        section["matrices"] = latents.tables(rows, nouns) if section["id"] == latents.SECTION else []
    return sections


def _contents(
    sections: Sequence[dict[str, Any]], printed: dict[str, Any] | None, extras: Extras
) -> list[tuple[str, str]]:
    middle = [("systems", "Systems")] if extras.systems else []
    middle += [(section["id"], section["title"]) for section in sections]
    middle += [("published", "Published scores")] if printed else []
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


def _kind(manifest: Mapping[str, Any]) -> str:
    return str(manifest.get("config", {}).get("dataset", {}).get("kind"))


def terms(manifest: Mapping[str, Any], nouns: spec.Words) -> dict[str, str] | None:
    """What the data set demands of who passes a page on, or None."""
    found = spec.load().terms.get(_kind(manifest))
    return {"title": found.title, "text": nouns.fill(found.text)} if found else None
