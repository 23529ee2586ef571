"""Decoders and responses whose parts are known: regions with signal, regions with the same signal, noise."""

import numpy as np
import pandas as pd

from percept.decoders.predictor import Predictor
from percept.interpretation.effects import Scale
from percept.interpretation.leave_one_out import Probe
from percept.interpretation.replacement import ConditionalMean, Zero

N_TRAIN, N_TEST, DIM = 300, 40, 5


def linear(weights, intercept=0.0):
    """A linear decoder with weights (voxel, dim)."""
    weights = np.asarray(weights, np.float32)
    return Predictor(lambda X: (X @ weights + intercept).astype(np.float32), weights)


def blind(decoder):
    """The same decoder, of which nobody knows that it is linear."""
    return Predictor(decoder.predict)


def table(labels, side=3):
    """Voxel table with one atlas of these labels (voxel,), voxels along a line of cubes."""
    at = np.arange(len(labels))
    return pd.DataFrame({"i": at, "j": 0 * at, "k": 2 + 0 * at, "areas": pd.Series(labels, dtype="string")})


def responses(n_voxels, n_rows, rng, rank=4):
    """Correlated responses (row, voxel)."""
    return (rng.normal(size=(n_rows, rank)) @ rng.normal(size=(rank, n_voxels)) / 2
            + rng.normal(size=(n_rows, n_voxels))).astype(np.float32)  # fmt: skip


def probe(decoder, X, train, true=None, replacement=None, pool=10):
    """A probe of responses X (row, voxel); without true embeddings, the predictions are true."""
    true = decoder.predict(X) if true is None else true
    scale = Scale(np.asarray(true, np.float64), decoder.predict(train).mean(axis=0, dtype=np.float64), pool)
    return Probe(decoder, X, replacement or ConditionalMean.of(X, train), scale)


def zero(X, train):
    """The mean training response as replacement."""
    return Zero(len(X), train.mean(axis=0, dtype=np.float64))
