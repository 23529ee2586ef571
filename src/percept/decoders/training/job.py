"""What a training is, and what comes of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from percept.decoders.training.settings import TrainingConfig

Row = dict[str, float]


@dataclass(frozen=True)
class Job:
    """What a training is called, where it keeps its state, and what its weights depend on beside settings.

    folder : receives the checkpoint; the caller deletes it once what it makes of the network is whole
    seed : of everything random
    identity : data, code, settings of the network: a checkpoint of another identity is void
    name : shown to the user
    events : folder for TensorBoard; beside the checkpoint where absent
    """

    folder: Path
    seed: int
    identity: str
    name: str
    events: Path | None = None

    @property
    def checkpoint(self) -> Path:
        """The file that holds the training."""
        return Path(self.folder) / "checkpoint.pt"

    @property
    def failure(self) -> Path:
        """What a process that shares the training has to say to the user."""
        return Path(self.folder) / "failure.txt"


@dataclass(frozen=True)
class Plan:
    """Steps of a training; the last incomplete batch of an epoch is left out.

    batch : rows of a step, over all devices
    steps_per_epoch, n_steps : steps
    """

    batch: int
    steps_per_epoch: int
    n_steps: int

    @classmethod
    def of(cls, cfg: TrainingConfig, n_rows: int) -> "Plan":
        """The plan for `n_rows` rows; fewer than a batch are one batch, of as many as devices can share."""
        batch = max(1, min(cfg.batch_size, n_rows) // cfg.devices) * cfg.devices
        steps = max(1, n_rows // batch)
        return cls(batch, steps, cfg.epochs * steps)


@dataclass(frozen=True)
class Outcome:
    """What came of a training, beside the weights.

    history : a row per epoch: epoch (from 1), step (steps done), learning_rate (of the last step), seconds
        (so far), the means of the parts of the training loss, ``validation_<name>``
    record : numbers and strings about the run: parameters, steps, epochs, chosen_epoch, stopped_early,
        resumed (step at which it was last resumed, 0 if never), device, devices, precision, peak_memory_mb,
        memory_estimate_mb, samples_per_s, seconds, energy_j (None where it cannot be read)
    """

    history: pd.DataFrame
    record: dict[str, Any] = field(default_factory=dict)
