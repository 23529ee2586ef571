"""MindEye's low level as the engine trains it (Scotti et al. 2023, section 3.4)."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from percept.decoders.networks.blocks import evaluating
from percept.decoders.networks.losses import dense_soft_clip
from percept.decoders.networks.lowlevel import (
    LowLevelBackbone,
    Upsampler,
    map_size,
    n_grid_positions,
    on_grid,
    teaching_head,
)
from percept.decoders.networks.repeats import averages, response
from percept.decoders.networks.settings import LowLevelLosses, LowLevelNetwork, Repeats
from percept.decoders.training.learner import Batch, Data, Learner, When
from percept.files import PerceptError

ROWS = 64  # per forward pass outside training


class Settings(Protocol):
    """What of a decoder's section of the config shapes its learner."""

    @property
    def network(self) -> LowLevelNetwork:
        """Layers."""

    @property
    def losses(self) -> LowLevelLosses:
        """What is minimised."""

    @property
    def repeats(self) -> Repeats:
        """Which response to an image trains."""


class LowLevel(Learner):
    """A residual network to a feature map, an upsampler to a latent; given a teacher, a head to its space.

    Parameters
    ----------
    n_voxels : of a response
    shape : (channel, height, width) of a latent
    teacher : (token, dim) of the teacher's features of an image, where there is a teacher and its loss counts

    Raises
    ------
    PerceptError : shapes of the latent or of the teacher that do not fit the map
    """

    def __init__(
        self,
        n_voxels: int,
        shape: tuple[int, ...],
        settings: Settings,
        teacher: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        network, size = settings.network, map_size(tuple(shape), settings.network)
        self.losses, self.repeats = settings.losses, settings.repeats
        self.backbone = LowLevelBackbone(n_voxels, size, network)
        self.upsampler = Upsampler(shape[0], network.up_channels, network.map_channels)
        self.n_positions, self.head = 0, None
        if teacher is not None and self.losses.auxiliary:
            n_tokens, dim = _tokens(teacher)
            self.n_positions = n_grid_positions(n_tokens, size)
            self.head = teaching_head(network.map_channels, network.teacher_width, dim)

    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        """Responses, latents and the teacher's features; nothing is mixed between images."""
        named = ("target",) if self.head is None else ("target", "teacher", "teacher_view")
        there = {name: data.tensors[name][rows] for name in named if name in data.tensors}
        return {"voxels": response(data, rows, self.repeats, when.step, rng), **there}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``l1`` (row,), absolute error of a latent; with a teacher, ``student`` (row, position, dim)."""
        features = self.backbone(batch["voxels"])
        error = self.upsampler(features).float() - batch["target"].float()
        found = {"l1": error.abs().flatten(1).mean(dim=1)}
        if self.head is not None:
            found["student"] = on_grid(self.head(features), self.n_positions)
        return found

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        """Weighted sum of the absolute error and, with a teacher, the dense contrast with it."""
        l1 = found["l1"].mean()
        if self.head is None:
            return {"loss": self.losses.l1 * l1, "l1": l1}
        taught = self._positions(batch["teacher"])
        view = self._positions(batch["teacher_view"]) if "teacher_view" in batch else None
        auxiliary = dense_soft_clip(found["student"], taught, view, self.losses.temperature)
        return {
            "loss": self.losses.l1 * l1 + self.losses.auxiliary * auxiliary,
            "l1": l1,
            "auxiliary": auxiliary,
        }

    def _positions(self, tokens: Tensor) -> Tensor:
        """The teacher's tokens (row, position, dim) without a class token, which comes first."""
        return tokens[:, tokens.shape[1] - self.n_positions :]

    def validate(self, data: Data, when: When) -> dict[str, float]:
        """Mean absolute error of the latents of mean responses, as ``loss``, and ``correlation``: the mean
        over images of the correlation between predicted and true latent.
        """
        errors, correlations = [], []
        for rows in torch.arange(data.n_rows, device=data.tensors["target"].device).split(ROWS):
            found = self.upsampler(self.backbone(averages(data, rows))).float().flatten(1)
            true = data.tensors["target"][rows].float().flatten(1)
            errors.append((found - true).abs().mean(dim=1))
            correlations.append(_correlation(found, true))
        return {
            "loss": float(torch.cat(errors).mean()),
            "correlation": float(torch.cat(correlations).mean()),
        }

    @torch.no_grad()
    def predict(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents of responses (row, voxel) in evaluation mode, flat: (row, channel x height x width)."""
        device = next(self.parameters()).device
        with evaluating(self):
            parts = [
                self.upsampler(self.backbone(rows.to(device))).flatten(1).float().cpu()
                for rows in torch.as_tensor(voxels).split(ROWS)
            ]
        return torch.cat(parts).numpy()


def _tokens(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise PerceptError(
            f"a teacher's features of an image are tokens (position, dim), not of shape "
            f"{'x'.join(map(str, shape))}: set `teacher` to a target with dense tokens, or to null."
        )
    return shape[0], shape[1]


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Of each row, (row,); 0 where one is constant."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    return torch.nn.functional.cosine_similarity(a, b, dim=1)
