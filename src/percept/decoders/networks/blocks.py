"""Layers from voxels to tokens (Scotti et al. 2023, appendix A.1)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "silu": nn.SiLU}


@dataclass(frozen=True)
class Layers:
    """What a backbone is made of; see `settings.MindEyeNetwork`."""

    width: int = 4096
    blocks: int = 4
    residual: bool = True
    stem: Literal["mlp", "linear"] = "mlp"
    block: Literal["mindeye", "prenorm"] = "mindeye"
    dropout: float = 0.5
    block_dropout: float = 0.15
    activation: Literal["gelu", "silu"] = "gelu"
    bias: bool = True


def mlp(n_in: int, layers: Layers, dropout: float) -> nn.Sequential:
    """Linear, norm, activation, dropout."""
    return nn.Sequential(
        nn.Linear(n_in, layers.width, bias=layers.bias),
        nn.LayerNorm(layers.width),
        ACTIVATIONS[layers.activation](),
        nn.Dropout(dropout),
    )


def prenorm(layers: Layers) -> nn.Sequential:
    """Norm, linear, activation, dropout, linear: what MindEye2's mixer is meant to do to its one token, whose
    norm over a single element removes all that it is given.
    """
    return nn.Sequential(
        nn.LayerNorm(layers.width),
        nn.Linear(layers.width, layers.width, bias=layers.bias),
        ACTIVATIONS[layers.activation](),
        nn.Dropout(layers.block_dropout),
        nn.Linear(layers.width, layers.width, bias=layers.bias),
    )


class Encoder(nn.Module):
    """The hidden layers of a residual network: a first layer and blocks of equal width, (row, n_voxels) ->
    (row, width).
    """

    def __init__(self, n_voxels: int, layers: Layers) -> None:
        super().__init__()
        self.residual = layers.residual
        linear = layers.stem == "linear"
        self.stem = (
            nn.Linear(n_voxels, layers.width, bias=layers.bias)
            if linear
            else mlp(n_voxels, layers, layers.dropout)
        )
        self.blocks = nn.ModuleList(_block(layers) for _ in range(layers.blocks))

    def forward(self, voxels: Tensor) -> Tensor:
        """Of responses (row, voxel), (row, width)."""
        hidden = self.stem(voxels)
        for block in self.blocks:
            hidden = block(hidden) + hidden if self.residual else block(hidden)
        return hidden


class Backbone(Encoder):
    """A residual network of fully connected layers, (row, n_voxels) -> (row, n_out).

    An encoder, and a last linear layer, which holds most of the weights.
    """

    def __init__(self, n_voxels: int, n_out: int, layers: Layers) -> None:
        super().__init__(n_voxels, layers)
        self.last = nn.Linear(layers.width, n_out, bias=layers.bias)

    def forward(self, voxels: Tensor) -> Tensor:
        """Of responses (row, voxel), (row, n_out)."""
        return self.last(super().forward(voxels))


def _block(layers: Layers) -> nn.Sequential:
    return prenorm(layers) if layers.block == "prenorm" else mlp(layers.width, layers, layers.block_dropout)


class Projector(nn.Sequential):
    """Norm, activation and a linear layer, three times, of each token on its own: (..., dim) -> (..., dim).

    With it the contrastive loss and the prior need not agree on one space (Scotti et al. 2023, section 3.2).
    """

    def __init__(self, dim: int, width: int = 2048) -> None:
        sizes = (dim, width, width, dim)
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.LayerNorm(n_in), nn.GELU(), nn.Linear(n_in, n_out)]
        super().__init__(*layers)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Within it a network is in evaluation mode; afterwards in the one it was in."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
