"""The loop of two networks that play against each other: resumable at any moment, the same weights each time.

Like `trainer.fit`, with a second optimiser, a running average that is measured on the way, and the best state
of that average, which is what remains.
"""

import json
import logging
import math
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from percept.backbones.tiny.trainer import CHECKPOINT, CHECKPOINT_S, Recipe, copied, groups, learning_rate
from percept.backbones.tiny.trainer import termination as termination_noted
from percept.files import PerceptError, atomic

if TYPE_CHECKING:
    from percept.backbones.gan.discriminator import Discriminator
    from percept.backbones.gan.generator import Generator

log = logging.getLogger(__name__)
REPORTED = 100  # steps that one row of the history is the mean of
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


class Networks(nn.Module):
    """Both players, and the running average of the generator's weights, which is never trained."""

    path_mean: Tensor  # running mean of path lengths

    def __init__(self, generator: "Generator", discriminator: "Discriminator") -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.average = deepcopy(generator).requires_grad_(False).eval()
        self.register_buffer("path_mean", torch.zeros(()))

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
    networks: Networks, game: Game, recipe: GameRecipe, folder: str | Path, identity: str
) -> pd.DataFrame:
    """Train in place, put the best state of the average into ``networks.average``, return the history.

    Parameters
    ----------
    networks : in their initial state
    game : a function of networks, step and the seeds that this loop sets
    recipe, folder, identity : as for `trainer.fit`

    Returns
    -------
    history : one row per `REPORTED` steps: step, learning_rate, seconds, means of the losses, and what was
        measured at that step

    Raises
    ------
    PerceptError : a loss is not finite
    """
    state = _State.begin(networks, game, recipe, Path(folder) / CHECKPOINT, identity)
    with torch.random.fork_rng(devices=[]), termination_noted() as terminated:
        while state.step < recipe.steps:
            started = time.monotonic()
            state.advance()
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
    """A game under way."""

    networks: Networks
    game: Game
    recipe: GameRecipe
    path: Path
    identity: str
    optimisers: dict[str, torch.optim.Optimizer]
    step: int = 0
    seconds: float = 0.0
    saved_at: float = field(default_factory=time.monotonic)
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)  # its measure, and the average's state

    @classmethod
    def begin(cls, networks: Networks, game: Game, recipe: GameRecipe, path: Path, identity: str) -> "_State":
        """A new game, or the one that `path` holds."""
        optimisers = {
            name: torch.optim.AdamW(
                groups(getattr(networks, name), recipe.weight_decay), betas=recipe.betas, eps=1e-8
            )
            for name in ("generator", "discriminator")
        }
        mark = json.dumps([asdict(recipe), identity], sort_keys=True)
        state = cls(networks, game, recipe, path, mark, optimisers)
        if path.is_file():
            state.resume(torch.load(path, weights_only=True, map_location="cpu"))
        return state

    def resume(self, stored: dict[str, Any]) -> None:
        """Continue from a checkpoint, unless it is of another recipe or origin."""
        if stored["identity"] != self.identity:
            log.warning("%s is of another recipe, other data or other code: training starts anew", self.path)
            return
        self.networks.load_state_dict(stored["networks"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(stored["optimisers"][name])
        for name in ("step", "seconds", "history", "recent", "best"):
            setattr(self, name, stored[name])
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
        turn = self.game.turn(self.networks, self.step, torch.Generator().manual_seed(seed))
        said: dict[str, Tensor] = {}
        if self.step >= self.recipe.alone:
            said |= self._move("discriminator", self.game.against(self.networks, turn, self.step))
        self.networks.discriminator.requires_grad_(False)  # its gradient is not needed for the other side
        said |= self._move("generator", self.game.towards(self.networks, turn, self.step))
        self.networks.discriminator.requires_grad_(True)
        self.step += 1
        self.networks.follow(min(self.recipe.ema or 0.0, (1 + self.step) / (10 + self.step)))
        self.recent.append({name: float(value.detach()) for name, value in said.items()})
        self._measure()

    def _move(self, side: str, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the optimiser of a side; returns its losses under names that tell the side."""
        loss = float(losses["loss"].detach())
        if not math.isfinite(loss):
            raise PerceptError(
                f"the loss of the {side} is {loss} at step {self.step}, so the weights would be lost: "
                f"training stopped, and {self.path} keeps the last good state. Lower the learning rate "
                f"({self.recipe.learning_rate:g}) of the recipe, or look at the data of this step."
            )
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
