"""Predictions from saved weights: a decoder of any kind, made again from its file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.backbones.device import choose
from percept.decoders import weights
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError
from percept.shortage import damage

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]
ALIKE = (
    1e-3  # share of the variance by which predictions may differ: weights of half precision, other devices
)


@runtime_checkable
class Linear(Protocol):
    """A decoder that is a linear map of the voxels."""

    def linear(self, saved: Mapping[str, NDArray]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights (voxel, dim), of responses as they are, and intercept (dim,), from saved tensors."""


@runtime_checkable
class Network(Protocol):
    """A decoder that the engine trained."""

    training: TrainingConfig

    def build(self, n_voxels: int, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 (a torch module)
        """The network before training."""

    def predict(self, learner: Any, X: NDArray[np.float32]) -> NDArray[np.float32]:  # noqa: ANN401
        """Predictions (row, dim) of responses (row, voxel)."""


@runtime_checkable
class Rebuilt(Protocol):
    """A decoder of several parts, which knows itself how they are put together."""

    def rebuilt(self, saved: Mapping[str, NDArray], n_voxels: int) -> Predict:
        """What predicts from responses of `n_voxels`, from saved tensors."""


@dataclass(frozen=True)
class Predictor:
    """A trained decoder.

    Attributes
    ----------
    predict : responses (row, voxel), normalised as in training -> flat predictions (row, dim)
    weights : (voxel, dim) of a decoder that is linear in the voxels; None of others
    """

    predict: Predict
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Sizes:
    """What a decoder is made for.

    n_voxels : of a response; shape : of a target; voxels : rows of the voxel table, for networks that need to
    know where voxels are (`located`)
    """

    n_voxels: int
    shape: tuple[int, ...]
    voxels: pd.DataFrame | None = None


def load(cfg: Any, path: str | Path, sizes: Sizes, fold: int = -1) -> Predictor:  # noqa: ANN401
    """The decoder whose weights a training saved.

    Parameters
    ----------
    cfg : its section of the config
    path : weights.safetensors
    sizes : of its responses and targets
    fold : which of the folds of a split that leaves runs out; -1 for a fixed split

    Raises
    ------
    PerceptError : the file is missing or of other settings, or the kind cannot be made again from it
    """
    prefix = "" if fold < 0 else f"fold-{fold}/"
    if isinstance(cfg, Linear):
        weights, intercept = cfg.linear(_read(Path(path), prefix))
        return Predictor(lambda X: X @ weights + intercept, weights)
    if isinstance(cfg, Network):
        return Predictor(partial(cfg.predict, _network(cfg, Path(path), sizes, prefix)))
    if isinstance(cfg, Rebuilt):
        return Predictor(cfg.rebuilt(_read(Path(path), prefix), sizes.n_voxels))
    raise PerceptError(
        f"a decoder of kind {cfg.kind!r} cannot be made again from its saved weights, so nothing can be "
        "asked of it after its training: give its class `linear`, or `build` and `predict`, "
        "or `rebuilt` (percept.decoders.predictor), or analyse a decoder of another kind."
    )


def _read(path: Path, prefix: str) -> dict[str, NDArray]:
    from safetensors import SafetensorError, safe_open

    try:
        weights.require_whole(path)
        with safe_open(str(path), "np") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except damage(path, OSError, SafetensorError) as error:
        raise PerceptError(
            f"{path} is missing or damaged ({error}): the decoder cannot be made again. Delete it and run "
            "the same command; the workflow trains it anew."
        ) from error


def _network(cfg: Network, path: Path, sizes: Sizes, prefix: str) -> Any:  # noqa: ANN401
    from safetensors import SafetensorError

    from percept.decoders.training import answers

    place = (sizes.voxels,) if getattr(cfg, "located", False) else ()
    network = cfg.build(sizes.n_voxels, sizes.shape, *place)
    try:
        answers.restore(network, path, prefix)
    except damage(path, OSError, RuntimeError, SafetensorError) as error:
        raise PerceptError(
            f"{path} does not hold the weights of this decoder ({error}): they are of other settings, or "
            "damaged. Delete the file and run the same command; the workflow trains it anew."
        ) from error
    return network.to(choose(cfg.training.device)).eval()


def require_alike(again: NDArray, stored: NDArray, what: str) -> None:
    """Refuse weights that do not give the predictions stored beside them, both (row, dim).

    Raises
    ------
    PerceptError : the two differ by more than what the precision of the weights explains
    """
    gap = float(np.mean(np.square(again - stored, dtype=np.float64)))
    spread = float(np.mean(np.square(stored - stored.mean(axis=0), dtype=np.float64)))
    if gap > ALIKE * spread:
        raise PerceptError(
            f"{what}: the saved weights do not give the predictions that lie beside them (they differ by "
            f"{gap / max(spread, 1e-300):.0%} of the variance), so an analysis would be of another decoder "
            "than the table's: the files are of different runs, or voxels are normalised otherwise. Train "
            "this decoder again."
        )
