"""What a user sees of a training: a bar in a terminal, lines in a log, curves in TensorBoard."""

import logging
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from percept.files import PerceptError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)
QUIET_S = 10.0  # least time between two lines of the log


class Progress:
    """Shows a training of `n_steps` that goes on at `step`."""

    def __init__(self, name: str, step: int, n_steps: int, events: Path | None) -> None:
        quiet = not sys.stderr.isatty()
        self.name, self.n_steps, self.said_at = name, n_steps, -math.inf
        self.bar = tqdm(total=n_steps, initial=step, desc=name, unit="step", disable=quiet, file=sys.stderr)
        self.writer = (
            None if events is None else writer()(events, purge_step=step + 1)
        )  # hides what is redone

    def step(self) -> None:
        """One step done."""
        self.bar.update()

    def epoch(self, row: dict[str, Any]) -> None:
        """One epoch done; `row` is its row of the history."""
        shown = {name: value for name, value in row.items() if name.endswith("loss")}
        self.bar.set_postfix({name: f"{value:.4g}" for name, value in shown.items()})
        if self.writer is not None:
            for name, value in row.items():
                self.writer.add_scalar(name, value, row["step"])
        last = row["step"] == self.n_steps
        if self.bar.disable and (last or time.monotonic() - self.said_at > QUIET_S):
            said = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
            log.info(
                "%s: epoch %d, step %d of %d: %s", self.name, row["epoch"], row["step"], self.n_steps, said
            )
            self.said_at = time.monotonic()

    def close(self) -> None:
        """Leave bar and files as they are."""
        self.bar.close()
        if self.writer is not None:
            self.writer.close()


def writer() -> "type[SummaryWriter]":
    """What writes curves for TensorBoard.

    Raises
    ------
    PerceptError : the package tensorboard is not installed
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise PerceptError(
            "`training.tensorboard` is set, but the package tensorboard is not installed: install it "
            "(`pip install tensorboard`, or this package with its extra `tensorboard`), or leave the setting "
            "out; the history is kept as a table either way."
        ) from error
    return SummaryWriter
