"""Checks that a result is what its label says: no leak, no misalignment, no swapped direction.

Every check is a pure function that returns a `Finding` (`audit_data`, `audit_results`); `audit` runs those
for which there is evidence and returns one row each. A warning passes, and says what to know before quoting.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation import audit_data, audit_results
from percept.evaluation.audit_data import Finding, Recorded
from percept.evaluation.decoder import Candidates, Predictions
from percept.evaluation.duplicates import Pictures
from percept.evaluation.retrieval import Scorer

COLUMNS = ["check", "subject", "decoder", "passed", "level", "detail"]


@dataclass(frozen=True)
class Evidence:
    """What is known about one decoder of one subject; checks without evidence are left out.

    `trials` is the trial table; `betas` (trial, voxel) are the raw responses behind it, in any selection of
    voxels, and `recorded` the statistics of the same voxels; `rows` are the published rows
    of the predictions: one seed, one unit, and per direction the rule of `scorer`.
    """

    subject: str
    decoder: str | None = None
    trials: pd.DataFrame | None = None
    pictures: Pictures | None = None
    betas: NDArray | None = None
    recorded: Recorded | None = None
    predictions: Predictions | None = None
    candidates: Candidates | None = None
    scorer: Scorer | None = None
    rows: pd.DataFrame | None = None
    permutations: int = 1000


def audit(evidence: Evidence) -> pd.DataFrame:
    """Run every check that the evidence allows.

    Returns
    -------
    One row per check: `check`, `subject`, `decoder`, `passed`, `level` ("pass", "warning", "fail"), `detail`.
    """
    table = pd.DataFrame(_findings(evidence), columns=Finding._fields)
    passed, warning = table["passed"].astype(bool), table["warning"].astype(bool)
    level = np.select([~passed, warning], ["fail", "warning"], "pass")
    about = {"subject": evidence.subject, "decoder": evidence.decoder}
    return table.assign(passed=passed, level=level, **about)[COLUMNS]


def _findings(e: Evidence) -> Iterator[Finding]:
    if e.trials is not None:
        yield audit_data.disjoint_stimuli(e.trials)
    if e.trials is not None and e.pictures is not None:
        yield audit_data.disjoint_pictures(e.pictures, e.trials)
        yield audit_data.distinct_test_pictures(e.pictures, e.trials)
    if e.trials is not None and e.betas is not None:
        yield audit_data.distinct_responses(e.betas, e.trials)
        yield audit_data.trial_order(e.betas, e.trials, e.permutations)
    if e.trials is not None and e.betas is not None and e.recorded is not None:
        yield audit_data.training_statistics(e.betas, e.trials, e.recorded)
    if e.rows is not None:
        yield audit_results.shuffled_at_chance(e.rows, e.permutations)
        yield audit_results.below_limit(e.rows)
    if e.rows is not None and e.predictions is not None and e.candidates is not None and e.scorer is not None:
        yield audit_results.direction_labels(e.rows, e.predictions, e.candidates, e.scorer)
    yield audit_results.directions_differ()
