"""Rows of the long table for voxels: how much of their response repeats, per ROI set."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation import table
from percept.evaluation.table import Label
from percept.voxels import reliability, roi

log = logging.getLogger(__name__)
REPEATS = 3  # of an image in NSD


def score_voxels(
    z: NDArray, trials: pd.DataFrame, voxels: pd.DataFrame, label: Label, custom: roi.Custom = roi.NONE
) -> pd.DataFrame:
    """Median ncsnr and noise ceiling of every ROI set that has voxels.

    Parameters
    ----------
    z : (trial, voxel), z-scored within each session over all of its trials, as NSD defines ncsnr
    trials, voxels : their tables
    label : whose voxels they are; the ROI set and the unit are filled in here

    Returns
    -------
    Rows with `metric` "ncsnr", and "noise_ceiling" (R2 in [0, 1]) for single trials and for means of three;
    `n` is the number of voxels. Without repeated images there are none.
    """
    if not trials["stimulus"].duplicated().any():
        log.info("%s: no image was shown twice, so there is no noise ceiling to measure", label.subject)
        return table.concat([])
    snr = reliability.ncsnr(z, trials["stimulus"], REPEATS, too_few="pooled")
    if not np.isfinite(snr).any():
        return table.concat([])
    sets = [name for name, n_voxels in roi.count(voxels, custom).items() if n_voxels]
    parts = [(name, snr[roi.select(voxels, name, custom)]) for name in sets]
    return table.concat(
        [
            table.rows(replace(label, roi=name, unit=unit), records)
            for name, part in parts
            for unit, records in _rows(part)
        ]
    )


def _rows(snr: NDArray) -> Iterator[tuple[str | None, list[dict[str, object]]]]:
    n_voxels = int(np.isfinite(snr).sum())
    if n_voxels:
        yield None, [{"metric": "ncsnr", "value": float(np.nanmedian(snr)), "n": n_voxels}]
        for unit, n_repeats in (("single", 1), ("average", REPEATS)):
            ceiling = reliability.noise_ceiling(snr, n_repeats)
            yield unit, [{"metric": "noise_ceiling", "value": float(np.nanmedian(ceiling)), "n": n_voxels}]
