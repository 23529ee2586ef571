"""A page per system: what it is, how it works, what this run made of it, against the linear baseline."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from percept import files
from percept.evaluation.compare import COMMON
from percept.report import formats, page, spec, views
from percept.report.figures import DIRECTIONS, Picture, main_unit
from percept.report.reconstructions import difference
from percept.report.summary import headline_pool, summarise
from percept.report.systems import Members, load

BASELINE = "ridge"  # the system that every other is held against
LOOK_UP = ("nearest",)  # looking up training images is a baseline of every reconstruction
TITLES = {"decoder": "Decoders", "reconstruction": "Reconstructions"}
QUANTITIES = {
    "decoder": ("top1", "two_way"),
    "reconstruction": ("pixcorr", "tiny_clip", "clip", "judge_late"),
}


def _task(decoder: Mapping[str, Any]) -> tuple[str, ...]:
    return decoder["target"], decoder["roi"]


def _painter(reconstruction: Mapping[str, Any]) -> tuple[str, ...]:
    return (reconstruction["generator"]["kind"],)


TASKS = {"decoder": _task, "reconstruction": _painter}  # what makes two of them comparable


class Run(NamedTuple):
    """What a run left for its pages.

    results : long table of all evaluations
    comparisons : what `evaluation.compare.compare` returns, of all subjects
    manifest : what `provenance.manifest` returns
    """

    results: pd.DataFrame
    comparisons: pd.DataFrame
    manifest: Mapping[str, Any]


def render(
    name: str, members: Mapping[str, Members], run: Run, pictures: Sequence[Picture] = (), title: str = ""
) -> str:
    """The page of one system as HTML that works offline.

    Parameters
    ----------
    name : of `systems.yml`
    members : what `systems.members` returns
    pictures : training curves, contact sheets and whatever else belongs to this system
    title : of the report
    """
    system, own = load()[name], members[name]
    nouns = spec.words(dict(run.manifest))
    baselines = _baselines(name, members, run.manifest.get("config", {}))
    kept = {*own.decoders, *own.reconstructions}.union(*baselines.values())
    rows = summarise(run.results[run.results["name"].isin(kept)])
    return (
        page.environment()
        .get_template("system.html.j2")
        .render(
            title=system.title,
            report=title,
            system=system,
            entries=_entries(own, run.manifest),
            summaries=page.summaries(rows, nouns),
            gains=gains(run.comparisons, baselines),
            figures=views.told_once([views.figure(one, nouns) for one in pictures]),
            others=[(other, load()[other].title) for other in members if other != name],
            terms=page.terms(run.manifest, nouns),
            **page.assets(),
        )
    )


def write(
    paths: Mapping[str, str | Path],
    members: Mapping[str, Members],
    run: Run,
    pictures: Sequence[Picture | None],
    curves: Mapping[str, Picture | None],
    title: str = "",
) -> None:
    """Write the page of every system.

    Parameters
    ----------
    paths : system -> file
    pictures : of the whole report; curves : system -> how its networks were trained
    title : of the report
    """
    for name, path in paths.items():
        own = [*filter(None, [curves[name]]), *belonging(pictures, name, members[name])]
        files.write_text(render(name, members, run, own, title), path)


def belonging(pictures: Sequence[Picture | None], name: str, own: Members) -> list[Picture]:
    """The pictures of a system: figures that it names, of its own decoders, and sheets of its own images.

    Parameters
    ----------
    pictures : of the whole report; None stands for a figure that the data did not allow
    """
    shown = [one for one in pictures if one is not None]
    figures = [one for one in shown if one.name in load()[name].figures]
    figures = [one for one in figures if one.fills.get("decoder") in (None, *own.decoders)]
    return figures + [one for one in shown if one.fills.get("method") in own.reconstructions]


def cards(members: Mapping[str, Members], results: pd.DataFrame) -> list[dict[str, str]]:
    """One card per system for the front page: its idea, and its best top-1 score where it has one.

    Parameters
    ----------
    members : what `systems.members` returns
    results : what `summary.summarise` returns
    """
    return [
        {
            "name": name,
            "title": load()[name].title,
            "idea": load()[name].idea,
            "score": _best(results, own.decoders),
            "entries": formats.listed([*own.decoders, *own.reconstructions]),
        }
        for name, own in members.items()
    ]


def _best(rows: pd.DataFrame, decoders: Sequence[str]) -> str:
    """The highest top-1 score of some decoders, image from brain, in words; empty where there is none."""
    pool = headline_pool(rows)
    own = rows[rows.name.isin(decoders) & rows.control.isna() & (rows.metric == "top1")]
    own = own[
        (own.direction == DIRECTIONS[0]) & (own.pool == pool).fillna(False) & (own.subject == views.MEAN)
    ]
    own = main_unit(own[own.value.notna()])
    if own.empty:
        return ""
    best = own.loc[own.value.idxmax()]
    return f"{best['name']}: {formats.score(best.value, spec.load().metric('top1'))} top-1 of {pool}"


def _baselines(
    name: str, members: Mapping[str, Members], config: Mapping[str, Any]
) -> dict[tuple[str, str], set[str]]:
    """What an entry is and its name -> linear baselines that do the same; none for the baseline itself.

    They decode the same target from the same voxels, or make images with the same kind of generator, or look
    up training images.
    """
    if name == BASELINE or BASELINE not in members:
        return {}
    found = {}
    for what, own, others in zip(TASKS, members[name], members[BASELINE], strict=True):
        settings, task = config.get(f"{what}s", {}), TASKS[what]
        for entry in own:
            wanted = {task(settings[entry]), LOOK_UP}
            found[what, entry] = {one for one in others if task(settings[one]) in wanted}
    return found


def _entries(own: Members, manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Each entry of the configuration with the settings that it was given, as YAML."""
    config = manifest.get("config", {})
    named = [("decoders", one) for one in own.decoders] + [
        ("reconstructions", one) for one in own.reconstructions
    ]
    return [
        {"name": name, "section": section, "text": _yaml(config.get(section, {}).get(name, {}))}
        for section, name in named
    ]


