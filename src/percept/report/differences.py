"""Reconstructions minus their controls on the same images, with intervals."""

import numpy as np
import pandas as pd

from percept.config import EvaluationConfig
from percept.statistics import hierarchical_bootstrap

KEY = ["dataset", "protocol", "name", "unit", "metric"]
COLUMNS = [*KEY, "control", "difference", "ci_low", "ci_high", "n"]


def to_controls(items: pd.DataFrame, settings: EvaluationConfig) -> pd.DataFrame:
    """Mean over subjects of (reconstruction - control), image by image.

    An image that is hard is hard for both: the difference is far more certain than two intervals suggest.
    The bootstrap is hierarchical and, where all subjects saw the same images, crossed; `n` counts the
    subjects. Those of single subjects, with p values, are in `evaluation.compare`.

    Parameters
    ----------
    items : values of single images, of methods and of controls; only reconstructions are compared
    """
    own = items[(items["what"] == "reconstruction").fillna(False) & items["value"].notna()]
    own = own.assign(control=own["control"].fillna(""), unit=own["unit"].fillna(""))
    records: list[dict[str, object]] = []
    for key, group in own.groupby(KEY, dropna=False, sort=False):
        about = dict(zip(KEY, key, strict=True))
        values = group.pivot_table("value", ["subject", "stimulus"], "control", aggfunc="mean")
        for control in values.columns.drop("", errors="ignore") if "" in values else ():
            gains = (values[""] - values[control]).dropna()
            if len(gains):
                records.append({**about, "control": control, **_interval(gains, settings)})
    return pd.DataFrame(records, columns=COLUMNS)


def _interval(gains: pd.Series, settings: EvaluationConfig) -> dict[str, float]:
    by_subject = gains.unstack("subject")  # (stimulus, subject)
    values = [column.dropna().to_numpy(np.float64) for _, column in by_subject.items()]
    crossed = bool(by_subject.notna().all(axis=None))
    found = hierarchical_bootstrap(values, settings.bootstrap, settings.confidence, settings.seed, crossed)
    return {"difference": found.value, "ci_low": found.low, "ci_high": found.high, "n": found.n}
