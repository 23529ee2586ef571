"""What the page shows, as plain lists and texts: no markup here, no computation in the templates."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
import yaml

from percept.evaluation.table import MEAN
from percept.report import formats, spec
from percept.report.figures import DIRECTIONS, Picture, main_unit
from percept.report.summary import Column, Line, Matrix, headline_pool, shared_notes

STATUSES = ("pass", "warn", "fail")
RECORDS = {
    "config": "Configuration",
    "git": "Code",
    "versions": "Versions",
    "machine": "Machine",
    "inputs": "Inputs (SHA-256)",
}


def text(value: object) -> str:
    """A cell of text; what is missing is empty."""
    return "" if formats.is_missing(value) else str(value)


def subjects(rows: pd.DataFrame) -> list[str]:
    """The subjects of a tidy table, sorted, without the mean."""
    return sorted(set(rows.subject.dropna()) - {MEAN})


def whom(rows: pd.DataFrame) -> list[str]:
    """Who has a table: the mean over subjects, and each of them where there are several."""
    names = subjects(rows)
    return [MEAN, *names] if len(names) > 1 else [MEAN]


def headlines(rows: pd.DataFrame, nouns: spec.Words) -> list[dict[str, Any]]:
    """A card per direction: the decoder that scores highest there, with chance and limits."""
    pool = headline_pool(rows)
    rows = main_unit(rows[(rows.metric == "top1") & rows.control.isna() & (rows.subject == MEAN)])
    rows = rows[(rows.pool == pool).fillna(False) & rows.value.notna()]
    cards = []
    for direction in DIRECTIONS:
        own = rows[rows.direction == direction]
        if len(own):
            cards.append(_card(own.loc[own.value.idxmax()], len(own), nouns))
    return cards


def _card(row: pd.Series, n_decoders: int, nouns: spec.Words) -> dict[str, Any]:
    metric = spec.load().metric("top1")
    marks = [
        {
            "kind": kind,
            "at": f"{100 * row[column]:.2f}",
            "text": f"{label} {formats.score(row[column], metric)}",
        }
        for kind, column, label in (
            ("chance", "chance", "chance"),
            ("finite", "limit_finite", "limit, finite data"),
            ("oracle", "limit_oracle", "limit, oracle"),
        )
        if not pd.isna(row[column])
    ]
    unit = spec.load().units.get(text(row.unit), text(row.unit))
    ends = not (pd.isna(row.ci_low) or pd.isna(row.ci_high))
    direction = spec.direction(row.direction, nouns).capitalize()
    return {
        "title": f"{direction}, 1 of {row.pool}" + (f" · {unit.lower()}" if unit else ""),
        "value": formats.score(row.value, metric),
        "interval": formats.interval(row.ci_low, row.ci_high, metric),
        "fill": f"{100 * row.value:.2f}",
        "low": f"{100 * row.ci_low:.2f}" if ends else None,
        "width": f"{100 * (row.ci_high - row.ci_low):.2f}" if ends else None,
        "marks": marks,
        "track_label": "; ".join([f"score {formats.score(row.value, metric)}", *(m["text"] for m in marks)]),
        "sentence": sentence(row, n_decoders, nouns),
    }


def sentence(row: pd.Series, n_decoders: int, nouns: spec.Words) -> str:
    """A retrieval score in words, with chance and its share of the limits."""
    metric = spec.load().metric("top1")
    asked = {
        "image_from_brain": "Given a response, {name} finds the {item} behind it",
        "brain_from_image": "Given {an} {item}, {name} finds the response to it",
    }[row.direction]
    start = nouns.fill(asked, an="an" if nouns.item[0] in "aeiou" else "a", name=row["name"])
    start += f" among {row.pool} in {formats.score(row.value, metric)} of cases"
    by_chance = f" (guessing: {formats.score(row.chance, metric)})" if not pd.isna(row.chance) else ""
    best = f", the highest of {n_decoders} decoders" if n_decoders > 1 else ""
    return f"{start}{by_chance}{best}.{_shares(row)}"


def _shares(row: pd.Series) -> str:
    parts = []
    if not pd.isna(row.share_oracle):
        parts.append(f"{formats.share(row.share_oracle)} of what anyone could reach")
    if not pd.isna(row.share_finite):
        parts.append(f"{formats.share(row.share_finite)} of what can be learned from these training data")
    return f" That is {formats.listed(parts)}." if parts else ""


def opening(rows: pd.DataFrame, nouns: spec.Words) -> str:
    """One sentence: who was decoded, from what, under which protocol."""
    methods = rows[rows.control.isna() & (rows.subject != MEAN) & (rows.what != "voxels").fillna(True)]
    names = subjects(methods)
    decoders = methods[methods.what == "decoder"]["name"].nunique()
    n = methods.groupby("subject")["n"].max().dropna()
    candidates = methods["pool"].dropna()
    repeated = (
        len(n) and len(candidates) and n.max() > candidates.max()
    )  # runs are left out: categories recur
    cases = f"cases of {candidates.max()} {nouns.items}" if repeated else nouns.items
    tested = f" on {_range(n.min(), n.max())} test {cases}" if len(n) else ""
    counted = [f"{len(names)} subject{'s' if len(names) != 1 else ''}"]
    counted += [f"{decoders} decoder{'s' if decoders != 1 else ''}"] if decoders else []
    protocols = sorted(methods.protocol.dropna().unique())
    under = f", protocol {formats.listed(protocols)}" if protocols else ""
    return f"{formats.listed(counted)}{tested}{under}."


def _range(low: float, high: float) -> str:
    return formats.count(low) if low == high else f"{formats.count(low)} to {formats.count(high)}"


def summary(matrix: Matrix, nouns: spec.Words, aside: bool = False) -> dict[str, Any]:
    """A matrix of `summary.matrices` as texts; `aside` folds it away."""
    known = spec.load()
    who = nouns.mean if matrix.subject == MEAN else matrix.subject
    titles = {"decoder": "Decoders", "reconstruction": "Reconstructions", "encoding": "Encoding models"}
    unit = known.units.get(matrix.unit or "", matrix.unit or "")
    parts = [titles.get(matrix.what, matrix.what), who, unit.lower(), matrix.protocol or ""]
    return {
        "caption": " · ".join(part for part in parts if part),
        "aside": aside,
        "missing": lacking(matrix.missing),
        "notes": _notes(matrix, nouns),
        "columns": [_heading(column, nouns) for column in matrix.columns],
        "blocks": [
            {
                "title": known.groups.get(name, name),
                "lines": [_line(line, matrix.columns, nouns) for line in lines],
            }
            for name, lines in matrix.blocks.items()
        ],
    }


def lacking(missing: Mapping[str, str]) -> list[str]:
    """Metrics that are not available, those with the same reason together: "A and B, because ..."."""
    together: dict[str, list[str]] = {}
    for name, why in missing.items():
        together.setdefault(why, []).append(spec.load().metric(name).label)
    return [formats.listed(names) + (f", because {why}" if why else "") for why, names in together.items()]


def _notes(matrix: Matrix, nouns: spec.Words) -> list[str]:
    """What holds for all scores of a reconstruction, and the reader has to know: "unclip: ..."."""
    told = []
    for line in (line for lines in matrix.blocks.values() for line in lines):
        if matrix.what == "reconstruction" and not text(line.method["control"]):
            cells = [cell for cell in line.cells if cell is not None and not pd.isna(cell.value)]
            shared = shared_notes([cell.note for cell in cells])
            told += [f"{method_name(line.method, nouns)[0]}: {'; '.join(shared)}"] if shared else []
    return told


def _heading(column: Column, nouns: spec.Words) -> dict[str, str]:
    metric = spec.load().metric(column.metric)
    pool = f"1 of {column.pool}" if column.pool and column.metric in ("top1", "top5", "top10") else ""
    detail = spec.direction(column.direction, nouns) or (
        "lower is better" if metric.better == "lower" else ""
    )
    return {"label": metric.label, "detail": detail, "pool": pool}


def method_name(method: Mapping[str, Any], nouns: spec.Words) -> tuple[str, str]:
    """What a row is called, and a word on it: target and ROI of a method, the method of a control."""
    control = text(method["control"])
    if not control:
        return text(method["name"]), " · ".join(filter(None, (text(method["target"]), text(method["roi"]))))
    known = spec.load().rows.get(control)
    label = nouns.fill(known.label) if known else control
    return label, text(method["name"]) or text(method["roi"])


def _line(line: Line, columns: Sequence[Column], nouns: spec.Words) -> dict[str, Any]:
    name, detail = method_name(line.method, nouns)
    cells = [_matrix_cell(cell, column.metric) for cell, column in zip(line.cells, columns, strict=True)]
    below = text(line.method["control"]) == "recovery" and line.method["group"] == "reconstructions"
    name, detail = ("its recovery", "") if below else (name, detail)
    return {"name": name, "detail": detail, "cells": cells, "below": below}


def _matrix_cell(row: pd.Series | None, metric_name: str) -> dict[str, str]:
    if row is None:
        return {"value": formats.MISSING, "interval": "", "share": ""}
    metric = spec.load().metric(metric_name)
    limit, share = ("oracle", row.share_oracle) if pd.isna(row.share_finite) else ("limit", row.share_finite)
    return {
        "value": formats.score(row.value, metric),
        "interval": formats.interval(row.ci_low, row.ci_high, metric),
        "share": "" if pd.isna(share) or text(row.control) else f"{formats.share(share)} of {limit}",
    }


NUMBERS = ("Pool", "Score", "Chance", "p", "n", "Finite limit", "of finite", "Oracle limit", "of oracle")
COLUMNS = (
    "Method",
    "Subject",
    "Test data",
    "Metric",
    "Direction",
    *NUMBERS,
    "Scoring",
    "ROI",
    "Target",
    "Kind",
)
FILTERS = {"Kind": "Decoders", "Subject": MEAN, "Test data": "", "Metric": "", "Direction": "", "Scoring": ""}


def results(rows: pd.DataFrame, nouns: spec.Words) -> dict[str, Any]:
    """The whole tidy table as cells with sort keys, and the filters above it."""
    several = [name for name in ("dataset", "protocol") if rows[name].nunique() > 1]
    noted = ["note"] if (rows.note.fillna("") != "").any() else []
    columns = [*COLUMNS, *(name.capitalize() for name in (*several, *noted))]
    cells = [
        [*_cells(row, nouns), *(cell(text(row[name])) for name in (*several, *noted))]
        for row in rows.to_dict("records")
    ]
    filters = []
    for label, selected in FILTERS.items():
        at = columns.index(label)
        options = list(dict.fromkeys(row[at]["text"] for row in cells if row[at]["text"]))
        filters.append({"label": label, "column": at, "options": options, "selected": selected})
    return {
        "intro": "Intervals stand in brackets. A click on a heading sorts.",
        "filters": filters,
        "columns": [{"label": name, "numeric": name in NUMBERS} for name in columns],
        "rows": cells,
    }


def cell(shown: str, sort: float | None = None, extra: str = "") -> dict[str, Any]:
    """A cell of the table: what it shows, what it sorts by when that is a number, and a side note."""
    return {"text": shown, "sort": sort, "extra": extra}


def _cells(row: dict[str, Any], nouns: spec.Words) -> list[dict[str, Any]]:
    known = spec.load()
    metric = known.metric(row["metric"])
    name, detail = method_name(row, nouns)
    shown = name if not text(row["control"]) or not text(row["name"]) else f"{name} ({detail})"
    unit = known.units.get(text(row["unit"]), text(row["unit"]))
    direction = spec.direction(text(row["direction"]), nouns)
    kind = known.groups.get(row["group"], row["group"])

    def number(key: str, shown: str, extra: str = "") -> dict[str, Any]:
        return cell(shown, "" if formats.is_missing(row[key]) else float(row[key]), extra)

    bounds = formats.interval(row["ci_low"], row["ci_high"], metric)
    return [
        *(cell(item) for item in (shown, text(row["subject"]), unit, nouns.fill(metric.label), direction)),
        number("pool", formats.count(row["pool"])),
        number("value", formats.score(row["value"], metric), bounds),
        number("chance", formats.score(row["chance"], metric)),
        number("p_value", formats.p_value(row["p_value"])),
        number("n", formats.count(row["n"])),
        number("limit_finite", formats.score(row["limit_finite"], metric)),
        number("share_finite", formats.share(row["share_finite"])),
        number("limit_oracle", formats.score(row["limit_oracle"], metric)),
        number("share_oracle", formats.share(row["share_oracle"])),
        cell(text(row["scoring"]).replace("_", " ")),
        *(cell(item) for item in (text(row["roi"]), text(row["target"]), kind)),
    ]


def figure(picture: Picture, nouns: spec.Words) -> dict[str, str]:
    """A picture with its texts; one that `spec.yml` does not know is titled by its name."""
    known = spec.load().figures.get(picture.name)
    title, caption, reads = (known.title, known.caption, known.reads) if known else (picture.name, "", "")
    label = picture.fills.get("label")
    fill = {name: value for name, value in picture.fills.items() if name not in ("label", "method")}
    title = nouns.fill(title, **fill) + (f": {label}" if label else "")
    texts = {"caption": nouns.fill(caption, **fill), "reads": nouns.fill(reads, **fill)}
    return {"title": title, "uri": picture.uri(), "href": picture.href, "alt": picture.alt, **texts}


def sections(
    pictures: Sequence[Picture], nouns: spec.Words, kept: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The sections with a picture, in the order of `spec.yml`, pictures in the order of their texts.

    Those that are `kept` stay without one as well.
    """
    known = spec.load()
    order = list(known.figures)
    pictures = sorted(pictures, key=lambda one: order.index(one.name) if one.name in order else len(order))
    shown = []
    for name, passage in known.sections.items():
        own = [one for one in pictures if _section_of(one) == name]
        if own or name in kept:
            texts = {"title": nouns.fill(passage.title), "intro": nouns.fill(passage.intro)}
            shown.append({"id": name, **texts, "figures": told_once([figure(one, nouns) for one in own])})
    return shown


