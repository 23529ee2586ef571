"""From the long table of all evaluations to the tables that people read.

`tidy` has a row per method, measure and subject, and one for the mean over subjects; `wide` puts the subjects
side by side, for a CSV file. `percept.report.summary` makes methods by headline metrics from them.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from percept.evaluation.table import MEAN, concat, conform
from percept.files import read_parquet, write_text
from percept.report import published
from percept.report import spec as specification

NUMBERS = ("value", "ci_low", "ci_high", "chance", "p_value", "limit_oracle", "limit_finite", "share_oracle",
           "share_finite")  # fmt: skip
METHOD = ("group", "dataset", "protocol", "what", "name", "target", "roi", "control")
MEASURE = ("unit", "metric", "direction", "pool", "scoring")
REFERENCES = {"chance": "chance", "bayes_finite": "limit_finite", "bayes_oracle": "limit_oracle"}


def collect(paths: Iterable[str | Path]) -> pd.DataFrame:
    """One long table from the parquet files of all evaluations, in the order given."""
    return concat([read_parquet(path) for path in paths])


def group(control: pd.Series, what: pd.Series) -> pd.Series:
    """Where each row stands: decoders, reconstructions, voxels, controls, limits, published, selection."""
    known = {name: row.group for name, row in specification.load().rows.items()}
    own = {"decoder": "decoders", "reconstruction": "reconstructions"}
    methods = what.fillna("decoder").map(lambda name: own.get(name, name)).astype("string")
    controls = control.map(known).astype("string").fillna("controls")
    return controls.where(control.notna(), methods)


def references(long: pd.DataFrame) -> pd.DataFrame:
    """Rows of chance and of the Bayes limits, once each, though every method carries them.

    They stand in columns of the methods, in rows of their own, or both. A limit belongs to the voxels that
    were decoded: its rows keep the ROI set where ROI sets differ in any of them. No method is named on them.
    Chance that differs between methods belongs to each of them (what a judge of images answers by chance
    depends on its answers): it has no row.
    """
    keys = ["dataset", "protocol", "subject", "what", "unit", "metric", "direction", "pool"]
    found = []
    for control, column in REFERENCES.items():
        own = long[(long.control == control).fillna(False)]
        methods = long[long.control.isna() & long[column].notna()]
        rows = pd.concat([own, methods.assign(value=methods[column])])
        rows = rows.assign(value=rows["value"].round(9))
        rows = _shared(rows, keys) if control == "chance" else rows
        rows = rows.drop_duplicates([*keys, "roi", "value"])
        same = rows.groupby(keys, dropna=False)["value"].transform("nunique") == 1
        about = [rows[key] for key in keys[:5]]
        same = same.groupby(about, dropna=False).transform("all")  # for all metrics, or for none
        rows = rows.assign(roi=rows["roi"].mask(same), control=control).drop_duplicates([*keys, "roi"])
        found.append(rows[[*keys, "roi", "n", "value", "control"]])
    return concat(found)


def _shared(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The rows of metrics whose chance is one number per subject, whoever is scored."""
    differs = rows.groupby(keys, dropna=False)["value"].transform("nunique") > 1
    metric = [rows[key] for key in keys if key != "subject"]
    return rows[~differs.groupby(metric, dropna=False).transform("any").astype(bool)]


def tidy(long: pd.DataFrame) -> pd.DataFrame:
    """A row per method, measure and subject, and one for the mean over subjects (`subject` is "mean").

    Seeds are averaged, and so are the bounds of their intervals. The interval of a mean over subjects is the
    one in the long table, where `evaluation.table.over_subjects` put one over the same subjects; else its
    bounds are the means of the subjects' bounds: about these subjects only, and cautious, because errors of
    subjects who saw the same stimuli go together. `n` is the smallest of what was averaged, `n_subjects` and
    `n_seeds` say how many were. A mean keeps only what all of its rows have: where one subject has no limit,
    the mean has none. What others published is left out: it has its own means.
    """
    long = conform(long)
    long = long[~published.is_published(long)]
    given, long = long[long.subject == MEAN], long[long.subject != MEAN]
    long = concat([long[~long.control.isin(list(REFERENCES))], references(long)])
    long["group"] = group(long.control, long.what)
    keys = [*METHOD, *MEASURE]
    by_subject = _average(long, [*keys, "subject"], "n_seeds").assign(n_subjects=1)
    mean = _average(by_subject, keys, "n_subjects").assign(subject=MEAN, p_value=np.nan)
    rows = pd.concat([_with_intervals(mean, given), by_subject], ignore_index=True)
    return _sort(rows.astype({"subject": "string"}))


