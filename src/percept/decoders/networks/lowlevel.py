"""Layers from voxels to the latent of an image (Scotti et al. 2023, appendix A.2)."""

import math

import torch.nn.functional as F  # noqa: N812 (its usual name)
from diffusers.models.autoencoders.vae import Decoder
from torch import Tensor, nn

from percept.decoders.networks.blocks import Backbone, Layers
from percept.decoders.networks.settings import LowLevelNetwork
from percept.files import PerceptError

NORM_GROUPS = 32  # of the upsampler's norms, or fewer where channels do not divide


def map_size(latent: tuple[int, ...], network: LowLevelNetwork) -> tuple[int, int]:
    """Height and width of the map that the upsampler turns into latents (channel, height, width).

    Raises
    ------
    PerceptError : the target is no such latent, or its size is not a multiple of the upsampler's factor
    """
    factor = 2 ** (len(network.up_channels) - 1)
    if len(latent) != 3 or latent[1] % factor or latent[2] % factor:
        raise PerceptError(
            f"the low level cannot predict a target of shape {'x'.join(map(str, latent))}: it upsamples a "
            f"map {factor}-fold, and needs latents (channel, height, width) whose sides are multiples of "
            f"{factor}. Set `target` to the latents of an autoencoder, or change the number of "
            "`network.up_channels`."
        )
    return latent[1] // factor, latent[2] // factor


class Upsampler(Decoder):
    """Decoder of a variational autoencoder, (row, map channel, h, w) -> (row, *latent)."""

    def __init__(self, n_channels: int, up_channels: tuple[int, ...], map_channels: int) -> None:
        super().__init__(
            in_channels=map_channels,
            out_channels=n_channels,
            up_block_types=("UpDecoderBlock2D",) * len(up_channels),
            block_out_channels=up_channels,
            layers_per_block=1,
            norm_num_groups=math.gcd(NORM_GROUPS, *up_channels),
        )


def teaching_head(map_channels: int, width: int, dim: int) -> nn.Sequential:
    """Three 1 x 1 convolutions, from the map to the space of a teacher."""
    return nn.Sequential(
        nn.Conv2d(map_channels, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(1, width),
        nn.ReLU(),
        nn.Conv2d(width, dim, 1),
    )


class LowLevelBackbone(nn.Module):
    """A backbone without biases, whose output is a map of channels: (row, voxel) -> (row, channel, h, w)."""

    def __init__(self, n_voxels: int, size: tuple[int, int], network: LowLevelNetwork) -> None:
        super().__init__()
        layers = Layers(
            network.width,
            network.blocks,
            dropout=network.dropout,
            block_dropout=network.block_dropout,
            activation="silu",
            bias=False,
        )
        self.shape = (network.map_channels, *size)
        self.layers = Backbone(n_voxels, math.prod(self.shape), layers)
        self.norm = nn.GroupNorm(1, network.map_channels)
        if network.init == "xavier":
            self.layers.apply(_xavier)

    def forward(self, voxels: Tensor) -> Tensor:
        """Of responses (row, voxel), (row, channel, h, w)."""
        return self.norm(self.layers(voxels).unflatten(1, self.shape))


def _xavier(module: nn.Module) -> None:
    """Glorot and Bengio's (2010) uniform first weights, of a linear layer; other modules are left alone."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)


def on_grid(features: Tensor, n_positions: int) -> Tensor:
    """Features (row, dim, h, w) at the positions of a teacher, (row, position, dim).

    Positions are a square grid, row by row, or else the map's own. A grid of another size is interpolated.
    """
    height, width = features.shape[2:]
    if height * width != n_positions:
        side = math.isqrt(n_positions)
        features = F.interpolate(features, (side, side), mode="bilinear", antialias=True)
    return features.flatten(2).transpose(1, 2)


def n_grid_positions(n_tokens: int, size: tuple[int, int]) -> int:
    """Positions among a teacher's tokens: all, or all but the first where that is a class token.

    Raises
    ------
    PerceptError : they form no grid
    """
    for n in (n_tokens, n_tokens - 1):
        if n == math.prod(size) or (n > 0 and math.isqrt(n) ** 2 == n):
            return n
    raise PerceptError(
        f"the teacher has {n_tokens} tokens, which form no square grid, with or without a class token before "
        "them, so that the low level's feature map cannot be held against them: set `teacher` to a target "
        "with dense tokens of images (position, dim), or to null."
    )
