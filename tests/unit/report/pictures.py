"""Scores of single images with an answer that is known, so that reports are tested without any network."""

import numpy as np
import pandas as pd

from percept.evaluation import table

N = 11
STIMULUS = np.array([70, 12, 55, 31, 8, 90, 44, 23, 66, 19, 37])  # not ascending: order is never assumed
CONTROLS = {None: 0.0, "recovery": 0.2, "mean_image": -0.3, "nearest_train": -0.1, "shuffled": -0.4}


def items(subject="subj01", name="unclip", metrics=("pixcorr", "tiny_clip"), seed=0, stimulus=STIMULUS):
    """Values of images; a control differs from its method by `CONTROLS`, the same for every image."""
    rng = np.random.default_rng([seed, len(name), int(subject[-1])])
    parts = []
    for metric in metrics:
        own = rng.uniform(0.4, 0.6, len(stimulus))
        for control, shift in CONTROLS.items():
            parts.append(
                pd.DataFrame(
                    {
                        "dataset": "twin", "protocol": "shared1000", "subject": subject,
                        "what": "reconstruction", "name": name, "unit": "average", "metric": metric,
                        "control": control, "stimulus": stimulus, "run": -1, "value": own + shift,
                    }
                )
            )  # fmt: skip
    return table.conform(pd.concat(parts), table.ITEM_SCHEMA)


def scores(subject="subj01", name="unclip", metrics=("pixcorr", "ssim", "tiny_clip", "effnet"), lacking=()):
    """Long rows of a reconstruction and its controls; those `lacking` have no value and say why."""
    common = dict(
        dataset="twin", protocol="shared1000", subject=subject, what="reconstruction", name=name,
        target="clip", roi="nsdgeneral", unit="average", n=N,
    )  # fmt: skip
    rows = [
        common | dict(metric=metric, control=control, value=0.5 + shift, ci_low=0.4 + shift,
                      ci_high=0.6 + shift, chance=0.5 if metric == "tiny_clip" else None)
        for metric in metrics
        for control, shift in CONTROLS.items()
    ]  # fmt: skip
    rows += [common | dict(metric=name, note=f"not available: no {name} here") for name in lacking]
    return table.conform(pd.DataFrame(rows))
