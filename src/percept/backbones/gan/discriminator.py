"""The discriminator: residual, with the spread of the minibatch and a projection onto the conditions."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from percept.backbones.gan.generator import SMALLEST
from percept.backbones.gan.layers import Conv, Linear, halved, rectified, with_spread


@dataclass(frozen=True)
class Judged:
    """What the discriminator says of images: a logit (batch,), and the condition that it sees in them.

    ``seen`` (batch, condition), not normalised, in the space of the conditions.
    """

    logit: Tensor
    seen: Tensor

    def score(self, c: Tensor) -> Tensor:
        """Logit of each image, (batch,), given its condition c (batch, condition): l + <seen, c>.

        The inner product is one of each image with its own condition (Miyato and Koyama 2018, equation 3).
        The public code of LAFITE sums it over the whole batch as well, which tells no image from another.
        """
        return self.logit + (self.seen * c).sum(dim=1)


class Block(nn.Module):
    """Halves the side: two convolutions beside a linear shortcut (Karras et al. 2020, section 4.1)."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = Conv(n_in, n_in, 3), Conv(n_in, n_out, 3)
        self.shortcut = Conv(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_out, row / 2, column / 2)."""
        kept = self.shortcut(halved(x))
        changed = rectified(self.second(halved(rectified(self.first(x)))))
        return (kept + changed) / math.sqrt(2)


class Discriminator(nn.Module):
    """Judges images (batch, 3, side, side) in -1..1.

    Parameters
    ----------
    channels : at 4 pixels, at 8, ..., in the order of the generator's
    conditions : features of each condition
    """

    def __init__(self, channels: tuple[int, ...], conditions: tuple[int, ...]) -> None:
        super().__init__()
        large = channels[::-1]
        self.colours = Conv(3, large[0], 1)
        self.blocks = nn.ModuleList(Block(n, m) for n, m in pairwise(large))
        self.last = Conv(channels[0] + 1, channels[0], 3)
        self.features = Linear(channels[0] * SMALLEST**2, channels[0])
        self.logit = Linear(channels[0], 1)
        self.projections = nn.ModuleList(Linear(channels[0], n) for n in conditions)

    def forward(self, images: Tensor) -> Judged:
        """What it says of each image."""
        x = rectified(self.colours(images))
        for block in self.blocks:
            x = block(x)
        x = rectified(self.last(with_spread(x)))
        features = rectified(self.features(x.flatten(1)))
        seen = torch.cat([project(features) for project in self.projections], dim=1)
        return Judged(self.logit(features).squeeze(1), seen)
