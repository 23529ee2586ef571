"""What the trainings of one network and of two that play share: recipe, rates, checkpoint, signals."""

import json
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from percept.files import PerceptError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.pt"
CHECKPOINT_S = 60.0
REPORTED = 100  # steps that one row of the history is the mean of


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW, linear warm-up, cosine decay to zero over the remaining steps."""

    steps: int
    learning_rate: float
    batch_size: int
    weight_decay: float = 0.05
    warmup: int = 200
    betas: tuple[float, float] = (0.9, 0.98)
    ema: float | None = None  # decay of an average of the weights, which then is what is kept
    seed: int = 0


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear from 0 to the peak over the warm-up, then half a cosine down to 0 at the last step."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    through = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * through))


def groups(module: "torch.nn.Module", weight_decay: float) -> list[dict[str, Any]]:
    """Parameters for AdamW: matrices and kernels decay, biases, gains and scales do not."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]


def mark(recipe: Recipe, identity: str) -> str:
    """What a checkpoint belongs to: a recipe, and whatever else the weights depend on."""
    return json.dumps([asdict(recipe), identity], sort_keys=True)


def stored(path: Path, expected: str) -> dict[str, Any] | None:
    """The checkpoint at `path`, on the CPU; None where there is none, or one of another `mark`."""
    import torch

    if not path.is_file():
        return None
    kept = torch.load(path, weights_only=True, map_location="cpu")
    if kept["identity"] == expected:
        return kept
    log.warning("%s is of another recipe, other data or other code: training starts anew", path)
    return None


def require_finite(loss: float, what: str, step: int, recipe: Recipe, path: Path) -> None:
    """Stop before a loss that is not finite moves a weight.

    Raises
    ------
    PerceptError : it is not finite
    """
    if not math.isfinite(loss):
        raise PerceptError(
            f"{what} is {loss} at step {step}, so the weights would be lost: "
            f"training stopped, and {path} keeps the last good state. Lower the learning rate "
            f"({recipe.learning_rate:g}) of the recipe, or look at the data of this step."
        )


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """A state of tensors that no later step changes."""
    return {name: value.detach().clone() for name, value in state.items()}


@contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has arrived: noted while the block runs, and obeyed when it ends."""
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: arrived.append(number))
    try:
        yield lambda: bool(arrived)
    finally:
        signal.signal(signal.SIGTERM, before)
        if arrived:
            os.kill(os.getpid(), signal.SIGTERM)