def _yaml(settings: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)


def gains(
    comparisons: pd.DataFrame, baselines: Mapping[tuple[str, str], Collection[str]]
) -> list[dict[str, Any]]:
    """Paired differences on the same test items, own entry minus baseline: tables of lines per subject.

    Decoders are compared under plain cosine where that was measured, so that calibration, which only ridge
    has, does not count; of pools the largest is shown.

    Parameters
    ----------
    comparisons : what `evaluation.compare.compare` returns
    baselines : decoder or reconstruction, and its name -> the baselines it is held against
    """
    table = _oriented(comparisons, baselines)
    quantity = ["subject", "name_first", "name_second", "metric", "direction"]
    table = table.sort_values("rule", key=lambda rule: rule != COMMON, kind="stable")
    table = table.sort_values("pool", ascending=False, kind="stable").drop_duplicates(quantity).sort_index()
    parts = table.groupby(["what", "subject"], sort=True)
    return [{"caption": f"{TITLES[what]}, {subject}", **_matrix(part)} for (what, subject), part in parts]


def _oriented(
    comparisons: pd.DataFrame, baselines: Mapping[tuple[str, str], Collection[str]]
) -> pd.DataFrame:
    """The comparisons with baselines that a page shows, the own entry first in all."""
    wanted = [what in QUANTITIES and metric in QUANTITIES[what]
              for what, metric in zip(comparisons["what"], comparisons["metric"], strict=True)]  # fmt: skip
    rows = main_unit(comparisons[pd.Series(wanted, index=comparisons.index, dtype=bool)])
    rows = rows[rows.control_second.fillna("") == ""]
    pairs = list(zip(rows.what, rows.name_first, rows.name_second, strict=True))
    forward = np.array([second in baselines.get((what, first), ()) for what, first, second in pairs], bool)
    backward = np.array([first in baselines.get((what, second), ()) for what, first, second in pairs], bool)
    ahead, behind = rows[forward], rows[backward]
    turned = {"name_first": "name_second", "name_second": "name_first"}
    low, high = -behind.ci_high, -behind.ci_low
    behind = behind.rename(columns=turned).assign(difference=-behind.difference, ci_low=low, ci_high=high)
    return pd.concat([ahead, behind[ahead.columns]])


def _matrix(table: pd.DataFrame) -> dict[str, Any]:
    """A line per entry and baseline, a column per quantity."""
    table = table.assign(measure=[_measure(row) for _, row in table.iterrows()])
    measures = list(dict.fromkeys(table.measure))
    lines = []
    for (entry, against), own in table.groupby(["name_first", "name_second"], sort=False):
        cells = {row.measure: difference(row, spec.load().metric(row.metric)) for _, row in own.iterrows()}
        lines.append({"entry": entry, "against": against, "cells": [cells.get(one) for one in measures]})
    return {"measures": measures, "lines": lines}


def _measure(row: pd.Series) -> str:
    """A quantity in words: metric, pool, direction, rule."""
    label = spec.load().metric(row.metric).label
    parts = [f"{label} of {row.pool:.0f}" if row.metric == "top1" else label]
    parts += [row.direction.replace("_", " ")] if views.text(row.direction) else []
    parts += ["rules chosen"] if row.what == "decoder" and row.rule != COMMON else []
    return ", ".join(parts)
