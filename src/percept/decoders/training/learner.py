"""What the engine trains: a module that draws its batches and knows its loss."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Batch = dict[str, Tensor]  # first axis: rows of the batch


@dataclass(frozen=True)
class When:
    """Where a step stands in the training: `step` of `n_steps`, from 0, `steps_per_epoch` to an epoch."""

    step: int
    n_steps: int
    steps_per_epoch: int

    @property
    def epoch(self) -> int:
        """Epoch of the step, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def n_epochs(self) -> int:
        """Epochs of the whole training."""
        return self.n_steps // self.steps_per_epoch

    @property
    def fraction(self) -> float:
        """Share of the training that lies behind the step, in [0, 1]."""
        return self.step / self.n_steps


@dataclass(frozen=True)
class Data:
    """What is learned from, resident in memory: moved to the device of training once.

    n_rows : images; an epoch is one permutation of them
    tensors : whatever the learner draws its batches from, by name
    """

    n_rows: int
    tensors: dict[str, Tensor] = field(default_factory=dict)


def send(values: NDArray, device: torch.device | str) -> Tensor:
    """A small array as a tensor on a device, without waiting for what the device is doing."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Learner(nn.Module, ABC):
    """A network with its loss, in the four parts between which the engine distributes the work.

    A batch is drawn whole on each device (`draw`), each device computes the outputs of its own rows
    (`forward`), and the loss is of all rows together (`loss`), so that a contrastive loss sees every negative
    however many devices share the batch.
    """

    @abstractmethod
    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        """The batch of some rows, with everything random that couples rows or chooses data.

        Parameters
        ----------
        rows : (row,) int64, on the device of the data
        rng : seeded by seed and step, the same on every device

        Returns
        -------
        batch : tensors (row, ...) on the device of the data, one row for each of `rows`
        """

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs (row, ...) by name, among them losses of single rows (row,).

        Each row depends on its own row of the batch alone, so that chunks and devices can share a batch.
        What is random here (dropout, noise) comes from torch's global generator, which the engine seeds.
        """

    @abstractmethod
    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        """``loss``, which is minimised, and its parts: scalars, of the outputs `found` of all rows.

        Computed in float32, alike on every device. It may not use the parameters of the module: gradients
        reach them through `found`, and each of them must take part in some output.
        """

    def updated(self, when: When) -> None:
        """After the optimiser's step `when`, alike on every device: what follows the weights, such as an
        average of them that teaches. What it changes is part of the state that a checkpoint holds.
        """

    @abstractmethod
    def validate(self, data: Data, when: When) -> dict[str, float]:
        """Scores by name on held-out data; ``loss``, lower is better, chooses the weights that are kept.

        Called in evaluation mode, without gradients and under the precision of training, on one device.
        """
