"""MixCo: responses to two images, added with random weights (Kim et al. 2020; Scotti et al. 2023)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from percept.decoders.networks.settings import FixedPoints
from percept.decoders.training.learner import send

BETA, SHARE = 0.15, 0.5  # MindEye's


@dataclass(frozen=True)
class Mixing:
    """Which rows of a batch are mixed with which.

    partner : (row,) int64, a permutation of the rows
    weight : (row,) float32 in [0, 1], of a row itself; its partner has the rest. 1 leaves the row as it is
    """

    partner: Tensor
    weight: Tensor

    def labels(self, fixed_points: FixedPoints = "added") -> Tensor:
        """Share that each image has in each row, (row, image) float32.

        Parameters
        ----------
        fixed_points : a row that the permutation leaves in place has all of its own image, weight plus rest,
            if they are ``added``. ``assigned`` writes the rest over the weight, as MindEye's code does: such
            a row has 1 - weight of its image and of no other, which is nothing where it was not mixed at all
        """
        n = len(self.partner)
        found = torch.diag(self.weight)
        place = (torch.arange(n, device=found.device), self.partner)
        return found.index_put(place, 1 - self.weight, accumulate=fixed_points == "added")

    @property
    def mixed(self) -> Tensor:
        """Rows that hold the responses to two images, (row,) bool."""
        itself = torch.arange(len(self.partner), device=self.partner.device)
        return (self.weight < 1) & (self.partner != itself)

    def to(self, device: torch.device) -> "Mixing":
        """The same, as it was drawn on the CPU, on another device; what that is doing is not waited for."""
        return Mixing(send(self.partner.numpy(), device), send(self.weight.numpy(), device))


def draw_mixing(n: int, rng: np.random.Generator, beta: float = BETA, share: float = SHARE) -> Mixing:
    """Partners by a random permutation of `n` rows; weights ~ Beta(beta, beta) in a `share` of the rows, on
    average, and 1 in the others.
    """
    partner = rng.permutation(n)
    weight = np.where(rng.random(n) < share, rng.beta(beta, beta, n), 1.0)
    return Mixing(torch.from_numpy(partner), torch.from_numpy(weight.astype(np.float32)))


def mix(x: Tensor, mixing: Mixing) -> Tensor:
    """Rows (row, ...) mixed with their partners: weight x_i + (1 - weight) x_partner(i)."""
    weight = mixing.weight.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return weight * x + (1 - weight) * x[mixing.partner]
