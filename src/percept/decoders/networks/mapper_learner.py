"""Mind Reader's mapper as the engine trains it (Lin, Sprague and Singh 2022)."""

import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from percept.decoders.networks import losses
from percept.decoders.networks.blocks import evaluating
from percept.decoders.networks.mapper import MapperLayers
from percept.decoders.networks.mapper_settings import EmbeddingSettings, MapperLosses, MapperNetwork
from percept.decoders.networks.repeats import averages, response
from percept.decoders.networks.settings import Repeats
from percept.decoders.training.learner import Batch, Data, Learner, When

ROWS = 64  # per forward pass outside training, and embeddings widened to float32 at a time


class Settings(Protocol):
    """What of a decoder's section of the config shapes its learner."""

    @property
    def network(self) -> MapperNetwork:
        """Layers."""

    @property
    def embedding(self) -> EmbeddingSettings:
        """What training sees of the embeddings."""

    @property
    def losses(self) -> MapperLosses:
        """What is minimised."""

    @property
    def repeats(self) -> Repeats:
        """Which response to an image trains."""


class Mapper(Learner):
    """The layers, and how embeddings are clipped and scaled before they are learned.

    Parameters
    ----------
    n_voxels : of a response
    dim : of an embedding
    """

    length: Tensor  # mean length of the training embeddings, at which predictions are given

    def __init__(self, n_voxels: int, dim: int, settings: Settings) -> None:
        super().__init__()
        self.layers = MapperLayers(n_voxels, dim, settings.network)
        self.embedding, self.losses, self.repeats = settings.embedding, settings.losses, settings.repeats
        self.limit = math.inf
        self.register_buffer("length", torch.ones(1))

    def standardise(self, targets: Tensor) -> None:
        """Set where embeddings are clipped, and how long predictions are, by those (image, dim) of training.

        Nothing of it comes from validation or test images.
        """
        parts = targets.flatten(1).split(ROWS)
        if self.embedding.clip is not None:
            squares = sum(float(part.double().square().sum()) for part in parts)
            rms = math.sqrt(squares / targets.numel())
            self.limit = self.embedding.clip * (rms if self.embedding.clip_unit == "rms" else 1.0)
        lengths = torch.cat([self._clipped(part).norm(dim=1) for part in parts])
        self.length.fill_(float(lengths.mean()))

    def prepared(self, targets: Tensor) -> Tensor:
        """Embeddings (row, dim) as they are learned: clipped, and of length 1 where the settings say so."""
        clipped = self._clipped(targets)
        return F.normalize(clipped, dim=1) if self.embedding.normalise else clipped

    def _clipped(self, targets: Tensor) -> Tensor:
        return targets.flatten(1).float().clamp(-self.limit, self.limit)

    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        """Responses and embeddings of some images; nothing is mixed between images."""
        voxels = response(data, rows, self.repeats, when.step, rng)
        return {"voxels": voxels, "target": self.prepared(data.tensors["target"][rows])}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``predicted`` (row, dim); ``mse`` and ``cosine``, the loss 1 - cosine, (row,)."""
        predicted = self.layers(batch["voxels"]).float()
        error = (predicted - batch["target"]).square().mean(dim=1)
        cosine = 1 - F.cosine_similarity(predicted, batch["target"], dim=1)
        return {"predicted": predicted, "mse": error, "cosine": cosine}

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        """(1 - contrast) (mse MSE + cosine (1 - cos)) + contrast InfoNCE, over the whole batch."""
        weights = self.losses
        parts = {name: found[name].mean() for name in ("mse", "cosine")}
        regression = weights.mse * parts["mse"] + weights.cosine * parts["cosine"]
        if not weights.contrast:
            return {"loss": regression, **parts}
        contrast = losses.info_nce(found["predicted"], batch["target"], weights.temperature)
        total = (1 - weights.contrast) * regression + weights.contrast * contrast
        return {"loss": total, "contrastive": contrast, **parts}

    def validate(self, data: Data, when: When) -> dict[str, float]:
        """Scores of the mean response to each image.

        ``loss`` is the calibrated InfoNCE where a contrastive loss is minimised, else the regression loss;
        ``cosine`` is the mean of 1 - cosine.
        """
        device = data.tensors["target"].device
        parts = []
        for rows in torch.arange(data.n_rows, device=device).split(ROWS):
            target = self.prepared(data.tensors["target"][rows])
            parts.append(self({"voxels": averages(data, rows), "target": target}) | {"target": target})
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        info_nce = losses.calibrated_info_nce(found["predicted"], found["target"])
        mse, cosine = (float(found[name].mean()) for name in ("mse", "cosine"))
        regression = self.losses.mse * mse + self.losses.cosine * cosine
        loss = info_nce if self.losses.contrast else regression
        return {"loss": loss, "info_nce": info_nce, "mse": mse, "cosine": cosine}

    @torch.no_grad()
    def predict(self, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings (row, dim) of responses (row, voxel) in evaluation mode, at the length of true ones."""
        device = next(self.parameters()).device
        with evaluating(self):
            parts = [self.layers(rows.to(device)).float() for rows in torch.as_tensor(voxels).split(ROWS)]
        found = torch.cat(parts)
        found = F.normalize(found, dim=1) * self.length if self.embedding.normalise else found
        return found.cpu().numpy()
