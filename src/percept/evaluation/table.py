"""The long table: one row per number, one schema for every evaluation file; and its wide form to read.

`control` is missing for a method itself and names what a floor, ceiling or limit is. `chosen` says whether
validation chose the scoring rule of the row, and is missing where there was no choice. A second table keeps
the value of every item under the chosen rule and under plain cosine, so that methods can be compared on the
same items and subjects be averaged with an interval.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import EvaluationConfig
from percept.statistics import Interval, hierarchical_bootstrap

TEXT, WHOLE, REAL, TRUTH = "string", "Int32", "float64", "boolean"  # nullable: what does not apply is missing
TYPES = {name: pd.api.types.pandas_dtype(name) for name in (TEXT, WHOLE, REAL, TRUTH)}

WHO = {
    "dataset": TEXT,
    "protocol": TEXT,
    "subject": TEXT,
    "what": TEXT,
    "name": TEXT,
    "target": TEXT,
    "roi": TEXT,
    "seed": WHOLE,
    "unit": TEXT,
}
MEASURED = {"metric": TEXT, "direction": TEXT, "pool": WHOLE, "scoring": TEXT}
RESULT = {
    "value": REAL,
    "ci_low": REAL,
    "ci_high": REAL,
    "n": WHOLE,
    "chance": REAL,
    "p_value": REAL,
    "control": TEXT,
    "limit_oracle": REAL,
    "limit_finite": REAL,
    "share_oracle": REAL,
    "share_finite": REAL,
    "note": TEXT,
    "chosen": TRUTH,
}
SCHEMA = {**WHO, **MEASURED, **RESULT}
OF_ITEM = {"control": TEXT, "stimulus": WHOLE, "run": WHOLE, "value": REAL, "chosen": TRUTH}
ITEM_SCHEMA = {**WHO, **MEASURED, **OF_ITEM}

METHOD = ["dataset", "protocol", "what", "name", "target", "roi", "unit", "control"]
KEY = [*METHOD, "scoring", "metric", "direction", "pool"]  # what a mean over subjects is for
COMMON = ["chance", "limit_oracle", "limit_finite", "share_oracle", "share_finite"]
MEAN = "mean"  # the subject of a row that averages over subjects


@dataclass(frozen=True)
class Label:
    """What a row is about: the columns that do not depend on the metric."""

    dataset: str
    protocol: str
    subject: str
    what: str
    name: str
    target: str | None = None
    roi: str | None = None
    seed: int | None = None
    unit: str | None = None
    scoring: str | None = None
    control: str | None = None


def rows(label: Label, records: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Long rows: the label beside each record; what neither names is missing."""
    return conform(pd.DataFrame([{**asdict(label), **record} for record in records]))


def conform(table: pd.DataFrame, schema: dict[str, str] = SCHEMA) -> pd.DataFrame:
    """The table with exactly the columns and types of the schema; missing columns are added empty.

    Raises
    ------
    ValueError : a column is not in the schema, or its values are not of its type
    """
    unknown = sorted(set(table.columns) - set(schema))
    if unknown:
        raise ValueError(
            f"the results table has no column {', '.join(map(repr, unknown))}: every evaluation file "
            f"shares one schema, so that they can be joined; its columns are {', '.join(schema)}"
        )
    types = {name: TYPES[dtype] for name, dtype in schema.items()}
    if list(table.columns) == list(types) and list(table.dtypes) == list(types.values()):  # joined before
        numbered = table.index.equals(pd.RangeIndex(len(table)))
        return table.copy(deep=False) if numbered else table.reset_index(drop=True)
    columns = {}
    for name, dtype in types.items():
        column = table[name] if name in table else pd.Series([None] * len(table), dtype="object")
        try:
            columns[name] = _typed(column, dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"column {name!r} of the results table has to hold {schema[name]} values ({error}); a row "
                "that does not have one leaves it out"
            ) from error
    return pd.DataFrame(columns)


def _typed(column: pd.Series, dtype: Any) -> Any:  # noqa: ANN401 (types and arrays of numpy or of pandas)
    """Values of a column as an array of a type, whatever stood for a missing one."""
    if column.dtype == dtype:
        return column.array
    values = column.to_numpy(dtype="object", copy=True)
    values[pd.isna(values)] = None
    return pd.array(values, dtype=dtype)


