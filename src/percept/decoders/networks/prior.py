"""Diffusion prior: from what voxels say about an image to embeddings that an image could have.

MindEye's (Scotti et al. 2023, section 3.2), after DALL-E 2 (Ramesh et al. 2022, section 2.2): a transformer
reads the tokens predicted from the brain, one token for the noise level and the noisy tokens of the image,
and predicts the clean tokens. Targets are multiplied by sqrt(dim), so that a feature of a token of unit
length has unit variance, before noise is added.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from percept.decoders.networks.attention import Direction, Transformer
from percept.decoders.networks.diffusion import (
    RowNoise,
    Sampler,
    levels_visited,
    moves,
    sample,
    signal_shares,
)
from percept.files import PerceptError

SLOWEST = 10_000.0  # ratio of the fastest to the slowest frequency that codes a noise level
ROWS = 64  # of targets widened to float32 at a time
TOKENS_AT_ONCE = 2**14  # that a GPU samples together; bounds the memory of the hidden layers
TOKENS_AT_ONCE_CPU = 2**10  # whose hidden layers stay in the cache: twice as fast


class LevelToken(nn.Module):
    """A token that tells the noise level: sines and cosines of it, then two hidden layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim, width = dim, 2 * dim
        self.layers = nn.Sequential(
            nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, dim)
        )

    def forward(self, levels: Tensor) -> Tensor:
        """Of (row,) levels, (row, 1, dim)."""
        half = (self.dim + 1) // 2
        exponents = torch.arange(half, device=levels.device) / max(half - 1, 1)
        angles = levels[:, None] * SLOWEST**-exponents
        waves = torch.cat((angles.sin(), angles.cos()), dim=-1)[:, : self.dim]
        return self.layers(waves)[:, None]


