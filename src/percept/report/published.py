"""Scores that others printed, from `resources/published/*.csv`: what they are, and how sure we are of each.

A printed number belongs to its protocol (sessions per subject / test images) and to one direction of
retrieval. The field's tables head a column "Image" where the code that filled it asks which response belongs
to an image, and "Brain" where it asks the opposite: here `direction` says what was computed, and is empty
where that could not be found out.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from percept.config import Section
from percept.evaluation.table import MEAN, conform
from percept.files import UNREADABLE, PerceptError
from percept.shortage import damage

WHAT = "published"
COLUMNS = ("method", "subject", "protocol", "metric", "direction", "pool", "value", "source", "sure", "note")
SURE = {
    "read": "in the source itself",
    "remembered": "from memory of the source, checked against other places that print it",
    "third-party": "measured by others, not by the method's authors",
}


class Row(Section):
    """One printed number."""

    method: str = Field(min_length=1)
    subject: str = Field(pattern=r"^(mean|subj0[1-8])$")
    protocol: Literal["37/982", "40/1000", "1/1000"]
    metric: Literal["pixcorr", "ssim", "alexnet2", "alexnet5", "inception", "clip", "effnet", "swav", "top1"]
    direction: Literal["image_from_brain", "brain_from_image"] | None = None
    pool: int | None = None
    value: float
    source: str = Field(min_length=1)
    sure: Literal["read", "remembered", "third-party"]
    note: str | None = None

    @model_validator(mode="after")
    def _plausible(self) -> "Row":
        """Fractions and distances in their range; a retrieval score with its pool."""
        low, high = {"pixcorr": (-1, 1), "effnet": (0, 2), "swav": (0, 2)}.get(self.metric, (0, 1))
        if not low <= self.value <= high:
            raise ValueError(f"{self.metric} lies between {low} and {high}: write shares as fractions")
        if (self.metric == "top1") != (self.pool is not None):
            raise ValueError("top1, and nothing else, has a pool")
        return self


def load(paths: Iterable[str | Path]) -> pd.DataFrame:
    """All printed scores, a row each, with `COLUMNS`, in the order of the files.

    Raises
    ------
    PerceptError : a file lacks a column, or a line of it is not what `Row` allows, or says the same twice
    """
    parts = [_read(Path(path)) for path in paths]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.concat(parts, ignore_index=True)
    key = [name for name in COLUMNS if name not in ("value", "sure")]
    twice = table[table.duplicated(key)]
    if len(twice):
        first = ", ".join(map(str, twice.iloc[0][key].dropna()))
        raise PerceptError(
            f"the published scores say twice what {first} is: keep one of the two "
            f"lines ({', '.join(map(str, paths))})."
        )
    return table


def _read(path: Path) -> pd.DataFrame:
    try:
        raw = pd.read_csv(path, dtype="string", keep_default_na=False)
    except damage(path, *UNREADABLE) as error:  # pandas' own are ValueErrors
        raise PerceptError(
            f"{path} is not readable as csv ({error}): no published score can be shown beside ours. Correct "
            "the file, or restore it."
        ) from error
    if tuple(raw.columns) != COLUMNS:
        raise PerceptError(
            f"{path} has the columns {', '.join(raw.columns)}, not {', '.join(COLUMNS)}: published scores "
            "are shown with protocol, source and how sure they are, or not at all. Name the columns so."
        )
    rows = [_row(path, at, record) for at, record in enumerate(raw.to_dict("records"), start=2)]
    table = pd.DataFrame([row.model_dump() for row in rows], columns=list(COLUMNS))
    return table.astype({"pool": "Int32", "value": "float64"})


def _row(path: Path, line: int, record: dict[str, str]) -> Row:
    try:
        return Row.model_validate({name: value or None for name, value in record.items() if value})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors())
        raise PerceptError(
            f"{path}, line {line}, is not a published score ({faults}): it would stand beside ours in the "
            "report under a wrong name. Correct the line."
        ) from error


def long(table: pd.DataFrame) -> pd.DataFrame:
    """The printed scores as rows of the long table: `what` is "published", the data set NSD.

    Source and certainty stand in `note`. Subjects keep their names; no mean is formed that was not printed.
    """
    told = table["source"] + " (" + table["sure"] + ")"
    note = (told + "; " + table["note"].fillna("")).str.removesuffix("; ")
    kept = table[["protocol", "subject", "metric", "direction", "pool", "value"]]
    return conform(kept.assign(dataset="nsd", what=WHAT, name=table["method"], note=note))


def is_published(rows: pd.DataFrame) -> pd.Series:
    """Which rows of a long table were printed by others, (row,) bool."""
    return (rows["what"] == WHAT).fillna(False).astype(bool)


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per method and measure: `mean` as printed, missing where only subjects were; subjects in columns.

    Parameters
    ----------
    rows : rows of the long table that `is_published`
    """
    keys = ["dataset", "protocol", "what", "name", "metric", "direction", "pool", "note"]
    values = rows.groupby([*keys, "subject"], dropna=False, sort=False)["value"].first()
    table = values.unstack("subject").reset_index().rename_axis(columns=None).assign(group=WHAT)
    return table if MEAN in table else table.assign(**{MEAN: float("nan")})
