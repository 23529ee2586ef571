"""Checks that a result is what its label says: no leak, no misalignment, no swapped direction.

Every check is a pure function that returns a `Finding` (`audit_data`, `audit_results`); `audit` runs those
for which there is evidence and returns one row each. A warning passes, and says what to know before quoting.
"""

from collections.abc import Iterable, Iterator, Sequence
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
    findings = [*_of_data(evidence), *_of_run(evidence), audit_results.directions_differ()]
    return _table(findings, evidence)


def audit_subject(about: Evidence, runs: Iterable[Evidence]) -> pd.DataFrame:
    """Audit the data of one subject once, and then each of its decoders.

    Parameters
    ----------
    about : trials, betas and pictures; its `decoder` is None
    runs : of each decoder and unit, recorded statistics with the betas of its voxels, and results; what they
        say about the data is not looked at again
    """
    return pd.concat([audit(about), *(_table([*_of_run(one)], one) for one in runs)], ignore_index=True)


def _table(findings: Sequence[Finding], e: Evidence) -> pd.DataFrame:
    table = pd.DataFrame(findings, columns=Finding._fields)
    passed, warning = table["passed"].astype(bool), table["warning"].astype(bool)
    level = np.select([~passed, warning], ["fail", "warning"], "pass")
    about = {"subject": e.subject, "decoder": e.decoder}
    return table.assign(passed=passed, level=level, **about)[COLUMNS]


def _of_data(e: Evidence) -> Iterator[Finding]:
    if e.trials is not None:
        yield audit_data.disjoint_stimuli(e.trials)
    if e.trials is not None and e.pictures is not None:
        yield audit_data.disjoint_pictures(e.pictures, e.trials)
        yield audit_data.distinct_test_pictures(e.pictures, e.trials)
    if e.trials is not None and e.betas is not None:
        yield audit_data.distinct_responses(e.betas, e.trials)
        yield audit_data.trial_order(e.betas, e.trials, e.permutations)


def _of_run(e: Evidence) -> Iterator[Finding]:
    if e.trials is not None and e.betas is not None and e.recorded is not None:
        yield audit_data.training_statistics(e.betas, e.trials, e.recorded)
    if e.rows is not None:
        yield audit_results.shuffled_at_chance(e.rows, e.permutations)
        yield audit_results.below_limit(e.rows)
    if e.rows is not None and e.predictions is not None and e.candidates is not None and e.scorer is not None:
        yield audit_results.direction_labels(e.rows, e.predictions, e.candidates, e.scorer)
