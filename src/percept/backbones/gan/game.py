"""The loop of two networks that play against each other: resumable at any moment, the same weights each time.

Like the loop of a network alone, with a second optimiser, a running average that is measured on the way, and
the best state of that average, which is what remains.
"""

import logging
import math
import time
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from percept.backbones.precision import dtype
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
from percept.files import atomic

if TYPE_CHECKING:
    from percept.backbones.gan.discriminator import Discriminator
    from percept.backbones.gan.generator import Generator

log = logging.getLogger(__name__)
DECIDES = "kid"  # the measure by which states of the average are compared, lower is better


@dataclass(frozen=True)
class GameRecipe(Recipe):
    """How two networks are trained.

    Attributes
    ----------
    alone : steps at the beginning in which the generator learns without an opponent
    measured_every : steps after which the running average is measured, once the game has begun
    """

    alone: int = 0
    measured_every: int = 500


@dataclass(frozen=True)
class Running:
    """How a game is computed: what changes no recipe.

    Attributes
    ----------
    precision : arithmetic of both passes, float32 or bfloat16; weights, sums of the loss and the optimiser
        stay float32. There is no float16: the penalties on gradients would need a scale of their own
    checkpoint_s : seconds between checkpoints; None: `CHECKPOINT_S`
    """

    precision: str = "float32"
    checkpoint_s: float | None = None


