"""MindEye's low level (Scotti et al. 2023): from voxels to the latent of a blurry image.

A residual network maps voxels to a small feature map, which an upsampler turns into the latent of an
autoencoder. Beside the latent's absolute error, the map can be held against the dense tokens of a teacher.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from percept.decoders import compat
from percept.decoders.initial import InitialisedConfig, hidden
from percept.decoders.networks.settings import REPEATS, LowLevelLosses, LowLevelNetwork, Repeats
from percept.decoders.task import Block, Task
from percept.decoders.training.settings import TrainingConfig
from percept.decoders.weights import Shapes
from percept.sections import Identifier

if TYPE_CHECKING:
    from percept.decoders.networks.lowlevel_learner import LowLevel

# What the public code does (commit 6b30ea5) where that differs from what the paper means. Its order of mixing
# and loss (H9) is right here, and mixing is off whenever the teacher is there.
MINDEYE1: compat.Preset = {
    "repeats": "mixed",
    "training": {
        "decayed": "all_but_biases",  # gains decay too
        "select": "last",  # H10: what its validation saw was the test set; the last weights are published
    },
}

# The low level of the voting pipeline (Koios1143/Machine-Learning-Final, 2023, commit 56fd849): MindEye's at
# half width, towards the latent alone. What its code gets wrong (an order of rows that is never shuffled, a
# schedule that is computed for other data, the last weights) is left as it is here: right.
VOTING: compat.Preset = {
    "network": {"width": 2048, "block_dropout": 0.3, "init": "xavier"},
    "losses": {"l1": 1.0, "auxiliary": 0.0},
    "repeats": "averaged",
    "training": {"epochs": 200, "batch_size": 16},
}

DENSE = ({"kind": "clip_image", "output": "tokens"},)  # targets with an embedding per position of the image


class LowLevelTraining(TrainingConfig):
    """How the low level is trained: as the high level, but shorter, in smaller batches, and faster."""

    epochs: PositiveInt = Field(120, description="Passes over the training images.")
    batch_size: PositiveInt = Field(8, description="Images per step, over all devices together.")
    learning_rate: PositiveFloat = Field(5e-4, description="Highest learning rate of the cycle.")


class LowLevelConfig(InitialisedConfig):
    """MindEye's low level (Scotti et al. 2023): a residual network and an upsampler, to a latent."""

    unit: ClassVar[Literal["average", "single"] | None] = "single"  # `repeats` says how they are used
    cross_validates: ClassVar[bool] = False
    further_fields: ClassVar[tuple[str, ...]] = ("teacher", "teacher_view")
    harmless: ClassVar[Mapping[str, frozenset[str]]] = {"training": TrainingConfig.harmless}
    demands: ClassVar[Mapping[str, tuple[Mapping[str, str], ...]]] = {
        "target": ({"kind": "vae_latent"},),
        "teacher": DENSE,
        "teacher_view": DENSE,
    }

    kind: Literal["lowlevel"] = "lowlevel"
    network: LowLevelNetwork = LowLevelNetwork()
    losses: LowLevelLosses = LowLevelLosses()
    teacher: Identifier | None = Field(
        None,
        description="Entry of `targets` with dense tokens of the images, (position, dim), that the feature "
        "map is held against; null trains on the latent alone.",
    )
    teacher_view: Identifier | None = Field(
        None,
        description="Entry of `targets` with the teacher's tokens of augmented images, whose similarity to "
        "the clean ones gives the soft labels; null takes the clean ones.",
    )
    repeats: Repeats = Field("mixed", description=REPEATS)
    training: LowLevelTraining = LowLevelTraining()
    weights: Literal["float32", "float16"] = Field("float32", description="Precision of the saved weights.")
    compat: Literal["mindeye1", "voting"] | None = Field(
        None,
        description="Preset for every switch that is left open. mindeye1 does as the public code of MindEye: "
        "one repeat, their mean or a random mixture, as drawn for the whole batch (repeats: mixed), decay of "
        "gains (training.decayed: all_but_biases), the last weights (training.select: last). voting has the "
        "sizes of the voting pipeline's low level (network.width: 2048, network.block_dropout: 0.3, "
        "network.init: xavier, losses.l1: 1.0, losses.auxiliary: 0.0, repeats: averaged, training.epochs: "
        "200, training.batch_size: 16).",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a config file holds)
        return compat.filled(given, {"mindeye1": MINDEYE1, "voting": VOTING})

    @model_validator(mode="after")
    def _a_view_has_its_teacher(self) -> Self:
        if self.teacher_view is not None and self.teacher is None:
            raise ValueError(
                f"`teacher_view` names {self.teacher_view!r}, the augmented side of a teacher, but there is "
                "no `teacher` to compare it with: name the target of the clean images too, or leave out both"
            )
        return self

    @property
    def encoder(self) -> dict[str, Any]:
        """Hidden layers, which a decoder whose weights it begins with has to share."""
        fixed = {"residual": True, "stem": "mlp", "block": "mindeye", "activation": "silu", "bias": False}
        return hidden(self.network, **fixed)

    @property
    def n_gpus(self) -> int:
        """GPUs that training asks a cluster for."""
        return self.training.n_gpus

    @property
    def note(self) -> str:
        """What the table says of it: the teacher that stands in for the paper's, or that there is none."""
        teacher = f"teacher: {self.teacher}" if self.taught else "no teacher, so no auxiliary loss"
        return f"{teacher}; compat: {self.compat}" if self.compat else teacher

    @property
    def taught(self) -> dict[str, str]:
        """Tensor of the training data -> target of the teacher; none where its loss has no weight."""
        named = {"teacher": self.teacher, "teacher_view": self.teacher_view}
        return {tensor: name for tensor, name in named.items() if name and self.losses.auxiliary > 0}

    @property
    def further(self) -> tuple[str, ...]:
        """Entries of `targets` that training reads besides the latent."""
        return tuple(dict.fromkeys(self.taught.values()))

    def tensors(self, n_voxels: int, shape: tuple[int, ...]) -> Shapes:
        """Saved weights: the state of the network without the head that meets the teacher."""
        import torch

        from percept.decoders.training import answers

        with torch.device("meta"):
            return answers.shapes(self.build(n_voxels, shape), self.weights)

    def build(
        self, n_voxels: int, shape: tuple[int, ...], teacher: tuple[int, ...] | None = None
    ) -> "LowLevel":
        """The network before training, for responses (row, voxel), latents (row, *shape) and, where there is
        a teacher, its tokens (row, *teacher).
        """
        from percept.decoders.networks.lowlevel_learner import LowLevel

        return LowLevel(n_voxels, shape, self, teacher)

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit, or go on where a fit was interrupted; then predict latents."""
        from percept.decoders.training import answers, resident
        from percept.decoders.training.fit import fit

        teachers = {tensor: task.extra[name] for tensor, name in self.taught.items()}
        tokens = teachers["teacher"].shape if teachers else None
        learner = answers.initialised(lambda: self.build(task.X.shape[1], task.targets.shape, tokens), seed)
        self.begin(learner, learner.backbone.layers, task)
        data = resident.training(task, teachers), resident.validation(task)
        outcome = fit(learner, *data, self.training, answers.job(self, task, seed))
        weights = answers.state(learner, without=("head.",))
        yield from answers.blocks(task, outcome, weights, partial(self.predict, learner))

    def predict(self, learner: "LowLevel", X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents, (row, channel x height x width), of responses (row, voxel)."""
        from percept.decoders.training import answers

        with answers.arithmetic(learner, self.training.precision):
            return learner.predict(X)
