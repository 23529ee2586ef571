"""VoxelCLIP's encoders: from voxels to an image embedding (A. Dempster, 2022; later of MindEye).

The project published its code as a change of open_clip and a text about it, and no paper. Layers and sizes
follow the code where the two disagree.
"""

import torch
from torch import Tensor, nn

from percept.decoders.networks.box import Box
from percept.decoders.networks.voxelclip_settings import FlatNetwork, VolumeNetwork


class Volume(nn.Module):
    """Puts voxels into the box of their mask, (row, voxel) -> (row, 1, i, j, k); 0 in all other cells.

    Where the box is and which cell is whose are saved with the weights, so that a map of the box can be read
    back as voxels without the data set.
    """

    def __init__(self, box: Box) -> None:
        super().__init__()
        self.register_buffer("cell", torch.from_numpy(box.cell))
        self.register_buffer("origin", torch.from_numpy(box.origin))
        self.register_buffer("shape", torch.tensor(box.shape))
        self.grid = box.shape

    def forward(self, voxels: Tensor) -> Tensor:
        """Volumes of responses (row, voxel)."""
        empty = voxels.new_zeros(len(voxels), self.grid[0] * self.grid[1] * self.grid[2])
        return empty.index_copy(1, self.cell, voxels).unflatten(1, (1, *self.grid))


class VolumeEncoder(nn.Module):
    """Convolutions, attention, head: (row, voxel) -> (row, n_out)."""

    def __init__(self, box: Box, n_out: int, network: VolumeNetwork) -> None:
        super().__init__()
        self.volume = Volume(box)
        self.convolutions = nn.Sequential(*_convolutions(network))
        width = network.channels[-1]
        self.attention = _blocks(
            width, network.attention_layers, network.heads, network.mlp_ratio, network.attention_dropout
        )
        self.flattens = network.read == "flatten"
        self.head = _head(network.n_features(box.shape), n_out, network)

    def forward(self, voxels: Tensor) -> Tensor:
        """Embeddings of responses (row, voxel)."""
        features = self.convolutions(self.volume(voxels))
        tokens = self.attention(features.flatten(2).transpose(1, 2))  # (row, position, channel)
        return self.head(tokens.flatten(1) if self.flattens else tokens.mean(dim=1))


class FlatEncoder(nn.Module):
    """A transformer on tokens of `patch` voxels each, in the order of the list: (row, voxel) -> (row, n_out).

    Tokens have learned positions, because nothing else tells them apart; the last one is filled with zeros.
    """

    def __init__(self, n_voxels: int, n_out: int, network: FlatNetwork) -> None:
        super().__init__()
        self.patch, self.n_tokens = network.patch, -(-n_voxels // network.patch)
        self.lacking = self.n_tokens * self.patch - n_voxels
        self.embedding = nn.Linear(self.patch, network.width)
        self.position = nn.Parameter(torch.zeros(self.n_tokens, network.width))
        nn.init.normal_(self.position, std=0.02)  # as in ViT and CLIP
        self.attention = _blocks(
            network.width, network.layers, network.heads, network.mlp_ratio, network.dropout
        )
        self.head = nn.Sequential(nn.LayerNorm(network.width), nn.Linear(network.width, n_out))

    def forward(self, voxels: Tensor) -> Tensor:
        """Embeddings of responses (row, voxel)."""
        padded = nn.functional.pad(voxels, (0, self.lacking))
        tokens = self.embedding(padded.unflatten(1, (self.n_tokens, self.patch))) + self.position
        return self.head(self.attention(tokens).mean(dim=1))


def _convolutions(network: VolumeNetwork) -> list[nn.Module]:
    """Convolution, dropout of whole channels and GELU, as often as there are channels."""
    layers: list[nn.Module] = []
    n_in = 1
    lists = (network.channels, network.kernels, network.strides, network.padding)
    for n_out, kernel, stride, padding in zip(*lists, strict=True):
        layers += [nn.Conv3d(n_in, n_out, kernel, stride, padding), nn.Dropout3d(network.dropout), nn.GELU()]
        n_in = n_out
    return layers


def _blocks(width: int, n_blocks: int, heads: int, mlp_ratio: int, dropout: float) -> nn.Sequential:
    """Transformer blocks, norm first: attention and a two-layer network, each added to its input."""
    return nn.Sequential(
        *(
            nn.TransformerEncoderLayer(
                width, heads, mlp_ratio * width, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(n_blocks)
        )
    )


def _head(n_in: int, n_out: int, network: VolumeNetwork) -> nn.Sequential:
    """Hidden layers with GELU and dropout, and a linear layer."""
    layers: list[nn.Module] = []
    for width in network.hidden:
        layers += [nn.Linear(n_in, width), nn.GELU(), nn.Dropout(network.dropout)]
        n_in = width
    return nn.Sequential(*layers, nn.Linear(n_in, n_out))
