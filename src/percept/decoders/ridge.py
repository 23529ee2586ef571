"""Ridge regression from voxels to any number of targets, one penalty per target, in bounded memory.

For standardised voxels X (row, voxel) and centred targets Y (row, target) it minimises

    ||Y - X W||^2 + alpha ||W||^2,   with an intercept that is not penalised.

One factorisation X = U diag(s) V' serves every penalty, every fold and every target. With H the matrix that
maps Y to its fitted values, 1 1'/n + U diag(s^2 / (s^2 + alpha)) U', the residuals of held-out rows S under
the model fitted to all the others are (I - H_SS)^-1 ((I - H) Y)_S: exact, by block elimination (the
leave-one-out formula of Golub, Heath and Wahba 1979 for whole folds). So nothing is factorised again per
fold.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from percept.backbones.device import choose
from percept.config import DecoderConfig
from percept.decoders.task import Block, Task
from percept.decoders.weights import Shapes
from percept.files import PerceptError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
HALF_DECADES = tuple(round(10 ** (step / 2), 6) for step in range(2, 13))  # 10 to 1e6
AT_EDGE = 0.1  # share of targets at an end of the grid that deserves a warning
VOXELS_AT_ONCE = 2048  # columns of X held in float64 while its Gram matrix is summed


class RidgeConfig(DecoderConfig):
    """Linear map from voxels to a target; the penalty of each target is chosen by cross-validation."""

    kind: Literal["ridge"] = "ridge"
    alphas: tuple[PositiveFloat, ...] = Field(
        HALF_DECADES, min_length=1, description="Penalties tried, for voxels of unit variance."
    )
    folds: int = Field(
        5, ge=2, description="Cross-validation folds; rows of one image (or run) stay together."
    )
    per_target_alpha: bool = Field(True, description="One penalty per target column, or one for all of them.")
    standardise: bool = Field(True, description="Scale each voxel to unit variance over the training rows.")
    n_targets_batch: PositiveInt = Field(
        2048, description="Target columns solved at a time: 6 x 8 bytes x rows x columns of memory."
    )
    weights: Literal["float32", "float16", "none"] = Field(
        "float32", description="Precision of the saved weights; none saves penalties and scaling alone."
    )
    device: str = Field("auto", description="auto (a GPU where there is one), cpu, cuda, cuda:1, ...")

    @property
    def n_gpus(self) -> int:
        """One if a GPU is named; `auto` takes one that is there but does not ask a cluster for it."""
        return int(self.device.startswith("cuda"))

    def tensors(self, n_voxels: int, shape: tuple[int, ...]) -> Shapes:
        """Saved weights: predicted = ((X - voxel_mean) / voxel_scale) weights' + intercept."""
        n_dims = math.prod(shape)
        saved = {
            "intercept": ((n_dims,), "float32"),
            "alpha": ((n_dims,), "float32"),
            "voxel_mean": ((n_voxels,), "float32"),
            "voxel_scale": ((n_voxels,), "float32"),
        }
        return saved if self.weights == "none" else {"weights": ((n_dims, n_voxels), self.weights), **saved}

    def linear(self, saved: Mapping[str, NDArray]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights (voxel, dim) for responses that are not standardised, and intercept (dim,), as saved.

        Raises
        ------
        PerceptError : the weights were not saved
        """
        if "weights" not in saved:
            raise PerceptError(
                "this ridge decoder saved no weights (`weights: none`), so it cannot be asked about other "
                "responses: set `weights` of the decoder to float32 or float16, and train it again."
            )
        weights = saved["weights"].T.astype(np.float64) / saved["voxel_scale"][:, None]
        intercept = saved["intercept"] - saved["voxel_mean"].astype(np.float64) @ weights
        return weights.astype(np.float32), intercept.astype(np.float32)

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit, and predict, `n_targets_batch` columns at a time; the seed deals groups into folds."""
        design = Design.of(self, task.X, task.groups, seed)
        columns = _batches(task.targets.n_dims, self.n_targets_batch)
        shared = None if self.per_target_alpha else _shared_penalty(design, task, columns)
        chosen = np.zeros(len(design.alphas), dtype=int)
        for batch in columns:
            Y = design.tensor(task.targets.read(task.stimulus, batch))
            search = cross_validate(design, Y, shared)
            chosen += search.counts()
            solution = solve(design, Y, search.best)
            yield self._block(batch, task, design, search, solution)
        if shared is None:
            _warn_at_edge(design.alphas, chosen)

    def _block(
        self, batch: slice, task: Task, design: "Design", search: "Search", solution: "Solution"
    ) -> Block:
        predicted = {name: solution.predict(X) for name, X in task.evaluate.items()}
        tensors = {
            "intercept": solution.intercept.cpu().numpy(),
            "alpha": design.alphas[search.best.cpu().numpy()],
            "voxel_mean": design.mean.cpu().numpy(),
            "voxel_scale": design.scale.cpu().numpy(),
        }
        if self.weights != "none":
            tensors["weights"] = solution.weights.T.cpu().numpy()
        place = {"first_dim": batch.start, "n_dims": batch.stop - batch.start}
        history = [row | place for row in search.history()]
        return Block(batch, search.out_of_fold.float().cpu().numpy(), predicted, tensors, history)


@dataclass(frozen=True)
class Design:
    """Training responses, factorised once.

    X : (row, voxel) float32, standardised; mean, scale : (voxel,)
    U : (row, rank) float64, orthonormal; squared : (rank,), squared singular values
    alphas : (alpha,), descending, so that ties choose the larger penalty
    folds : rows of each fold; factors : [alpha][fold], Cholesky factor of I - H over the fold's rows.
        They need 8 x alphas x rows^2 / folds bytes: 1.4 GB for 9,000 rows, 11 penalties, 5 folds
    """

    X: "Tensor"
    mean: "Tensor"
    scale: "Tensor"
    U: "Tensor"
    squared: "Tensor"
    alphas: NDArray[np.float64]
    folds: list["Tensor"]
    factors: list[list["Tensor"]]

    @classmethod
    def of(cls, cfg: RidgeConfig, X: NDArray[np.float32], groups: NDArray, seed: int = 0) -> "Design":
        """Standardise and factorise responses X (row, voxel), and deal their groups (row,) into folds."""
        import torch

        device = choose(cfg.device)
        rows = torch.as_tensor(np.ascontiguousarray(X, dtype=np.float32), device=device)
        spread, mean = torch.var_mean(rows, dim=0, correction=0)
        scale = spread.sqrt() if cfg.standardise else torch.ones_like(spread)
        scale = torch.where(scale > 1e-6 * mean.abs(), scale, 1)  # a constant voxel stays at zero
        standardised = (rows - mean) / scale
        standardised -= standardised.mean(dim=0)  # what rounding left of a mean far larger than the spread
        U, squared = factorise(standardised)
        alphas = np.sort(np.asarray(cfg.alphas))[::-1].copy()
        folds = [torch.as_tensor(rows, device=device) for rows in deal(groups, cfg.folds, seed)]
        factors = [[_held_out(U[rows], squared, alpha, len(U)) for rows in folds] for alpha in alphas]
        return cls(standardised, mean, scale, U, squared, alphas, folds, factors)

    def tensor(self, values: NDArray) -> "Tensor":
        """An array as float64 on the device of the design."""
        import torch

        return torch.as_tensor(values, device=self.U.device).double()

    def shrinkage(self, alpha: "float | Tensor") -> "Tensor":
        """1 / (s^2 + alpha): (rank,), or (rank, target) for one penalty per target."""
        return 1 / (self.squared + alpha) if isinstance(alpha, float) else 1 / (self.squared[:, None] + alpha)


@dataclass(frozen=True)
class Search:
    """What cross-validation found for some targets.

    loss : (alpha, target), summed squared held-out residuals; total : (target,), the same about the mean
    best : (target,), index of the penalty chosen; out_of_fold : (row, target), held-out predictions with it
    """

    alphas: NDArray[np.float64]
    loss: "Tensor"
    total: "Tensor"
    best: "Tensor"
    out_of_fold: "Tensor"

    def history(self) -> list[dict[str, float]]:
        """Per penalty tried: mean held-out R2 over the targets that vary, and how many targets chose it."""
        varies = self.total > 0
        r2 = (1 - self.loss[:, varies] / self.total[varies]).mean(dim=1).tolist()
        tried = self.loss[:, 0].isfinite().tolist()
        rows = zip(self.alphas.tolist(), r2, self.counts().tolist(), tried, strict=True)
        return [{"alpha": alpha, "r2": score, "n_best": count} for alpha, score, count, kept in rows if kept]

    def counts(self) -> NDArray[np.int64]:
        """Number of targets, constant ones left out, that chose each penalty."""
        best = self.best[self.total > 0].cpu().numpy()
        return np.bincount(best, minlength=len(self.alphas))


@dataclass(frozen=True)
class Solution:
    """A fitted map: weights (voxel, target) for standardised voxels, intercept (target,)."""

    design: Design
    weights: "Tensor"
    intercept: "Tensor"

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted targets (row, target) of raw responses (row, voxel)."""
        import torch

        rows = torch.as_tensor(np.ascontiguousarray(X, dtype=np.float32), device=self.weights.device)
        standardised = (rows - self.design.mean) / self.design.scale
        return (standardised @ self.weights + self.intercept).cpu().numpy()


@dataclass(frozen=True)
class Fitted:
    """A ridge regression on whole arrays.

    weights : (voxel, target), for standardised voxels; intercept, alpha : (target,)
    out_of_fold : (row, target), predictions of the training rows by models that did not see their group
    history : mean held-out R2 per penalty
    """

    solution: Solution
    alpha: NDArray[np.float64]
    out_of_fold: NDArray[np.float32]
    history: pd.DataFrame

    def predict(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predicted targets (row, target) of responses (row, voxel)."""
        return self.solution.predict(X)

    @property
    def weights(self) -> NDArray[np.float32]:
        """(voxel, target), for standardised voxels."""
        return self.solution.weights.cpu().numpy()

    @property
    def intercept(self) -> NDArray[np.float32]:
        """(target,): the prediction for mean responses."""
        return self.solution.intercept.cpu().numpy()


def fit(cfg: RidgeConfig, X: NDArray, Y: NDArray, groups: NDArray | None = None, seed: int = 0) -> Fitted:
    """Fit responses X (row, voxel) to targets Y (row, target) that fit in memory.

    Parameters
    ----------
    groups : (row,), rows of one group stay in one fold; each row by itself where absent

    Raises
    ------
    PerceptError : fewer than two groups
    """
    groups = np.arange(len(X)) if groups is None else groups
    design = Design.of(cfg, X, groups, seed)
    targets = design.tensor(Y)
    shared = None if cfg.per_target_alpha else _best_for_all(cross_validate(design, targets))
    search = cross_validate(design, targets, shared)
    alpha = design.alphas[search.best.cpu().numpy()]
    out_of_fold = search.out_of_fold.float().cpu().numpy()
    history = pd.DataFrame(search.history())
    return Fitted(solve(design, targets, search.best), alpha, out_of_fold, history)


def factorise(X: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Left singular vectors (row, rank) and squared singular values (rank,) of X (row, voxel), in float64.

    From the smaller of the two Gram matrices: rows for NSD's 9,000 images of 15,724 voxels (the dual form),
    voxels for more trials than voxels (the primal one).
    """
    import torch

    dual = X.shape[0] <= X.shape[1]
    gram = torch.zeros((min(X.shape),) * 2, dtype=torch.float64, device=X.device)
    for part in X.split(VOXELS_AT_ONCE, dim=1 if dual else 0):
        part = part.double()
        gram += part @ part.T if dual else part.T @ part
    squared, vectors = torch.linalg.eigh(gram)
    del gram
    kept = squared > max(X.shape) * torch.finfo(torch.float64).eps * squared[-1].clamp(min=1e-300)
    squared, vectors = squared[kept], vectors[:, kept]
    return (vectors if dual else X.double() @ (vectors / squared.sqrt())), squared


def deal(groups: NDArray, n_folds: int, seed: int) -> list[NDArray[np.intp]]:
    """Rows of each fold: groups are shuffled and dealt in turn, so that no group is divided.

    Raises
    ------
    PerceptError : fewer than two groups, which leaves nothing to validate on
    """
    names, code = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise PerceptError(
            "cross-validation needs rows of at least two images (or runs), the training rows have "
            f"{len(names)}: use more sessions, or another split.protocol."
        )
    dealt = np.random.default_rng(seed).permutation(len(names)) % min(n_folds, len(names))
    return [np.flatnonzero(dealt[code] == fold) for fold in range(dealt.max() + 1)]


def cross_validate(design: Design, Y: "Tensor", only: int | None = None) -> Search:
    """Choose the penalty of each target by the squared error of held-out rows.

    Parameters
    ----------
    Y : (row, target) float64
    only : index of the one penalty to use; all are tried where absent
    """
    import torch

    centred = Y - Y.mean(dim=0)
    projected = design.U.T @ centred  # (rank, target)
    loss = torch.full((len(design.alphas), Y.shape[1]), torch.inf, dtype=Y.dtype, device=Y.device)
    lowest, best = loss[0].clone(), torch.zeros(Y.shape[1], dtype=torch.long, device=Y.device)
    out_of_fold, work = torch.empty_like(Y), torch.empty_like(Y)
    for index in range(len(design.alphas)) if only is None else [only]:
        fitted = design.squared * design.shrinkage(design.alphas[index])
        residual = torch.sub(centred, torch.mm(design.U, fitted[:, None] * projected, out=work), out=work)
        for rows, factor in zip(design.folds, design.factors[index], strict=True):
            residual[rows] = torch.cholesky_solve(residual[rows], factor)
        loss[index] = residual.square().sum(dim=0)
        better = loss[index] < lowest
        lowest[better], best[better] = loss[index, better], index
        out_of_fold[:, better] = Y[:, better] - residual[:, better]
    return Search(design.alphas, loss, centred.square().sum(dim=0), best, out_of_fold)


def solve(design: Design, Y: "Tensor", best: "Tensor") -> Solution:
    """The map fitted to all rows, with the penalty `best` (index of each target) for targets Y (row,
    target).
    """
    alpha = design.tensor(design.alphas)[best]
    mean = Y.mean(dim=0)
    dual = design.U @ ((design.U.T @ (Y - mean)) * design.shrinkage(alpha))  # (row, target)
    return Solution(design, design.X.T @ dual.float(), mean.float())


def _held_out(U: "Tensor", squared: "Tensor", alpha: float, n_rows: int) -> "Tensor":
    """Cholesky factor of I - H over the rows of a fold, whose left singular vectors are U (row, rank)."""
    import torch

    remainder = -(U * (squared / (squared + alpha))) @ U.T - 1 / n_rows
    remainder.diagonal().add_(1)
    return torch.linalg.cholesky(remainder)


def _batches(n_dims: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n_dims)) for start in range(0, n_dims, size)]


def _shared_penalty(design: Design, task: Task, columns: Sequence[slice]) -> int:
    """Index of the one penalty with the best mean R2 over all targets, which are read once more for it."""
    scores: list[Any] = []
    for batch in columns:
        search = cross_validate(design, design.tensor(task.targets.read(task.stimulus, batch)))
        scores.append((search.loss / search.total)[:, search.total > 0].sum(dim=1).cpu().numpy())
    return int(np.argmin(np.sum(scores, axis=0)))


def _best_for_all(search: Search) -> int:
    return int((search.loss / search.total)[:, search.total > 0].sum(dim=1).argmin())


def _warn_at_edge(alphas: NDArray[np.float64], chosen: NDArray[np.int64]) -> None:
    """Say when the grid of penalties, descending, ends before the best one."""
    if len(alphas) == 1:
        return
    ends = {"largest": (0, "upwards, unless there is nothing to predict"), "smallest": (-1, "downwards")}
    for end, (index, advice) in ends.items():
        share = chosen[index] / max(chosen.sum(), 1)
        if share > AT_EDGE:
            log.warning(
                "%.0f %% of the targets chose the %s penalty tried, %g: extend `alphas` of this decoder %s",
                100 * share,
                end,
                alphas[index],
                advice,
            )