class Prior(nn.Module):
    """Samples image embeddings given predictions from voxels.

    In training mode a row loses its condition, and independently its noisy image, with the given
    probabilities; learned tokens then stand in for them.

    Parameters
    ----------
    dim, n_tokens : features of a token, tokens of an embedding (1 where it is pooled)
    depth, heads, head_width : of the transformer
    timesteps : noise levels
    condition_dropout, image_dropout : probabilities
    relative_bias : ``causal`` as in MindEye's code, or ``symmetric``, see `attention.relative_buckets`
    scale : factor of the targets; None is sqrt(dim)
    """

    def __init__(
        self,
        dim: int,
        n_tokens: int,
        *,
        depth: int = 6,
        heads: int = 12,
        head_width: int = 64,
        timesteps: int = 100,
        condition_dropout: float = 0.2,
        image_dropout: float = 0.2,
        relative_bias: Direction = "symmetric",
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.n_tokens, self.timesteps = n_tokens, timesteps
        self.condition_dropout, self.image_dropout = condition_dropout, image_dropout
        self.scale = math.sqrt(dim) if scale is None else scale
        self.level = LevelToken(dim)
        self.positions = nn.Parameter(torch.randn(n_tokens, dim) / math.sqrt(dim))  # of the noisy tokens
        self.null_condition = nn.Parameter(torch.randn(n_tokens, dim))
        self.null_image = nn.Parameter(torch.randn(n_tokens, dim))
        self.transformer = Transformer(dim, 2 * n_tokens + 1, depth, heads, head_width, relative_bias)
        shares = signal_shares(timesteps)
        factors = np.sqrt(np.stack((shares, 1 - shares), axis=-1))  # of signal and noise
        self.register_buffer("factors", torch.tensor(factors, dtype=torch.float32), persistent=False)
        self.register_buffer("offset", torch.zeros(n_tokens, dim))  # both changed by `standardise` alone
        self.register_buffer("unit", torch.ones(()))

    def standardise(self, targets: Tensor) -> None:
        """From here on targets are centred on the mean of `targets`, (image, token, dim), and divided by
        their standard deviation, instead of being multiplied by `scale`.

        For embeddings whose tokens are not of about unit length, or lie around a mean far from zero, such as
        pooled ones: noise of unit variance would drown or leave untouched what tells them apart.
        """
        mean = sum(rows.sum(dim=0, dtype=torch.float64) for rows in targets.split(ROWS)) / len(targets)
        mean = mean.float()
        squares = sum((rows.float() - mean).square().sum() for rows in targets.split(ROWS))
        deviation = (squares / targets.numel()).sqrt()
        self.offset.copy_(mean)
        self.unit.copy_(1 / (self.scale * deviation.clamp(min=torch.finfo(torch.float32).tiny)))

    def forward(self, noisy: Tensor, levels: Tensor, condition: Tensor | None) -> Tensor:
        """Expected clean tokens, scaled, (row, token, dim).

        Parameters
        ----------
        noisy : (row, token, dim), scaled
        levels : (row,) or (1,) long, from 0, almost clean, to timesteps - 1, almost noise
        condition : (row, token, dim), what voxels predict; None stands for nothing known
        """
        if condition is None:
            condition = self.null_condition.expand_as(noisy)
        condition = self._sometimes_null(condition, self.null_condition, self.condition_dropout)
        noisy = self._sometimes_null(noisy, self.null_image, self.image_dropout)
        level = self.level(levels).expand(len(noisy), -1, -1)
        tokens = torch.cat((condition, level, noisy + self.positions), dim=1)
        return self.transformer(tokens, first=self.n_tokens + 1)

    def _sometimes_null(self, given: Tensor, null: Tensor, probability: float) -> Tensor:
        if not self.training:
            return given
        kept = torch.rand(len(given), 1, 1, device=given.device) >= probability
        return torch.where(kept, given, null)  # null stays in the graph: it has a gradient in every batch

    def loss(
        self, condition: Tensor, target: Tensor, levels: Tensor | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Mean squared error of the predicted clean tokens, scaled, for each row, (row,) float32.

        Parameters
        ----------
        condition, target : (row, token, dim); the gradient flows into the condition
        levels, noise : (row,) long and (row, token, dim); drawn from torch's generator where not given
        """
        target = (target.float() - self.offset) * (self.scale * self.unit)
        if levels is None:
            levels = torch.randint(self.timesteps, (len(target),), device=target.device)
        if noise is None:
            noise = torch.randn_like(target)
        signal, spread = self.factors[levels, :, None, None].unbind(dim=1)  # (row, 1, 1) each
        found = self(signal * target + spread * noise, levels, condition)
        return (found.float() - target).square().mean(dim=(1, 2))

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        seeds: Sequence[int],
        n_steps: int | None = None,
        sampler: Sampler = "ddpm",
        guidance: float = 1.0,
    ) -> Tensor:
        """Embeddings in the space of the targets, (row, token, dim) float32; repeat a row for more of them.

        A row is the same, up to rounding, whatever rows are sampled with it. Nothing is dropped out.

        Parameters
        ----------
        condition : (row, token, dim)
        seeds : (row,), of the noise of each row
        n_steps, sampler : see `diffusion.levels_visited`; None visits all levels
        guidance : how far to go from the prediction without the condition to that with it: 1 is no guidance

        Raises
        ------
        PerceptError : steps that do not fit the sampler; guidance of a prior trained without dropout
        """
        if guidance != 1 and not self.condition_dropout:
            raise PerceptError(
                f"a guidance of {guidance:g} needs a prior that also learnt to do without a condition: "
                "set `condition_dropout` above 0 and train again, or leave `guidance` at 1"
            )
        if len(seeds) != len(condition):
            raise ValueError(f"{len(condition)} rows need as many seeds, not {len(seeds)}")
        levels = levels_visited(sampler, self.timesteps if n_steps is None else n_steps, self.timesteps)
        path = moves(signal_shares(self.timesteps), levels)
        was_training = self.training
        self.eval()
        try:
            found = torch.empty(condition.shape, device=condition.device)
            for rows in self._parts(condition):
                noise = RowNoise(seeds[rows], tuple(condition.shape[1:]), condition.device)
                found[rows] = sample(_Guided(self, condition[rows], guidance), path, noise)
        finally:
            self.train(was_training)
        return found / (self.scale * self.unit) + self.offset

    def _parts(self, condition: Tensor) -> list[slice]:
        tokens = TOKENS_AT_ONCE_CPU if condition.device.type == "cpu" else TOKENS_AT_ONCE
        n_rows = max(1, tokens // (2 * self.n_tokens + 1))
        return [slice(start, start + n_rows) for start in range(0, len(condition), n_rows)]


class _Guided:
    """A prior under a condition, as the sampler sees it (Ho and Salimans 2022)."""

    def __init__(self, prior: Prior, condition: Tensor, guidance: float) -> None:
        self.prior, self.condition, self.guidance = prior, condition, guidance

    def __call__(self, noisy: Tensor, levels: Tensor) -> Tensor:
        with_condition = self.prior(noisy, levels, self.condition)
        if self.guidance == 1:
            return with_condition
        return torch.lerp(self.prior(noisy, levels, None), with_condition, self.guidance)
