"""Are trials and responses in step? Repeats of one image have to be more alike than different images."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation.correlation import standardised_rows, zscore
from percept.statistics import pairing_null, permutation_p, shuffled_items

FEWEST = 5  # repeated blocks without which a session is not tested: 120 orders are too few for p < 0.01


def session_reliability(
    betas: NDArray, trials: pd.DataFrame, permutations: int, seed: int = 0
) -> pd.DataFrame:
    """How much more alike repeats are than different images, per session.

    Responses are z-scored within their session and averaged within runs, where noise is shared in time.
    Each is correlated over voxels with the mean of the other responses to its image, from any session; the
    null exchanges the responses of the session.

    Parameters
    ----------
    betas : (trial, voxel)
    trials : a row per trial with `session`, `run`, `stimulus`

    Returns
    -------
    `session`, `n` repeated responses, `reliability` (mean correlation above the null's mean), `p_value`;
    the last two missing where fewer than five responses are repeated.
    """
    blocks, responses = _blocks(betas, trials)
    _, stimulus, counts = np.unique(blocks["stimulus"], return_inverse=True, return_counts=True)
    totals = np.zeros((len(counts), responses.shape[1]))
    np.add.at(totals, stimulus, responses)
    repeated = counts[stimulus] > 1
    rng = np.random.default_rng(seed)
    records = []
    for session, rows in blocks.groupby("session").indices.items():
        rows = rows[repeated[rows]]
        record = {"session": session, "n": len(rows), "reliability": np.nan, "p_value": np.nan}
        if len(rows) >= FEWEST:
            others = totals[stimulus[rows]] - responses[rows]  # a sum correlates as its mean does
            record |= _compare(responses[rows], others, permutations, rng)
        records.append(record)
    return pd.DataFrame(records, columns=["session", "n", "reliability", "p_value"])


def _blocks(betas: NDArray, trials: pd.DataFrame) -> tuple[pd.DataFrame, NDArray]:
    """Mean response to each stimulus in each run, of responses z-scored in their session."""
    scaled = np.empty(betas.shape)
    for rows in trials.reset_index(drop=True).groupby("session").indices.values():
        scaled[rows] = zscore(betas[rows])
    keys = trials[["session", "run", "stimulus"]].to_numpy()
    unique, block, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    responses = np.zeros((len(unique), betas.shape[1]))
    np.add.at(responses, block.ravel(), scaled)
    return pd.DataFrame(unique, columns=["session", "run", "stimulus"]), responses / counts[:, None]


def _compare(
    responses: NDArray, others: NDArray, permutations: int, rng: np.random.Generator
) -> dict[str, float]:
    parts = slice(None)
    alike = standardised_rows(responses).block(parts) @ standardised_rows(others).block(parts).T
    own = float(np.diag(alike).mean())
    shuffles = shuffled_items(len(alike), permutations, rng)
    null = pairing_null(alike, np.arange(len(alike)), shuffles)
    return {"reliability": own - float(null.mean()), "p_value": permutation_p(own - 1e-12, null)}
