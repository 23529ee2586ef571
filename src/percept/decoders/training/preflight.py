"""Parameters and memory of a training, estimated before it begins."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from percept.decoders.training import chunked, seeds
from percept.decoders.training.learner import Batch, Data, Learner, When
from percept.decoders.training.optimiser import trained
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError

log = logging.getLogger(__name__)
MEMINFO = Path("/proc/meminfo")
UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}
KNOBS = (
    "set `training.chunk` (rows per forward pass) or lower it, lower `training.batch_size`, set "
    "`training.precision` to bfloat16, spread the batch over more `training.devices`, or make the network "
    "narrower (`network.width`)"
)


@dataclass(frozen=True)
class Estimate:
    """Bytes on one device, by what they are for; `data` and `weights` are there before training begins."""

    data: int
    weights: int
    gradients: int
    optimiser: int
    average: int
    best: int
    activations: int

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def to_come(self) -> int:
        """Bytes that training takes beside data and weights."""
        return self.total - self.data - self.weights

    def __str__(self) -> str:
        parts = [f"{field.name} {_said(getattr(self, field.name))}" for field in fields(self)]
        return f"{_said(self.total)} ({', '.join(parts)})"


def estimate(
    learner: Learner, data: Data, cfg: TrainingConfig, rows: int, forward: Tensor | None
) -> Estimate:
    """What training will take on a device that computes `rows` rows of each batch.

    Parameters
    ----------
    learner, data : on the device of training
    forward : (2,) bytes kept for the backward pass by a batch of one row and by one of two (`kept_bytes`)
    """
    moving = sum(_size(parameter) for parameter in trained(learner))
    at_once = min(rows, cfg.chunk or rows)
    return Estimate(
        data=sum(_size(tensor) for tensor in data.tensors.values()),
        weights=sum(_size(tensor) for tensor in learner.state_dict().values()),
        gradients=moving,
        optimiser=2 * moving,
        average=moving if cfg.ema else 0,
        best=moving if cfg.select == "validation" else 0,
        activations=0 if forward is None else _extrapolated(forward, at_once),
    )


def room(found: Estimate, device: torch.device, name: str) -> torch.device:
    """Where copies of the best weights of the training `name` are kept: on the device, or beside it where it
    has no room for them.

    Raises
    ------
    PerceptError : more memory is needed than is free
    """
    free = available(device)
    if free is None or found.to_come <= free:
        return device
    if device.type != "cpu" and found.to_come - found.best <= free:
        return torch.device("cpu")
    raise PerceptError(
        f"training {name} needs about {found} on {device}, of which {_said(found.to_come)} are still to be "
        f"taken and {_said(free)} are free: it would fail after the first steps. To need less memory, "
        f"{KNOBS}; or run where there is more."
    )


def available(device: torch.device) -> int | None:
    """Bytes free on a device; None where that cannot be known."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    if not MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None


def describe(learner: Learner, found: Estimate, device: torch.device, n_steps: int) -> None:
    """Say in the log what is about to be trained."""
    n = sum(parameter.numel() for parameter in learner.parameters())
    n_trained = sum(parameter.numel() for parameter in trained(learner))
    log.info(
        "%s parameters, %s of them trained, %d steps on %s; memory: about %s",
        f"{n:,}", f"{n_trained:,}", n_steps, device, found,
    )  # fmt: skip


def probe(learner: Learner, data: Data, when: When, seed: int) -> Batch:
    """A batch of two rows, or of one where there is one."""
    rows = torch.arange(min(2, data.n_rows), device=next(learner.parameters()).device)
    return learner.draw(data, rows, when, seeds.drawing(seed, when.step))


def kept_bytes(learner: Learner, batch: Batch) -> Tensor:
    """Bytes that one row and that two rows keep for the backward pass, (2,); weights are not counted."""
    return torch.tensor([_kept(learner, chunked.cut(batch, 0, n)) for n in (1, 2)])


def _kept(learner: Learner, batch: Batch) -> int:
    known = {_storage(tensor) for tensor in learner.state_dict().values()}
    with _noting() as sizes:
        outputs = learner(batch)
    del outputs
    return sum(size for storage, size in sizes.items() if storage not in known)


@contextmanager
def _noting() -> Iterator[dict[int, int]]:
    """Storages saved for a backward pass, which one -> bytes."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        sizes[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield sizes


def _storage(tensor: Tensor) -> int:
    """Which storage holds a tensor; on the meta device none has an address of its content."""
    return tensor.untyped_storage()._cdata


def _extrapolated(forward: Tensor, rows: int) -> int:
    """Bytes for `rows` rows: what one and two rows keep, on a straight line."""
    one, two = forward.tolist()
    return int(one + max(0, two - one) * (rows - 1))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _said(n_bytes: float) -> str:
    """Bytes in the largest unit of which there is one."""
    unit = next((unit for unit in UNITS if n_bytes >= UNITS[unit]), "kB")
    return f"{n_bytes / UNITS[unit]:.3g} {unit}"
