"""What the audit looks at, gathered from the files of one run."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from percept.evaluation.audit import Evidence
from percept.evaluation.run import Run


def of_run(run: Run, about: Evidence, decoder: str, rows: pd.DataFrame) -> Iterator[Evidence]:
    """What the audit looks at of a run, unit by unit.

    Parameters
    ----------
    about : the subject, its trials, and betas and recorded statistics of the voxels that the run used
    decoder : its name, with its seed where there are several
    rows : its published rows
    """
    own = rows[rows["chosen"].fillna(True) & (rows["control"] != "validation").fillna(True)]
    for unit, predictions in run.test.items():
        yield replace(
            about,
            decoder=f"{decoder}, {unit}",
            recorded=about.recorded if unit == next(iter(run.test)) else None,
            predictions=predictions,
            candidates=run.candidates[unit],
            scorer=run.choice,
            rows=own[(own["unit"] == unit).fillna(False)],
        )
