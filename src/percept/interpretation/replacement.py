r"""What stands in for the voxels that are left out.

A decoder knows no missing voxel: something has to stand there, and what it is decides what the answer means.

`conditional_mean`  E[x_R | x_notR], by ridge regression on training images. It removes only what the group R
                    alone knows; what the other voxels say of R stays. For a linear decoder this is the unique
                    contribution, without training again.
`zero`              the mean training response. It removes all that the group says, also what others say too,
                    and shows the decoder a response that no brain gives.
`permuted`          the group's own responses to other test images: as `zero`, with the right spread.

The ridge regression of every group on its complement comes from one factorisation. With S = Z'Z + alpha I of
standardised training responses Z and P = S^-1,

    z_R - E[z_R | z_notR] = P_RR^-1 (P z)_R,

because the penalty does not enter the off-diagonal block of S. With Z = U diag(s) V', alpha P is
I - V D V', D = diag(s^2 / (s^2 + alpha)): a group of k voxels costs a system of k equations.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from percept.decoders.ridge import deal, factorise

ALPHAS = tuple(10 ** (step / 2) for step in range(-2, 13))  # per row of unit variance: 0.1 to 1e6
FOLDS = 5  # of which one is held out to choose the penalty: one number is learned from thousands of values


class Replacement(Protocol):
    """What gives other responses for some voxels."""

    repetitions: int  # how many answers it has for a group

    def values(self, voxels: NDArray[np.intp], repetition: int) -> NDArray[np.float64]:
        """Responses (row, k) of these voxels, for the rows that are perturbed."""


@dataclass(frozen=True)
class Zero:
    """The mean training response of each voxel.

    n_rows : responses that are perturbed; mean : (voxel,)
    """

    n_rows: int
    mean: NDArray[np.float64]
    repetitions: int = 1

    def values(self, voxels: NDArray[np.intp], repetition: int) -> NDArray[np.float64]:
        """The same mean in every row, (row, k)."""
        return np.broadcast_to(self.mean[voxels], (self.n_rows, len(voxels)))


@dataclass(frozen=True)
class Permuted:
    """Responses of the same voxels to other images.

    X : (row, voxel), the responses that are perturbed; orders : (repetition, row), where each row's come from
    """

    X: NDArray[np.float32]
    orders: NDArray[np.intp]

    @classmethod
    def of(cls, X: NDArray[np.float32], n_permutations: int, seed: int) -> "Permuted":
        """Cyclic shifts of random orders, so that no row keeps its own response (of two rows or more)."""
        rng = np.random.default_rng(seed)
        orders = np.empty((n_permutations, len(X)), dtype=np.intp)
        for order in orders:
            mixed = rng.permutation(len(X))
            order[mixed] = np.roll(mixed, 1)
        return cls(X, orders)

    @property
    def repetitions(self) -> int:
        """Permutations that effects are averaged over."""
        return len(self.orders)

    def values(self, voxels: NDArray[np.intp], repetition: int) -> NDArray[np.float64]:
        """Responses (row, k) in another order; orders take turns."""
        return self.X[self.orders[repetition % len(self.orders)]][:, voxels].astype(np.float64)


@dataclass(frozen=True)
class ConditionalMean:
    """Ridge regression of any group of voxels on all others.

    Attributes
    ----------
    Z : (row, voxel) float64, the responses that are perturbed, standardised by `mean` and `scale` (voxel,)
    precision : (voxel, voxel) float64, alpha P; 2 GB for 15,724 voxels
    alpha : the penalty that was chosen
    """

    Z: NDArray[np.float64]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    precision: NDArray[np.float64]
    alpha: float
    repetitions: int = 1

    @classmethod
    def of(cls, X: NDArray[np.float32], train: NDArray[np.float32], seed: int = 0) -> "ConditionalMean":
        """Fit to training responses (image, voxel), for responses X (row, voxel) that are perturbed.

        The penalty is the one with which every voxel is predicted best from all others on a fifth of the
        training images that took no part; then all are used.
        """
        mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1.0)
        Z = (train - mean) / scale
        held_out = deal(np.arange(len(Z)), FOLDS, seed)[0]
        alpha = _best_alpha(np.delete(Z, held_out, axis=0), Z[held_out])
        V, squared = _right(Z)
        precision = -(V * (squared / (squared + alpha))) @ V.T
        precision[np.diag_indices_from(precision)] += 1
        return cls((X - mean) / scale, mean, scale, precision, alpha)

    @cached_property
    def _projected(self) -> NDArray[np.float64]:
        return self.Z @ self.precision  # alpha P z, (row, voxel)

    def residuals(self, voxels: NDArray[np.intp]) -> NDArray[np.float64]:
        """What the group alone knows, z_R - E[z_R | z_notR], (row, k), in standard deviations."""
        own = self.precision[np.ix_(voxels, voxels)]
        return np.linalg.solve(own, self._projected[:, voxels].T).T

    def values(self, voxels: NDArray[np.intp], repetition: int) -> NDArray[np.float64]:
        """E[x_R | x_notR], (row, k)."""
        expected = self.Z[:, voxels] - self.residuals(voxels)
        return expected * self.scale[voxels] + self.mean[voxels]


def _best_alpha(Z: NDArray[np.float64], held_out: NDArray[np.float64]) -> float:
    """Penalty with which voxels of held-out rows are predicted best, each from all others, by fits to Z."""
    V, squared = _right(Z)
    projected, loadings = held_out @ V, np.square(V)
    errors = []
    for alpha in ALPHAS:
        kept = squared / (squared + alpha)
        residuals = (held_out - (projected * kept) @ V.T) / (1 - loadings @ kept)  # groups of one voxel each
        errors.append(np.square(residuals).mean())
    return ALPHAS[int(np.argmin(errors))]


def _right(Z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right singular vectors (voxel, rank) and squared singular values (rank,)."""
    import torch

    U, squared = (one.numpy() for one in factorise(torch.from_numpy(Z)))
    return Z.T @ (U / np.sqrt(squared)), squared