def _with_intervals(mean: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    """Means over subjects with the given intervals, where those are over as many subjects."""
    keys = [name for name in (*METHOD, *MEASURE) if name != "group"]
    given = given.dropna(subset=["ci_low", "ci_high", "n"]).drop_duplicates(keys)
    given = given[[*keys, "ci_low", "ci_high", "n"]]
    both = mean.merge(given, how="left", on=keys, suffixes=("", "_given"))
    usable = (both.n_given == both.n_subjects).fillna(False).to_numpy(bool)
    for end in ("ci_low", "ci_high"):
        mean[end] = np.where(usable, both[f"{end}_given"], both[end])
    return mean


def _average(table: pd.DataFrame, keys: list[str], counted: str) -> pd.DataFrame:
    groups = table.groupby(keys, dropna=False, sort=False)
    size = groups.size()
    values = groups[list(NUMBERS)]
    means = values.mean().where(values.count().eq(size, axis=0))
    smallest = [name for name in ("n", "n_seeds") if name in table]
    means = means.join(groups[smallest].min())
    means[counted] = size
    noted = table["note"].replace("", pd.NA).dropna()
    notes = noted.groupby(groups.ngroup()).agg(_joined)  # ngroup numbers the rows of `means`
    means["note"] = notes.reindex(range(len(means)), fill_value="").to_numpy()
    return means.reset_index()


def _joined(notes: pd.Series) -> str:
    return "; ".join(dict.fromkeys(notes))


def _sort(rows: pd.DataFrame) -> pd.DataFrame:
    """Groups, metrics and units as in `spec.yml`; methods as they came; small pools first, the mean first."""
    known = specification.load()
    orders = {
        "group": list(known.groups),
        "unit": list(known.units),
        "metric": list(known.metrics),
        "direction": ["image_from_brain", "brain_from_image"],
        "control": list(known.rows),
    }
    position = pd.DataFrame(index=rows.index)
    for column in ("group", "protocol", "control", "what", "name", "unit", "metric", "direction", "scoring"):
        position[column] = _position(rows[column], orders.get(column, []))
    position["pool"] = rows["pool"].astype("float64").fillna(0)
    position["subject"] = rows["subject"].where(rows["subject"] != MEAN, "")
    return rows.loc[position.sort_values(list(position), kind="stable").index].reset_index(drop=True)


def _position(values: pd.Series, order: list[str]) -> pd.Series:
    """Place of each value in `order`, what is not in it after that as it came, nulls before."""
    seen = values.dropna().unique().tolist()
    known = [value for value in order if value in seen]
    known += [value for value in seen if value not in known]
    return values.map({value: at for at, value in enumerate(known)}).astype("float64").fillna(-1)


def wide(long: pd.DataFrame) -> pd.DataFrame:
    """A row per method and measure: the mean over subjects, then each subject's value, interval, n and p.

    Published scores follow at the end, as printed: they lack what was not.
    """
    rows = tidy(long)
    keys = [*METHOD, *MEASURE]
    is_mean = rows.subject == MEAN
    own = rows[~is_mean].set_index([*keys, "subject"])[["value", "ci_low", "ci_high", "n", "p_value"]]
    own = own.unstack("subject").swaplevel(axis=1)
    own = own[[(subject, name) for subject in sorted(set(rows.subject[~is_mean])) for name in _WIDE]]
    own.columns = [subject if name == "value" else f"{subject}_{name}" for subject, name in own.columns]
    table = rows[is_mean].rename(
        columns={"value": "mean", "ci_low": "mean_ci_low", "ci_high": "mean_ci_high"}
    )
    table = table.drop(columns=["subject", "p_value"]).merge(own.reset_index(), how="left", on=keys)
    front = [*keys, "mean", "mean_ci_low", "mean_ci_high", "n_subjects", "n_seeds", "n"]
    rest = [name for name in table.columns if name not in (*front, "note")]
    printed = long[published.is_published(long)] if "what" in long else long.iloc[:0]
    if len(printed):
        table = pd.concat([table, published.wide(printed)], ignore_index=True)
        rest += sorted(set(table.columns) - {*front, *rest, "note"})  # subjects that we did not decode
    return table[[*front, *rest, "note"]]


_WIDE = ("value", "ci_low", "ci_high", "n", "p_value")


def write_csv(long: pd.DataFrame, path: str | Path) -> None:
    """Write the wide table as CSV, six significant digits, atomically."""
    write_text(wide(long).to_csv(index=False, float_format="%.6g"), path)
