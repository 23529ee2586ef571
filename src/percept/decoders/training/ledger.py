"""Losses of the steps, kept on the device until they are asked for: no step waits for its loss."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

Row = dict[str, float]


@dataclass(frozen=True)
class Fault:
    """A loss that is not finite: at which step, and which of its parts."""

    step: int
    part: str
    value: float


@dataclass
class Ledger:
    """Parts of the loss of each step of an epoch.

    rows : what has been read back, a row per step
    pending : steps, names and values (part,) that are still on the device
    """

    rows: list[Row] = field(default_factory=list)
    pending: list[tuple[int, tuple[str, ...], Tensor]] = field(default_factory=list)

    def note(self, step: int, parts: dict[str, Tensor]) -> None:
        """Remember the parts of a loss, scalars, without reading them."""
        values = torch.stack([part.detach().float() for part in parts.values()])
        self.pending.append((step, tuple(parts), values))

    def settle(self) -> Fault | None:
        """Read everything that is pending in one transfer; returns the first fault."""
        if not self.pending:
            return None
        values = iter(torch.cat([values for *_, values in self.pending]).tolist())
        fault = None
        for step, names, _ in self.pending:
            row = {name: next(values) for name in names}
            fault = fault or _fault(step, row)
            self.rows.append(row)
        self.pending = []
        return fault

    def means(self) -> Row:
        """Means over the settled steps, of each part over the steps that have it; then forget them."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        means = {name: float(np.mean([row[name] for row in self.rows if name in row])) for name in names}
        self.rows = []
        return means


def _fault(step: int, row: Row) -> Fault | None:
    """The part that is to blame, rather than the sum of all parts."""
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    blamed = next((name for name in bad if name != "loss"), bad[0] if bad else None)
    return None if blamed is None else Fault(step, blamed, row[blamed])