def _section_of(picture: Picture) -> str:
    known = spec.load()
    return (
        known.figures[picture.name].section if picture.name in known.figures else next(iter(known.sections))
    )


def told_once(figures: list[dict[str, str]]) -> list[dict[str, str]]:
    """Figures of one kind follow each other; the first alone says how to read them."""
    told: set[str] = set()
    for one in figures:
        one["reads"] = "" if one["reads"] in told else one["reads"]
        told.add(one["reads"])
    return figures


def audit(checks: pd.DataFrame) -> dict[str, Any]:
    """Checks with their status ("pass", "warn", "fail"), failures first; one line where decoders agree.

    `checks` : what `evaluation.audit.audit` returns, or anything with `level` or a boolean `passed`; a level
    that is not known warns, all other columns are shown as they are
    """
    if checks.empty:
        return {"columns": [], "rows": []}
    others = [name for name in ("check", "subject", "decoder", "detail") if name in checks]
    others += [name for name in checks.columns if name not in (*others, "level", "passed")]
    table = checks.assign(status=_status(checks))[["status", *others]].map(text)
    if "decoder" in table:
        same = [name for name in table.columns if name != "decoder"]
        joined = table.groupby(same, sort=False)["decoder"].agg(lambda names: ", ".join(dict.fromkeys(names)))
        table = joined.reset_index()[["status", *others]]
    worst_first = table.status.map({name: -at for at, name in enumerate(STATUSES)}).sort_values(kind="stable")
    rows = [
        {"status": row[0], "cells": list(row[1:])} for row in table.loc[worst_first.index].to_numpy().tolist()
    ]
    return {"columns": ["Result", *(name.replace("_", " ") for name in others)], "rows": rows}


