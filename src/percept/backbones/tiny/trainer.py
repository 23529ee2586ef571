"""The loop that trains every small network: resumable at any moment, the same weights every time."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from percept.backbones.recipe import (
    CHECKPOINT,
    CHECKPOINT_S,
    REPORTED,
    Recipe,
    copied,
    groups,
    learning_rate,
    mark,
    require_finite,
    stored,
    termination,
)
from percept.backbones.tiny.data import Scenes
from percept.files import atomic

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
CLIPPED_AT = 1.0  # norm of the gradient

LossOfStep = Callable[["torch.nn.Module", int, "torch.Generator"], dict[str, "torch.Tensor"]]


@dataclass(frozen=True)
class Job:
    """What the training of one network is given, and where it writes.

    ``folder`` receives the finished network, ``work`` the checkpoints; ``parts`` are the folders of networks
    that were trained before, by name; ``code`` is the version of the code that the manifest names.
    """

    train: Scenes
    held_out: Scenes
    folder: Path
    work: Path
    parts: dict[str, Path] = field(default_factory=dict)
    code: str = ""

    @cached_property
    def data(self) -> str:
        """Digest of the training scenes."""
        return self.train.digest()


def fit(
    module: "torch.nn.Module",
    loss_of_step: LossOfStep,
    recipe: Recipe,
    folder: str | Path,
    identity: str = "",
) -> pd.DataFrame:
    """Train `module` in place and return its history.

    Parameters
    ----------
    module : in its initial state; the caller seeds its weights
    loss_of_step : (module, step, generator) -> tensors by name, ``loss`` among them; the generator, on the
        CPU, and torch's global one are seeded by recipe and step alone
    recipe : see `Recipe`
    folder : where the checkpoint lies: written about every minute and at SIGTERM, resumed where it is of the
        same recipe and identity; a finished one makes this function return at once
    identity : whatever else the weights depend on: data, networks before, code (`origin.origin`)

    Returns
    -------
    history : one row per `REPORTED` steps: step, learning_rate, seconds of training so far, and the means of
        the losses over these steps

    Raises
    ------
    PerceptError : a loss is not finite
    """
    import torch

    state = _State.begin(module, recipe, Path(folder) / CHECKPOINT, identity)
    with torch.random.fork_rng(devices=[]), termination() as terminated:
        generator = torch.Generator()
        while state.step < recipe.steps:
            started = time.monotonic()
            state.advance(loss_of_step, generator)
            state.seconds += time.monotonic() - started
            if terminated() or time.monotonic() - state.saved_at > CHECKPOINT_S:
                state.save()
            if terminated():
                break
        else:
            state.save()
    return state.finish()


@dataclass
class _State:
    """A training under way."""

    module: Any
    optimiser: Any
    recipe: Recipe
    path: Path
    identity: str
    ema: dict[str, Any] | None
    step: int = 0
    seconds: float = 0.0
    saved_at: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[dict[str, float]] = field(default_factory=list)  # losses since the last row of the history

    @classmethod
    def begin(cls, module: "torch.nn.Module", recipe: Recipe, path: Path, identity: str) -> "_State":
        """A new training, or the one that `path` holds."""
        import torch

        optimiser = torch.optim.AdamW(groups(module, recipe.weight_decay), betas=recipe.betas)
        ema = None if recipe.ema is None else copied(module.state_dict())
        state = cls(module, optimiser, recipe, path, mark(recipe, identity), ema, saved_at=time.monotonic())
        if kept := stored(path, state.identity):
            state.resume(kept)
        return state

    def resume(self, kept: dict[str, Any]) -> None:
        """Continue from a checkpoint of the same recipe and origin."""
        self.module.load_state_dict(kept["module"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.ema, self.step, self.seconds = kept["ema"], kept["step"], kept["seconds"]
        self.history, self.recent = kept["history"], kept["recent"]
        log.info("resumed at step %d of %d", self.step, self.recipe.steps)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        import torch

        kept = {
            "identity": self.identity,
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ema": self.ema,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "recent": self.recent,
        }
        with atomic(self.path) as temporary:
            torch.save(kept, temporary)
        self.saved_at = time.monotonic()

    def advance(self, loss_of_step: LossOfStep, generator: "torch.Generator") -> None:
        """One step of the optimiser."""
        import torch

        seed = (self.recipe.seed << 32) + self.step
        torch.manual_seed(seed)  # dropout
        generator.manual_seed(seed)
        self.module.train()
        losses = loss_of_step(self.module, self.step, generator)
        loss = float(losses["loss"].detach())
        require_finite(loss, "the loss", self.step, self.recipe, self.path)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), CLIPPED_AT)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        self.optimiser.step()
        self.step += 1
        self._average()
        self._report(losses)

    def _average(self) -> None:
        if self.ema is None:
            return
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))  # follows faster at first
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.ema[name].lerp_(value.detach(), 1 - decay)
            else:
                self.ema[name].copy_(value)

    def _report(self, losses: dict[str, "torch.Tensor"]) -> None:
        self.recent.append({name: float(value.detach()) for name, value in losses.items()})
        if self.step % REPORTED and self.step < self.recipe.steps:
            return
        means = pd.DataFrame(self.recent).mean().to_dict()
        rate = learning_rate(self.recipe, self.step - 1)
        row = {"step": self.step, "learning_rate": rate, "seconds": round(self.seconds, 1), **means}
        self.history.append(row)
        self.recent = []
        said = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        log.info("step %d of %d, %.0f s: %s", self.step, self.recipe.steps, self.seconds, said)

    def finish(self) -> pd.DataFrame:
        """The averaged weights in place, where there are any, and evaluation mode."""
        if self.ema is not None:
            self.module.load_state_dict(self.ema)
        self.module.eval()
        return pd.DataFrame(self.history)
