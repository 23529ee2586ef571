"""Mind Reader's mapper (Lin, Sprague and Singh 2022, section 3): voxels as a signal in one dimension."""

import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from percept.decoders.networks.mapper_settings import MapperNetwork

STRIDE = 2  # of the first convolution, whose kernel of 4 with a margin of 1 halves an even length exactly


def padding(n_voxels: int, multiple: int) -> tuple[int, int]:
    """Zeros before and after `n_voxels` that make their number an even multiple of `multiple`.

    Both sides get as many; where that is impossible the end gets one more.
    """
    step = multiple if multiple % STRIDE == 0 else multiple * STRIDE
    missing = -n_voxels % step
    return missing // 2, missing - missing // 2


class Residual(nn.Module):
    """Three convolutions (kernels 3, 3 and 1) around which the input passes, then ReLU; length stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, signal: Tensor) -> Tensor:
        """Of (row, channel, position), the same shape."""
        return F.relu(self.layers(signal) + signal)


class MapperLayers(nn.Module):
    """Responses (row, voxel) to embeddings (row, dim).

    Convolutions along the voxels end in a channel for each number of the embedding. Then positions become
    features: one small network, the same for all numbers, reads a number off its channel. That is why 15,724
    voxels and 512 dimensions need 1.16 million parameters only.
    """

    def __init__(self, n_voxels: int, dim: int, network: MapperNetwork) -> None:
        super().__init__()
        self.padding = padding(n_voxels, network.multiple)
        n_positions = (n_voxels + sum(self.padding)) // STRIDE
        self.encoder = nn.Sequential(
            nn.Conv1d(1, network.channels, 4, stride=STRIDE, padding=1),
            nn.ReLU(),
            *(Residual(network.channels) for _ in range(network.blocks)),
            nn.Conv1d(network.channels, dim, 1),
        )
        self.reader = nn.Sequential(
            nn.ReLU(), nn.Linear(n_positions, network.hidden), nn.ReLU(), nn.Linear(network.hidden, 1)
        )

    def forward(self, voxels: Tensor) -> Tensor:
        """Of responses (row, voxel), (row, dim)."""
        signal = F.pad(voxels, self.padding).unsqueeze(1)  # (row, 1, padded voxel)
        return self.reader(self.encoder(signal)).squeeze(2)  # from (row, dim, position)
