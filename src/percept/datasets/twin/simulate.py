"""Single-trial responses of a twin's brain, and the summaries that are released with them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from percept.datasets.nsd_keys import TRIALS_PER_SESSION
from percept.datasets.twin.design import N_REPEATS
from percept.datasets.twin.model import DRIFT
from percept.datasets.twin.truth import Truth

SCALE = 300  # int16 units per percent signal change
LIMIT = 32767  # where int16 betas saturate
OFFSET_SD = 0.3  # PSC, of a session's shift
N_INVALID, N_SATURATED = 4, 3
BLOCK = 512  # voxels whose summaries are computed at a time


@dataclass(frozen=True)
class Bad:
    """What is wrong with some voxels.

    ``invalid`` (voxel,) indices that are all zero in ``session`` (0-based); ``saturated`` (3, n): trial,
    voxel, value.
    """

    session: int
    invalid: NDArray[np.int64]
    saturated: NDArray[np.int64]


def choose_bad(truth: Truth, n_sessions: int, rng: np.random.Generator) -> Bad:
    """Invalid voxels in and out of visual cortex; saturated values only outside, where no limit depends on
    them.
    """
    inside, outside = np.flatnonzero(truth.visual), np.flatnonzero(~truth.visual)
    invalid = np.concatenate([rng.choice(part, N_INVALID // 2, replace=False) for part in (inside, outside)])
    voxels = rng.choice(np.setdiff1d(outside, invalid), N_SATURATED, replace=False)
    trials = rng.integers(0, n_sessions * TRIALS_PER_SESSION, N_SATURATED)
    values = np.resize((LIMIT, -LIMIT), N_SATURATED)
    return Bad(min(1, n_sessions - 1), np.sort(invalid), np.stack([trials, voxels, values]))


def session(truth: Truth, number: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Betas of one session (counted from 0), (750, voxel) int16, percent signal change x 300."""
    start = number * TRIALS_PER_SESSION
    x = truth.rows(truth.trials[start : start + TRIALS_PER_SESSION])
    n_trials, n_modes = x.shape
    noisy = x + rng.standard_normal((n_trials, n_modes)) @ np.linalg.cholesky(truth.limiting).T
    factors = rng.standard_normal((n_trials, truth.shared.shape[1])).astype(np.float32)
    here = truth.visual
    psc = rng.standard_normal((n_trials, len(truth.mean)), dtype=np.float32) * truth.private_sd
    psc[:, here] += noisy.astype(np.float32) @ truth.weights[here].T + factors @ truth.shared[here].T
    psc += truth.mean + truth.offset[number]
    slope = (
        DRIFT * np.sqrt(truth.noise_variance() / (1 + DRIFT**2 / 3)) * rng.standard_normal(len(truth.mean))
    )
    psc += np.linspace(-1, 1, n_trials, dtype=np.float32)[:, None] * slope.astype(np.float32)
    return np.clip(np.rint(psc * SCALE), -LIMIT, LIMIT).astype(np.int16)


def spoil(betas: NDArray[np.int16], bad: Bad) -> None:
    """Put the invalid and the saturated values into the betas, (trial, voxel), in place."""
    trials, voxels, values = bad.saturated
    betas[trials, voxels] = values
    start = bad.session * TRIALS_PER_SESSION
    betas[start : start + TRIALS_PER_SESSION, bad.invalid] = 0


def ncsnr(betas: NDArray[np.int16], trials: NDArray[np.int32]) -> NDArray[np.float32]:
    """NSD's noise-ceiling SNR of each voxel, (voxel,), from the written betas (Allen et al. 2022, Methods).

    Betas are z-scored within each session; the noise variance v is the unbiased variance over the three
    repeats of an image, averaged over the images that have three valid ones; ncsnr = sqrt(max(0, 1 - v) / v).
    NaN where no image has them.
    """
    order = np.argsort(trials, kind="stable")
    _, first, count = np.unique(trials[order], return_index=True, return_counts=True)
    rows = order[first[count == N_REPEATS, None] + np.arange(N_REPEATS)]  # (image, repeat)
    values = np.full(betas.shape[1], np.nan, dtype=np.float32)
    if len(rows) == 0:
        return values
    for start in range(0, betas.shape[1], BLOCK):
        z = zscore(betas[:, start : start + BLOCK])
        spread = z[rows].var(axis=1, ddof=1)  # (image, voxel)
        measured = np.isfinite(spread)
        noise = np.where(measured, spread, 0).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
        snr = np.sqrt(np.maximum(0, 1 - noise) / np.where(noise > 0, noise, np.nan))
        values[start : start + BLOCK] = snr
    return values


def zscore(betas: NDArray[np.int16]) -> NDArray[np.float32]:
    """Z-scores within sessions of 750 rows, (trial, voxel); NaN where a voxel is constant in a session."""
    by_session = betas.reshape(-1, TRIALS_PER_SESSION, betas.shape[1]).astype(np.float32)
    sd = by_session.std(axis=1, keepdims=True)
    z = (by_session - by_session.mean(axis=1, keepdims=True)) / np.where(sd > 0, sd, np.nan)
    return z.reshape(betas.shape)
