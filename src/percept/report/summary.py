"""Methods by headline metrics, under the scoring rule that validation chose."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from percept.evaluation.table import MEAN, conform
from percept.report import spec as specification
from percept.report.table import METHOD, tidy

RULES = ("likelihood", "centred_cosine", "cosine")  # order of preference where validation cannot tell
HEADLINE_POOL = 300  # the pool of most published retrieval scores
UNAVAILABLE = "not available"


def chosen(long: pd.DataFrame) -> pd.DataFrame:
    """The rows under each method's scoring rule: the one that validation preferred, never test.

    Parameters
    ----------
    long : long table. Where its column `chosen` says which rule counts, that is all. Otherwise the choice is
        made here, per subject, method and direction: the rule with the highest score in the rows whose
        `control` is "validation", and without such rows the first of `RULES`

    Rows without a ranking are kept; those that average over subjects, where the subjects chose alike.
    """
    rows = conform(long)
    if rows["chosen"].notna().any():
        return rows[rows["chosen"].fillna(True).astype(bool)]
    best = _best_rules(rows[rows.scoring.notna() & (rows.subject != MEAN)])
    alike = best.groupby(["name", "direction"], dropna=False)["scoring"].transform("nunique") == 1
    best = pd.concat([best, best[alike].assign(subject=MEAN).drop_duplicates()])
    kept = rows.reset_index().merge(best, on=list(best.columns))["index"]
    return rows[rows.scoring.isna() | rows.index.isin(kept)]


def _best_rules(scored: pd.DataFrame) -> pd.DataFrame:
    """One row per subject, method and direction, with the scoring rule that counts."""
    keys = ["subject", "name", "direction"]
    validated = scored[(scored.control == "validation").fillna(False) & (scored.metric == "top1")]
    merit = validated.groupby([*keys, "scoring"])["value"].mean().rename("merit")
    options = scored[[*keys, "scoring"]].drop_duplicates().join(merit, on=[*keys, "scoring"])
    options["order"] = options.scoring.map({rule: at for at, rule in enumerate(RULES)}).fillna(len(RULES))
    best = options.sort_values(["merit", "order"], ascending=[False, True], kind="stable")
    return best.drop_duplicates(keys)[[*keys, "scoring"]]


def summarise(long: pd.DataFrame) -> pd.DataFrame:
    """The tidy table of the chosen rules, without the rows of model selection.

    `scoring` is null and `note` names the rules, because subjects may have chosen different ones and their
    mean is over what each of them chose.
    """
    rows = chosen(long)
    rows = rows[(rows.control != "validation").fillna(True)]
    rule = "scoring: " + rows.scoring
    rows = rows.assign(
        note=rows.note.fillna(rule).where(rule.isna() | rows.note.isna(), rows.note + "; " + rule)
    )
    return tidy(rows.assign(scoring=pd.NA))


class Column(NamedTuple):
    """One measure, as a column of a summary."""

    metric: str
    direction: str | None
    pool: int | None


class Line(NamedTuple):
    """One method, as a line of a summary; a cell is a row of the tidy table or None."""

    method: pd.Series
    cells: list[pd.Series | None]


class Matrix(NamedTuple):
    """Methods by measures, for one kind of prediction, one unit of test data and one protocol."""

    what: str
    protocol: str | None
    unit: str | None
    subject: str
    columns: list[Column]
    blocks: dict[str, list[Line]]  # group -> lines
    missing: Mapping[str, str] = MappingProxyType({})  # metric that was asked for -> why it is not available


def unmeasured(rows: pd.DataFrame, metric: str) -> bool:
    """Whether a metric was asked for and has no value in any row: its network was not there."""
    own = rows[rows.metric == metric]
    return len(own) > 0 and bool(own.value.isna().all())


def _why(rows: pd.DataFrame, metric: str) -> str:
    """The reasons that the rows of a metric give, without the words that it is not available."""
    told = dict.fromkeys(reason(note) for note in rows[rows.metric == metric].note)
    why = (one.removeprefix(UNAVAILABLE).removeprefix(": ") for one in told)
    return "; ".join(filter(None, why))


def reason(note: object) -> str:
    """Why a metric is not available, from the note of its row."""
    parts = noted(note)
    return next((part for part in parts if part.startswith(UNAVAILABLE)), UNAVAILABLE)


def noted(note: object) -> list[str]:
    """The parts of a note."""
    return [] if pd.isna(note) or not note else str(note).split("; ")


def shared_notes(notes: Sequence[object]) -> list[str]:
    """What all of some notes say, such as those of every metric of a method."""
    parts = [noted(note) for note in notes]
    return [part for part in parts[0] if all(part in other for other in parts)] if parts else []


def headline_pool(rows: pd.DataFrame) -> int | None:
    """The pool that stands for the others: 300 where scored, else the largest that most subjects share."""
    pools = rows.loc[(rows.metric == "top1") & rows.pool.notna(), ["pool", "subject"]].drop_duplicates()
    if pools.empty:
        return None
    shared = pools.groupby("pool").size()
    common = shared[shared == shared.max()].index
    return int(HEADLINE_POOL if HEADLINE_POOL in common else max(common))


def matrices(rows: pd.DataFrame, subject: str = MEAN) -> list[Matrix]:
    """One summary per kind of prediction, protocol and unit, from the table that `summarise` returns."""
    pool = headline_pool(rows)
    rows = rows[rows.subject == subject]
    found = []
    for what, wanted in specification.load().headline.items():
        own = rows[rows.what == what]
        for (protocol, unit), part in own.groupby(["protocol", "unit"], dropna=False, sort=False):
            columns = [column for one in wanted if (column := _column(part, one, pool))]
            if columns:
                names = [None if pd.isna(name) else str(name) for name in (protocol, unit)]
                missing = {one.metric: _why(part, one.metric) for one in wanted
                           if unmeasured(part, one.metric)}  # fmt: skip
                found.append(Matrix(what, *names, subject, columns, _blocks(part, columns), missing))
    return found


def _column(rows: pd.DataFrame, wanted: specification.Column, pool: int | None) -> Column | None:
    """The wanted column with its pool, or None where no row has it, or a value for it."""
    rows = rows[rows.metric == wanted.metric]
    if wanted.direction:
        rows = rows[(rows.direction == wanted.direction).fillna(False)]
    if wanted.pool == "headline":
        rows = rows[(rows.pool == pool).fillna(False)]
    if rows.value.isna().all():
        return None
    return Column(wanted.metric, wanted.direction, None if rows.pool.isna().all() else int(rows.pool.max()))


def _blocks(rows: pd.DataFrame, columns: Sequence[Column]) -> dict[str, list[Line]]:
    rows = _beside(_shared_controls(rows)).reset_index(drop=True)
    measured = rows[["metric", "direction", "pool"]].astype(object)
    keys = measured.where(measured.notna(), None).itertuples(index=False, name=None)
    methods = rows.groupby(list(METHOD), dropna=False, sort=False).ngroup()
    places: dict[int, dict[Column, int]] = {}  # method -> column -> its row
    for at, (method, key) in enumerate(zip(methods, keys, strict=True)):
        if key in columns:
            places.setdefault(method, {}).setdefault(Column(*key), at)
    blocks: dict[str, list[Line]] = {}
    for place in places.values():
        cells = [rows.iloc[place[column]] if column in place else None for column in columns]
        first = next(cell for cell in cells if cell is not None)
        blocks.setdefault(first.group, []).append(Line(first, cells))
    return blocks


def _beside(rows: pd.DataFrame) -> pd.DataFrame:
    """Recoveries stand directly below their reconstruction, so that what rewards blur is seen at once."""
    own = (rows.what == "reconstruction") & ((rows.control == "recovery") | rows.control.isna()).fillna(False)
    if not own.any():
        return rows
    names = {name: at for at, name in enumerate(rows[own].name.unique())}
    order = rows[own].assign(place=rows.name.map(names), below=rows.control.notna())
    order = order.sort_values(["place", "below"], kind="stable").drop(columns=["place", "below"])
    return pd.concat([order.assign(group="reconstructions"), rows[~own]])


def _shared_controls(rows: pd.DataFrame) -> pd.DataFrame:
    """Controls that several methods have one each of become one line, their mean; the others stay."""
    several = rows.groupby(["control", "metric"])["name"].transform("nunique") > 1
    several &= rows.group == "controls"
    keys = ["group", "dataset", "protocol", "what", "control", "unit", "metric", "direction", "pool"]
    shared = rows[several].groupby(keys, dropna=False, sort=False)
    means = shared[["value", "ci_low", "ci_high"]].mean().join(shared["name"].nunique()).reset_index()
    means["name"] = ("mean of " + means["name"].astype("string")) + " methods"
    order = pd.concat([rows[~several], means], ignore_index=True)
    place = order.group.map({name: at for at, name in enumerate(specification.load().groups)})
    return order.loc[place.sort_values(kind="stable").index]