def concat(tables: Sequence[pd.DataFrame], schema: dict[str, str] = SCHEMA) -> pd.DataFrame:
    """Tables below each other in the given order, checked against the schema; none gives an empty table."""
    parts = [conform(table, schema) for table in tables]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else conform(pd.DataFrame(), schema)


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows under the scoring rule that validation chose, and those where there was no choice."""
    return rows[rows["chosen"].fillna(True).astype(bool)]


def over_subjects(long: pd.DataFrame, items: pd.DataFrame, settings: EvaluationConfig) -> pd.DataFrame:
    """Long rows of subject `mean`: the mean over subjects of every quantity.

    Seeds are averaged within a subject first. The interval is a hierarchical bootstrap, subjects then items;
    where all subjects have the same items it is crossed, so that a hard image counts once. n is the number
    of subjects. Chance, limits and shares are the means of the subjects'; p values are not averaged, and a
    mean of medians has no interval. Subjects whose whole pools differ in size are not averaged over them.

    Parameters
    ----------
    long, items : tables of several subjects
    """
    long, items = _one_rule(_of_subjects(long)), _one_rule(chosen(items))
    by_subject = long.groupby([*KEY, "subject"], dropna=False, sort=False)[["value", *COMMON]].mean()
    subjects = by_subject.reset_index().groupby(KEY, dropna=False, sort=False)
    means = subjects[["value", *COMMON]].mean().assign(n=subjects.size()).reset_index()
    noted = long[long["note"].notna()].groupby(KEY, dropna=False, sort=False)["note"]
    notes = {_hashable(key): _notes(group) for key, group in noted}
    intervals = {
        key: _interval_over_subjects(values, settings)
        for key, values in _per_item(items[items["metric"] != "median_rank"])
    }
    keys = [_hashable(key) for key in means[KEY].itertuples(index=False)]
    ends = [intervals.get(key) for key in keys]
    return conform(
        means.assign(
            subject=MEAN,
            note=[notes.get(key) for key in keys],
            ci_low=[None if each is None else each.low for each in ends],
            ci_high=[None if each is None else each.high for each in ends],
        )
    )


def _hashable(key: Iterable[object]) -> tuple:
    """The key of a group, with None for what is missing: the kinds of missing values are not equal."""
    return tuple(None if pd.isna(part) else part for part in key)


def _of_subjects(long: pd.DataFrame) -> pd.DataFrame:
    """Rows of single subjects under the scoring rule that was chosen, if there was a choice."""
    return chosen(long[long["subject"] != MEAN])


def _one_rule(rows: pd.DataFrame) -> pd.DataFrame:
    """Name the scoring rules of a method and direction together where each subject has one of them.

    So a mean over subjects exists although validation chose different rules for them; rules that are
    reported side by side stay apart.
    """
    key = [*METHOD, "direction"]
    rules = rows.groupby([*key, "subject", "seed"], dropna=False)["scoring"].transform("nunique")
    most = rules.groupby([rows[column] for column in key], dropna=False).transform("max")
    joined = rows.groupby(key, dropna=False)["scoring"].transform(_joined)
    together = (most == 1) & rows["scoring"].notna()
    return rows.assign(scoring=rows["scoring"].mask(together, joined))


def _joined(rules: pd.Series) -> str:
    return "/".join(sorted(rules.dropna().unique()))


def _per_item(items: pd.DataFrame) -> Iterator[tuple[tuple, NDArray]]:
    """Per quantity the values (item, subject), mean over seeds, NaN where a subject lacks the item."""
    item = ["stimulus", "run"]
    rows = items.fillna({"run": -1})
    rows = rows.groupby([*KEY, "subject", *item], dropna=False, sort=False)["value"].mean().reset_index()
    numbered = [rows.groupby(part).ngroup().to_numpy() for part in ("subject", item)]  # ascending
    all_values = rows["value"].to_numpy()
    for key, places in rows.groupby(KEY, dropna=False, sort=False).indices.items():
        (subjects, subject), (each, at) = (np.unique(one[places], return_inverse=True) for one in numbered)
        values = np.full((len(each), len(subjects)), np.nan)
        values[at, subject] = all_values[places]
        yield _hashable(key), values


def _interval_over_subjects(values: NDArray, settings: EvaluationConfig) -> Interval:
    """Bootstrap of values (item, subject), crossed where every subject has every item."""
    known = [column[~np.isnan(column)] for column in values.T]
    crossed = all(len(column) == len(values) for column in known)
    return hierarchical_bootstrap(known, settings.bootstrap, settings.confidence, settings.seed, crossed)


def noted(rows: pd.DataFrame, note: str | None) -> pd.DataFrame:
    """The long table with a note on every row of the methods themselves, beside what is said there."""
    if not note:
        return rows
    both = (rows["note"] + "; " + note).fillna(note)
    return rows.assign(note=rows["note"].where(rows["control"].notna(), both))


def _notes(notes: pd.Series) -> str | None:
    return "; ".join(notes.dropna().unique()) or None


def wide(long: pd.DataFrame) -> pd.DataFrame:
    """One row per method and quantity; the mean over subjects and every subject in columns.

    Columns: those of KEY, `n_seeds`, then per subject, `mean` first, its value as `mean`, `subj01`, …, with
    `…_low`, `…_high`, `…_n`, then chance, limits and shares (means over subjects), and the notes. Without
    rows of subject `mean` (`over_subjects`) the mean is plain and has no interval.
    """
    own, means = _one_rule(_of_subjects(long)), long[long["subject"] == MEAN]
    averaged = dict(list(means.groupby(KEY, dropna=False, sort=False)))
    subjects = sorted(own["subject"].dropna().unique())
    records = []
    for key, group in own.groupby(KEY, dropna=False, sort=False):
        by_subject = group.groupby("subject")[["value", *COMMON]].mean()
        record = dict(zip(KEY, key, strict=True)) | {"n_seeds": max(group["seed"].nunique(), 1)}
        record |= {MEAN: by_subject["value"].mean()} | by_subject[COMMON].mean().to_dict()
        parts = {MEAN: averaged[key]} if key in averaged else {}
        for subject, part in {**parts, **dict(list(group.groupby("subject")))}.items():
            record |= _cells(subject, part)
        records.append(record | {"note": _notes(group["note"])})
    cells = [f"{subject}{end}" for subject in (MEAN, *subjects) for end in ("", "_low", "_high", "_n")]
    return pd.DataFrame(records, columns=[*KEY, "n_seeds", *cells, *COMMON, "note"])


def _cells(subject: str, part: pd.DataFrame) -> dict[str, object]:
    """Value, interval and n of one subject; over seeds the mean of each (training scatter is not in it)."""
    middle = part[["value", "ci_low", "ci_high"]].mean()
    ends = {"": middle["value"], "_low": middle["ci_low"], "_high": middle["ci_high"], "_n": part["n"].max()}
    return {f"{subject}{end}": value for end, value in ends.items()}
