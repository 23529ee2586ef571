"""Gaussian diffusion of embeddings: noise levels, and sampling with a network that predicts what is clean.

An embedding x at level t is x_t = sqrt(a_t) x + sqrt(1 - a_t) e with e ~ N(0, 1). a_t, the share of the
variance that is signal, falls along a squared cosine (Nichol and Dhariwal 2021, section 3.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from percept.files import PerceptError

Sampler = Literal["ddpm", "ddim"]
Denoise = Callable[[Tensor, Tensor], Tensor]  # (row, ...), level (1,) -> expected clean embeddings (row, ...)
OFFSET = 0.008  # keeps the first steps from being too small to learn from
LARGEST = 0.999  # noise variance that one step may add; keeps a little signal at the last level
AHEAD = 2**14  # values that one row draws at a time; a constant, since it shapes the stream of numbers


def signal_shares(timesteps: int) -> NDArray[np.float64]:
    """Share of the variance at each level that is signal, (timestep,) falling from almost 1 to almost 0."""
    at = np.cos((np.linspace(0, 1, timesteps + 1) + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2
    return np.cumprod(np.maximum(at[1:] / at[:-1], 1 - LARGEST))


def levels_visited(sampler: Sampler, n_steps: int, timesteps: int) -> NDArray[np.int64]:
    """Levels in the order of sampling, from the noisiest, `timesteps` - 1, to -1, which is clean.

    The fewer levels, the narrower the samples: with a perfect network, a normal distribution of variance 1
    is sampled with its mean and with variance 0.95 by all of 100 levels, 0.80 by 20, 0.99 by all of 1,000.

    Parameters
    ----------
    sampler : ``ddpm`` goes through every level (Ho et al. 2020); ``ddim`` through `n_steps` of them, the
        clean one included, evenly spaced, with eta = 1 (Song et al. 2021): n_steps - 1 evaluations
    n_steps, timesteps : levels visited, levels that the network was trained with

    Raises
    ------
    PerceptError : ddpm with another number of steps, ddim with too few or too many
    """
    if sampler == "ddpm" and n_steps != timesteps:
        raise PerceptError(
            f"the sampler ddpm visits all {timesteps} noise levels of the prior, not {n_steps}: leave "
            f"`sampling_steps` at {timesteps}, or set `sampler: ddim`, which may skip levels"
        )
    if sampler == "ddpm":
        return np.arange(timesteps - 1, -2, -1)
    if not 2 <= n_steps <= timesteps + 1:
        raise PerceptError(
            f"the sampler ddim cannot visit {n_steps} of {timesteps} noise levels and the clean one: set "
            f"`sampling_steps` to 2 or more, up to {timesteps}"
        )
    return np.linspace(timesteps - 1, -1, n_steps).round().astype(np.int64)


@dataclass(frozen=True)
class Move:
    """One step from `level` to a cleaner one: x <- estimate * clean + current * x + noise * N(0, 1)."""

    level: int
    estimate: float
    current: float
    noise: float


def moves(shares: NDArray[np.float64], levels: NDArray[np.int64]) -> list[Move]:
    """Steps along `levels`: the posterior of each level given the one before and the clean embedding.

    Between neighbouring levels that is the ancestral step with its lower variance (Ho et al. 2020, eq. 7);
    between any two it is DDIM with eta = 1.

    Parameters
    ----------
    shares : (timestep,), see `signal_shares`
    levels : falling, the last one -1, see `levels_visited`
    """
    a = np.append(shares, 1.0)  # level -1 is clean
    return [_move(int(t), a[t], a[s]) for t, s in pairwise(levels)]


def _move(level: int, a_t: float, a_s: float) -> Move:
    kept = a_t / a_s  # of the signal's variance, from the cleaner level to this one
    left = (1 - a_s) / (1 - a_t)  # noise variance of the cleaner level, relative to this one's
    return Move(
        level,
        estimate=float(np.sqrt(a_s) * (1 - kept) / (1 - a_t)),
        current=float(np.sqrt(kept) * left),
        noise=float(np.sqrt(left * (1 - kept))),
    )


class RowNoise:
    """Normal numbers from one stream per row, so that no row depends on the rows beside it.

    Parameters
    ----------
    seeds : (row,); equal seeds give equal rows. The streams of different kinds of device differ
    shape : of the values of one row
    device : where the numbers are drawn
    """

    def __init__(self, seeds: Sequence[int], shape: tuple[int, ...], device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.streams = [torch.Generator(device).manual_seed(int(seed)) for seed in seeds]
        self.per_draw = max(1, AHEAD // max(1, int(np.prod(shape))))
        self._ahead: list[Tensor] = []

    def draw(self) -> Tensor:
        """The next values, (row, *shape) float32."""
        if not self._ahead:
            self._ahead = list(self._drawn().unbind(dim=1))[::-1]
        return self._ahead.pop()

    def _drawn(self) -> Tensor:
        shape = (self.per_draw, *self.shape)
        drawn = torch.empty(len(self.streams), *shape, device=self.device)
        for row, stream in zip(drawn, self.streams, strict=True):
            row.normal_(generator=stream)
        return drawn


def sample(denoise: Denoise, path: Sequence[Move], noise: RowNoise) -> Tensor:
    """Embeddings from noise, (row, ...) float32.

    Parameters
    ----------
    denoise : the expected clean embeddings, given noisy ones and their level
    path : see `moves`
    noise : where the first state and the noise of each step come from
    """
    x = noise.draw()
    for move in path:
        clean = denoise(x, torch.tensor([move.level], device=x.device)).float()
        x = move.estimate * clean + move.current * x
        if move.noise > 0:
            x = x + move.noise * noise.draw()
    return x