class Networks(nn.Module):
    """Both players, and the running average of the generator's weights, which is never trained."""

    path_mean: Tensor  # running mean of path lengths

    def __init__(self, generator: "Generator", discriminator: "Discriminator") -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.average = deepcopy(generator).requires_grad_(False).eval()
        self.register_buffer("path_mean", torch.zeros(()))

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self.path_mean.device

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Average: decay average + (1 - decay) generator, of weights and of buffers."""
        for kept, new in zip(
            self.average.state_dict().values(), self.generator.state_dict().values(), strict=True
        ):
            kept.lerp_(new, 1 - decay)


class Game(Protocol):
    """What is played: losses of both sides by name, the one that is minimised as ``loss``."""

    def turn(self, networks: Networks, step: int, generator: "torch.Generator") -> Any:  # noqa: ANN401
        """What both sides see in a step; generated images carry their gradient."""

    def against(self, networks: Networks, turn: Any, step: int) -> dict[str, Tensor]:  # noqa: ANN401
        """Losses of the discriminator."""

    def towards(self, networks: Networks, turn: Any, step: int) -> dict[str, Tensor]:  # noqa: ANN401
        """Losses of the generator."""

    def measured(self, networks: Networks) -> dict[str, float]:
        """What is measured of the average on the way, `DECIDES` among it."""


def fit(
    networks: Networks,
    game: Game,
    recipe: GameRecipe,
    folder: str | Path,
    identity: str,
    running: Running = Running(),
) -> pd.DataFrame:
    """Train in place, put the best state of the average into ``networks.average``, return the history.

    Parameters
    ----------
    networks : in their initial state, on the device of training
    game : a function of networks, step and the seeds that this loop sets
    recipe : see `GameRecipe`
    folder : where the checkpoint lies, written now and then and at SIGTERM, resumed where it is of the same
        recipe and identity; a finished one makes this function return at once
    identity : whatever else the weights depend on: data, networks before, code, precision
    running : see `Running`

    Returns
    -------
    history : one row per `REPORTED` steps: step, learning_rate, seconds, means of the losses, and what was
        measured at that step

    Raises
    ------
    PerceptError : a loss is not finite
    """
    state = _State.begin(networks, game, recipe, Path(folder) / CHECKPOINT, identity, running)
    every = CHECKPOINT_S if running.checkpoint_s is None else running.checkpoint_s
    with torch.random.fork_rng(devices=[]), termination() as terminated:
        while state.step < recipe.steps:
            started = time.monotonic()
            state.advance()
            state.seconds += time.monotonic() - started
            if terminated() or time.monotonic() - state.saved_at > every:
                state.save()
            if terminated():
                break
        else:
            state.save()
    return state.finish()


@dataclass
class _State:
    """A game under way."""

    networks: Networks
    game: Game
    recipe: GameRecipe
    path: Path
    identity: str
    optimisers: dict[str, torch.optim.Optimizer]
    running: Running
    step: int = 0
    seconds: float = 0.0
    saved_at: float = field(default_factory=time.monotonic)
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # its measure, and the average's state

    @classmethod
    def begin(
        cls,
        networks: Networks,
        game: Game,
        recipe: GameRecipe,
        path: Path,
        identity: str,
        running: Running,
    ) -> "_State":
        """A new game, or the one that `path` holds."""
        fused = networks.device.type == "cuda" or None
        optimisers = {
            name: torch.optim.AdamW(
                groups(getattr(networks, name), recipe.weight_decay),
                betas=recipe.betas,
                eps=1e-8,
                fused=fused,
            )
            for name in ("generator", "discriminator")
        }
        state = cls(networks, game, recipe, path, mark(recipe, identity), optimisers, running)
        if kept := stored(path, state.identity):
            state.resume(kept)
        return state

    def resume(self, kept: dict[str, Any]) -> None:
        """Continue from a checkpoint of the same recipe and origin."""
        self.networks.load_state_dict(kept["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(kept["optimisers"][name])
        for name in ("step", "seconds", "history", "recent", "best"):
            setattr(self, name, kept[name])
        log.info("resumed at step %d of %d", self.step, self.recipe.steps)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        kept = {
            name: getattr(self, name) for name in ("identity", "step", "seconds", "history", "recent", "best")
        }
        kept["networks"] = self.networks.state_dict()
        kept["optimisers"] = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        with atomic(self.path) as temporary:
            torch.save(kept, temporary)
        self.saved_at = time.monotonic()

    def advance(self) -> None:
        """One step of each side, the discriminator first."""
        seed = (self.recipe.seed << 32) + self.step
        torch.manual_seed(seed)
        self.networks.train()
        self.networks.average.eval()
        with self._arithmetic():
            turn = self.game.turn(self.networks, self.step, torch.Generator().manual_seed(seed))
        said: dict[str, Tensor] = {}
        if self.step >= self.recipe.alone:
            said |= self._move("discriminator", self.game.against, turn)
        self.networks.discriminator.requires_grad_(False)  # its gradient is not needed for the other side
        said |= self._move("generator", self.game.towards, turn)
        self.networks.discriminator.requires_grad_(True)
        self.step += 1
        self.networks.follow(min(self.recipe.ema or 0.0, (1 + self.step) / (10 + self.step)))
        self.recent.append({name: float(value.detach()) for name, value in said.items()})
        self._measure()

    def _arithmetic(self) -> AbstractContextManager:
        """Autocast to the precision of training; nothing with float32."""
        kind = dtype(self.running.precision)
        return torch.autocast(self.networks.device.type, kind, enabled=kind != torch.float32)

    def _move(self, side: str, losses_of: Any, turn: Any) -> dict[str, Tensor]:  # noqa: ANN401
        """One step of the optimiser of a side; returns its losses under names that tell the side."""
        with self._arithmetic():
            losses = losses_of(self.networks, turn, self.step)
        loss = float(losses["loss"].detach())
        require_finite(loss, f"the loss of the {side}", self.step, self.recipe, self.path)
        optimiser = self.optimisers[side]
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        optimiser.step()
        return {side if name == "loss" else name: value for name, value in losses.items()}

    def _measure(self) -> None:
        """Report the last steps, and measure the average where that is due."""
        ended = self.step == self.recipe.steps
        due = self.step > self.recipe.alone and self.step % self.recipe.measured_every == 0
        if not (self.step % REPORTED == 0 or ended or due):
            return
        row = {"step": self.step, "learning_rate": learning_rate(self.recipe, self.step - 1)}
        row |= {"seconds": round(self.seconds, 1), **pd.DataFrame(self.recent).mean().to_dict()}
        if due or ended:
            found = self.game.measured(self.networks)
            row |= found
            if found[DECIDES] < self.best.get(DECIDES, math.inf):
                self.best = {DECIDES: found[DECIDES], "state": copied(self.networks.average.state_dict())}
        self.history.append(row)
        self.recent = []
        log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in row.items()))

    def finish(self) -> pd.DataFrame:
        """The best state of the average in place, and evaluation mode."""
        if self.best:
            self.networks.average.load_state_dict(self.best["state"])
        self.networks.eval()
        return pd.DataFrame(self.history)
