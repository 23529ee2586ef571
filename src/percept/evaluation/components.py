"""Principal components of a matrix that may be too large to copy."""

import numpy as np
from numpy.typing import NDArray

FEW = 1024  # dimensions up to which principal components are computed exactly
FLOOR = 1e-6  # least noise, as a share of the variance: a perfect decoder has none


def principal_components(X: NDArray, mean: NDArray, n: int) -> NDArray:
    """Leading eigenvectors (dim, n) of the covariance of X (row, dim); fewer where it has no more variance.

    Exact up to 1,024 dimensions; beyond, by subspace iteration from a fixed random start (Halko, Martinsson
    and Tropp 2011), which reads X six times and never copies it.
    """
    if X.shape[1] <= FEW:
        centred = X - mean
        variance, vectors = np.linalg.eigh(centred.T @ centred)
        kept = variance > FLOOR**2 * max(variance[-1], np.finfo(float).tiny)
        return vectors[:, kept][:, ::-1][:, :n]
    start = np.random.default_rng(0).standard_normal((X.shape[1], min(n + 16, *X.shape)))
    span = start.astype(np.float32)
    for _ in range(3):
        rows = np.linalg.qr(project(X, mean, span))[0].astype(np.float32)
        span = X.T @ rows - np.outer(mean, rows.sum(axis=0)).astype(np.float32)
    vectors, size, _ = np.linalg.svd(span, full_matrices=False)
    return vectors[:, size > FLOOR * size[0]][:, :n]


def project(X: NDArray, mean: NDArray, basis: NDArray) -> NDArray:
    """(X - mean) @ basis in float64, without a copy of X."""
    return (X @ basis.astype(X.dtype)).astype(np.float64) - mean @ basis