def _status(checks: pd.DataFrame) -> pd.Series:
    if "level" in checks:
        level = checks["level"].replace({"warning": "warn"})
        return level.where(level.isin(STATUSES), "warn")
    return checks["passed"].map({True: "pass", False: "fail"}).fillna("warn")


def verdict(checks: dict[str, Any]) -> dict[str, str]:
    """The audit in one word and one sentence."""
    counts = {status: sum(row["status"] == status for row in checks["rows"]) for status in STATUSES}
    if not checks["rows"]:
        missing = "No audit is in this report: leaks and swapped labels were not looked for."
        return {"status": "warn", "text": "not audited", "sentence": missing}
    total = len(checks["rows"])
    tally = f"{counts['pass']} of {total} checks passed, {counts['warn']} warned, {counts['fail']} failed."
    if counts["fail"]:
        return {"status": "fail", "text": "audit failed", "sentence": f"{tally} Do not use these scores."}
    if counts["warn"]:
        return {"status": "warn", "text": "audit passed with warnings", "sentence": tally}
    return {"status": "pass", "text": "audit passed", "sentence": tally}


def records(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The parts of the manifest: flat ones as pairs, nested ones as YAML, single values together."""
    parts, single = [], []
    for name, value in manifest.items():
        title = RECORDS.get(name, name.replace("_", " ").capitalize())
        if not isinstance(value, Mapping | list):
            single.append((title, value))
        elif isinstance(value, Mapping) and not any(
            isinstance(item, Mapping | list) for item in value.values()
        ):
            parts.append({"title": title, "pairs": list(value.items())})
        else:
            dumped = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
            parts.append({"title": title, "pairs": [], "text": dumped})
    return [*parts, {"title": "Run", "pairs": single}] if single else parts


def made(manifest: Mapping[str, Any]) -> str:
    """One sentence on the code that made the report."""
    git, versions = manifest.get("git", {}), manifest.get("versions", {})
    commit = str(git.get("commit", "unknown"))[:12]
    changed = ", with uncommitted changes" if git.get("modified") else ""
    return f"percept {versions.get('percept', 'of unknown version')}, git commit {commit}{changed}."
