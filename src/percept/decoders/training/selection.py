"""Which weights of a training are kept, and when it is long enough."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from percept.decoders.training.settings import TrainingConfig

Weights = dict[str, Tensor]


@dataclass
class Selection:
    """The best validation so far; an equal one later is not better.

    epoch : epochs that were trained when it was found, 0 before the first validation
    waited : validations since then
    weights : copies of the best weights, where they are what is kept
    """

    patience: int | None
    keeps: bool
    best: float = math.inf
    epoch: int = 0
    waited: int = 0
    weights: Weights | None = None

    @classmethod
    def by(cls, cfg: TrainingConfig, validates: bool, keeps: bool = True) -> "Selection":
        """The rule of the settings; `keeps` is False on devices that need no copy of the weights."""
        return cls(cfg.patience if validates else None, keeps and validates and cfg.select == "validation")

    @property
    def exhausted(self) -> bool:
        """Whether the training has waited long enough for a better validation."""
        return self.patience is not None and self.waited >= self.patience

    def see(self, loss: float, epoch: int, weights: Callable[[Weights | None], Weights]) -> None:
        """Take a validation into account; `weights` copies the present ones, onto an earlier copy if any."""
        if loss < self.best:
            self.best, self.epoch, self.waited = loss, epoch, 0
            self.weights = weights(self.weights) if self.keeps else None
        else:
            self.waited += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"best": self.best, "epoch": self.epoch, "waited": self.waited, "weights": self.weights}

    def load(self, state: dict[str, Any], place: Callable[[Weights], Weights]) -> None:
        """Continue from a checkpoint; `place` puts the weights where copies are kept."""
        self.best, self.epoch, self.waited = state["best"], state["epoch"], state["waited"]
        self.weights = place(state["weights"]) if self.keeps and state["weights"] is not None else None
