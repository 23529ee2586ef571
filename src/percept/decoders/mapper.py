"""Mind Reader's mapper (Lin, Sprague and Singh 2022): from voxels to a CLIP vector of image or caption.

The flat vector of voxels is read as a signal in one dimension by a small convolutional network. Mind Reader
has two mappers, for the vector of the image and for that of its caption: two entries of the configuration.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from percept.config import DecoderConfig
from percept.decoders.networks.mapper_settings import EmbeddingSettings, MapperLosses, MapperNetwork
from percept.decoders.networks.settings import REPEATS, Repeats
from percept.decoders.task import Block, Task
from percept.decoders.training.settings import Schedule, TrainingConfig
from percept.decoders.weights import Shapes
from percept.files import PerceptError

if TYPE_CHECKING:
    from percept.decoders.networks.mapper_learner import Mapper


class MapperTraining(TrainingConfig):
    """How the mapper is trained: 40 epochs at a rate that falls to 0.8 of itself every ten."""

    epochs: PositiveInt = Field(40, description="Passes over the training images.")
    batch_size: PositiveInt = Field(32, description="Images per step, over all devices together.")
    learning_rate: PositiveFloat = Field(2e-4, description="Learning rate of the first epochs.")
    schedule: Schedule = Field("steps", description="one_cycle, or steps: it falls every `step_epochs`.")
    weight_decay: NonNegativeFloat = Field(1e-5, description="Decoupled weight decay.")


class MapperConfig(DecoderConfig):
    """Mind Reader's mapper (Lin, Sprague and Singh 2022): a convolutional network along the voxels."""

    unit: ClassVar[Literal["average", "single"] | None] = "single"  # `repeats` says how they are used
    cross_validates: ClassVar[bool] = False
    harmless: ClassVar[Mapping[str, frozenset[str]]] = {"training": TrainingConfig.harmless}
    demands: ClassVar[Mapping[str, tuple[Mapping[str, str], ...]]] = {
        "target": (
            {"kind": "clip_image", "output": "pooled"},
            {"kind": "clip_text", "output": "pooled"},
            {"kind": "open_clip"},
            {"kind": "truth"},
        )
    }

    kind: Literal["mapper"] = "mapper"
    network: MapperNetwork = MapperNetwork()
    embedding: EmbeddingSettings = EmbeddingSettings()
    losses: MapperLosses = MapperLosses()
    repeats: Repeats = Field("sampled", description=REPEATS)
    training: MapperTraining = MapperTraining()
    weights: Literal["float32", "float16"] = Field("float32", description="Precision of the saved weights.")

    @model_validator(mode="after")
    def _something_is_minimised(self) -> Self:
        losses = self.losses
        if not losses.contrast and not losses.mse and not losses.cosine:
            raise ValueError(
                "there is nothing to learn: `losses.mse`, `losses.cosine` and `losses.contrast` are all 0. "
                "Give one of them a weight"
            )
        return self

    @property
    def n_gpus(self) -> int:
        """GPUs that training asks a cluster for."""
        return self.training.n_gpus

    def tensors(self, n_voxels: int, shape: tuple[int, ...]) -> Shapes:
        """Saved weights: the layers, and the length of predictions."""
        import torch

        from percept.decoders.training import answers

        with torch.device("meta"):
            return answers.shapes(self.build(n_voxels, shape), self.weights)

    def build(self, n_voxels: int, shape: tuple[int, ...]) -> "Mapper":
        """The network before training, for responses (row, voxel) and embeddings (row, dim).

        Raises
        ------
        PerceptError : the target is no vector, such as one of tokens
        """
        from percept.decoders.networks.mapper_learner import Mapper

        if len(shape) != 1:
            raise PerceptError(
                f"the mapper predicts one vector per image, not a target of shape "
                f"{'x'.join(map(str, shape))}: set `target` to a pooled embedding, or use another decoder."
            )
        return Mapper(n_voxels, shape[0], self)

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit, or go on where a fit was interrupted; then predict embeddings."""
        from percept.decoders.training import answers, resident
        from percept.decoders.training.fit import fit

        learner = answers.initialised(lambda: self.build(task.X.shape[1], task.targets.shape), seed)
        data = resident.training(task), resident.validation(task)
        learner.standardise(data[0].tensors["target"])
        outcome = fit(learner, *data, self.training, answers.job(self, task, seed))
        yield from answers.blocks(task, outcome, answers.state(learner), partial(self.predict, learner))

    def predict(self, learner: "Mapper", X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings (row, dim) of responses (row, voxel)."""
        from percept.decoders.training import answers

        with answers.arithmetic(learner, self.training.precision):
            return learner.predict(X)
