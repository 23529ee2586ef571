"""Trial table of a lab's own data: our column names, whole numbers, rows left out."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.arrays import readers
from percept.datasets.arrays_config import ArraysDataset, locate
from percept.files import PerceptError

SPLITS = ("train", "validation", "test", "unused")


def read_table(ds: ArraysDataset, subject: str) -> pd.DataFrame:
    """The trial table of a subject, under our column names, `stimulus` as text; no row is left out.

    Raises
    ------
    PerceptError : a column that is needed or named in the config is missing, or a trial has no stimulus
    """
    path = locate(ds.trials.path, subject)
    table = readers.read_table(path, ds.trials.names)
    wanted = {name: name for name in ("run", "stimulus")} | ds.trials.columns
    missing = [column for column in wanted.values() if column not in table]
    if missing:
        raise PerceptError(
            f"{path} (subject {subject}) has no column {missing[0]!r}; its columns are "
            f"{', '.join(map(str, table.columns))}. Say under `dataset.trials.columns` what it is called "
            "there, or under `dataset.trials.names` what the columns of a file without a header line are."
        )
    optional = {name: name for name in ("session", "split", "repeat", "shared") if name in table}
    table = pd.DataFrame({name: table[column] for name, column in (optional | wanted).items()})
    if table.stimulus.isna().any() or (table.stimulus.astype(str) == "").any():
        raise PerceptError(
            f"{path} (subject {subject}): some rows have no stimulus. Give such trials a name, and list it "
            "under `dataset.trials.leave_out` if they are not to be used."
        )
    return table.assign(stimulus=table.stimulus.map(readers.as_text))


def used(ds: ArraysDataset, table: pd.DataFrame) -> NDArray:
    """(row,) bool, which rows of a trial table are not left out."""
    return ~table.stimulus.isin([readers.as_text(label) for label in ds.trials.leave_out]).to_numpy()


def _whole(table: pd.DataFrame, column: str, ds: ArraysDataset, subject: str) -> NDArray:
    """A column as int16."""
    try:
        values = pd.to_numeric(table[column]).to_numpy(dtype=float)
    except (ValueError, TypeError):
        values = np.array([np.nan])
    if not np.all((values == np.round(values)) & (np.abs(values) <= np.iinfo(np.int16).max)):
        raise PerceptError(
            f"{locate(ds.trials.path, subject)} (subject {subject}): column "
            f"{ds.trials.columns.get(column, column)!r}, used as {column}, must hold whole numbers up to "
            f"{np.iinfo(np.int16).max} in every row (the first is {table[column].iloc[0]!r}). If it is "
            "another column, correct `dataset.trials`."
        )
    return values.astype(np.int16)


def numbered(table: pd.DataFrame, ds: ArraysDataset, subject: str) -> pd.DataFrame:
    """session, run, trial of every row, those left out included."""
    session = _whole(table, "session", ds, subject) if "session" in table else np.int16(1)
    trials = pd.DataFrame({"run": _whole(table, "run", ds, subject)}, index=table.index)
    trials.insert(0, "session", session)
    return trials.assign(trial=(trials.groupby(["session", "run"]).cumcount() + 1).astype(np.int16))


def completed(trials: pd.DataFrame, table: pd.DataFrame, ds: ArraysDataset, subject: str) -> pd.DataFrame:
    """Trials (with `stimulus`) with their repeat, shared and, where given, split added."""
    where = f"{locate(ds.trials.path, subject)} (subject {subject})"
    counted = trials.groupby("stimulus").cumcount().astype(np.int16)
    trials = trials.assign(repeat=_whole(table, "repeat", ds, subject) if "repeat" in table else counted)
    twice = trials.duplicated(["stimulus", "repeat"])
    if twice.any():
        row = trials[twice].iloc[0]
        raise PerceptError(
            f"{where}: repeat {row['repeat']} of stimulus {table.stimulus[row.name]!r} occurs more than once "
            f"(again in row {row.name}, 0-based). Number the repeats of each stimulus 0, 1, 2, ... or remove "
            "the column."
        )
    shared = (
        table.shared.astype(str).str.lower() if "shared" in table else pd.Series("false", index=table.index)
    )
    trials["shared"] = shared.isin(["true", "1"])
    if "split" in table:
        trials["split"] = _splits(table.split, where)
    return trials


def _splits(split: pd.Series, where: str) -> pd.Series:
    split = split.fillna("unused").replace("", "unused")
    foreign = split[~split.isin(SPLITS)]
    if len(foreign):
        raise PerceptError(
            f"{where}: {foreign.iloc[0]!r} in row {foreign.index[0]} (0-based) is no split; there are "
            f"{', '.join(SPLITS)}."
        )
    return split.astype(str)
