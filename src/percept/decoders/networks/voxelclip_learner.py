"""VoxelCLIP as the engine trains it: contrast with the embeddings of a frozen CLIP."""

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from percept.decoders.networks import losses
from percept.decoders.networks.blocks import evaluating
from percept.decoders.networks.box import Box
from percept.decoders.networks.mindeye import top1
from percept.decoders.networks.repeats import averages, response
from percept.decoders.networks.settings import Repeats
from percept.decoders.networks.voxelclip import FlatEncoder, VolumeEncoder
from percept.decoders.networks.voxelclip_settings import FlatNetwork, VolumeNetwork
from percept.decoders.training.learner import Batch, Data, Learner, When

ROWS = 64  # per forward pass outside training
FIRST_SCALE = math.log(1 / 0.07)  # logarithm of 1 / temperature at the start (Radford et al. 2021)
MOST_SCALE = math.log(100)  # and at most, so that training stays stable (ibid., section 2.5)


class Settings(Protocol):
    """What of a decoder's section of the config shapes its learner."""

    @property
    def network(self) -> VolumeNetwork | FlatNetwork:
        """Layers."""

    @property
    def voxel_dropout(self) -> float:
        """Share of the voxels that a training step does not see."""

    @property
    def repeats(self) -> Repeats:
        """Which response to an image trains."""


class VoxelClip(Learner):
    """An encoder of voxels, and the temperature at which it is contrasted with embeddings of images.

    Parameters
    ----------
    n_voxels : of a response
    dim : of an embedding
    box : where the voxels are, for networks on volumes
    """

    def __init__(self, n_voxels: int, dim: int, settings: Settings, box: Box | None = None) -> None:
        super().__init__()
        self.repeats, network = settings.repeats, settings.network
        # Of single voxels. Channel dropout on an input of one channel would empty whole volumes.
        self.dropout = nn.Dropout(settings.voxel_dropout)
        self.encoder = (
            VolumeEncoder(box, dim, network) if box is not None else FlatEncoder(n_voxels, dim, network)
        )
        self.log_scale = nn.Parameter(torch.tensor(FIRST_SCALE))  # a single number, which does not decay

    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        """Responses and embeddings; before each step the scale is brought back between 1 and 100.

        So a step may leave that range, and the gradient leads back into it; clamped in the loss instead, the
        scale would stay where its gradient is 0.
        """
        with torch.no_grad():
            self.log_scale.clamp_(0, MOST_SCALE)
        return {
            "voxels": response(data, rows, self.repeats, when.step, rng),
            "target": data.tensors["target"][rows],
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``embedding`` (row, dim), and ``log_scale`` (row,), the same for each row."""
        embedding = self.encoder(self.dropout(batch["voxels"]))
        return {"embedding": embedding, "log_scale": self.log_scale.expand(len(embedding))}

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        """Symmetric InfoNCE at the learned temperature, which is reported beside it."""
        temperature = (-found["log_scale"].float().mean()).exp()
        loss = losses.info_nce(found["embedding"], batch["target"], temperature)
        return {"loss": loss, "temperature": temperature.detach()}

    def validate(self, data: Data, when: When) -> dict[str, float]:
        """How well the mean response to each image finds it among all of the data, and the image it.

        ``loss`` is InfoNCE over all of them at the temperature that suits it best; ``image_given_brain`` and
        ``brain_given_image`` are the shares of queries whose own counterpart ranks first.
        """
        rows = torch.arange(data.n_rows, device=data.tensors["target"].device)
        found = torch.cat([self.encoder(averages(data, part)).float() for part in rows.split(ROWS)])
        cosines = losses.similarity(found, data.tensors["target"])
        return {"loss": losses.calibrated(cosines), **top1(cosines)}

    @torch.no_grad()
    def predict(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings of unit length, (row, dim), of responses (row, voxel), in evaluation mode."""
        device = self.log_scale.device
        with evaluating(self):
            parts = [
                losses.unit(self.encoder(rows.to(device))).cpu()
                for rows in torch.as_tensor(voxels).split(ROWS)
            ]
        return torch.cat(parts).numpy()
