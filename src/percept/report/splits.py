"""Scores by split as a table to read: training, validation and test side by side with their controls."""

from typing import Any

import pandas as pd

from percept.evaluation.table import MEAN
from percept.report import formats, spec

ORDER = ("train", "validation", "test")
WHO = ["what", "name", "target", "roi", "metric", "split"]
CONTROLS = {"shuffled": "shuffled", "mean": ("mean_target", "mean_image")}  # column -> controls
CELLS = ("value", "ci_low", "ci_high", "n")


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per method, metric, split and subject, and one for the mean over subjects.

    Columns: `value` with `ci_low`, `ci_high` and `n`; `shuffled`, what pairs that do not belong together
    score; `mean`, what the mean training target (or image) scores. Seeds are averaged; the bounds of a mean
    over subjects are the means of the subjects' bounds: about these subjects, and cautious.

    Parameters
    ----------
    rows : what `percept.evaluation.splits` returns, of several subjects
    """
    per_subject = rows.groupby([*WHO, "subject", "control"], dropna=False, sort=False)[list(CELLS)].mean()
    per_subject = per_subject.reset_index()
    over = per_subject.groupby([*WHO, "control"], dropna=False, sort=False)[list(CELLS)].mean().reset_index()
    both = pd.concat([over.assign(subject=MEAN), per_subject], ignore_index=True)
    own = both[both["control"].isna()].drop(columns="control")
    for column, controls in CONTROLS.items():
        named = both[both["control"].isin([controls] if isinstance(controls, str) else controls)]
        named = named[[*WHO, "subject", "value"]].rename(columns={"value": column})
        own = own.merge(named, on=[*WHO, "subject"], how="left")
    place = own["split"].map({name: at for at, name in enumerate(ORDER)})
    first = own.groupby(["name", "metric"], sort=False).ngroup()
    order = pd.DataFrame(
        {"method": first, "mean": own["subject"] != MEAN, "subject": own["subject"], "at": place}
    )
    return own.loc[order.sort_values(list(order.columns), kind="stable").index].reset_index(drop=True)


def table(rows: pd.DataFrame, nouns: spec.Words) -> dict[str, Any]:
    """The means over subjects as texts for the page; see `views` for what a table of a section is."""
    known, lines = spec.load(), []
    shown = wide(rows)
    for row in shown[shown["subject"] == MEAN].to_dict("records"):
        metric = known.metric(row["metric"])
        bounds = formats.interval(row["ci_low"], row["ci_high"], metric)
        value = f"{formats.score(row['value'], metric)} {bounds}".strip()
        floors = [formats.score(row[name], metric) for name in ("mean", "shuffled")]
        lines.append([row["name"], metric.label, row["split"], value, *floors])
    columns = ["Method", "Metric", "Split", "Score", "Mean of the training set", "Mismatched pairs"]
    return {
        "caption": f"Training, validation and test · {nouns.mean}",
        "columns": columns,
        "lines": lines,
    }
