"""VoxelCLIP (A. Dempster, 2022): voxels as a volume, encoded into the space of a frozen CLIP by contrast.

Where its public code does something else than it means, this does what is meant; docs/voxelclip.md lists it.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from percept.config import DecoderConfig
from percept.decoders import compat
from percept.decoders.networks.settings import REPEATS, Repeats
from percept.decoders.networks.voxelclip_settings import (
    VARIANTS,
    Network,
    Variant,
    VolumeNetwork,
    VoxelClipTraining,
)
from percept.decoders.task import Block, Task
from percept.decoders.weights import Shapes
from percept.sections import NonNegativeFraction

if TYPE_CHECKING:
    from percept.decoders.networks.voxelclip_learner import VoxelClip


class VoxelClipConfig(DecoderConfig):
    """VoxelCLIP (Dempster 2022): an encoder of the volume of voxels, contrasted with a frozen CLIP."""

    unit: ClassVar[Literal["average", "single"] | None] = "single"  # `repeats` says how they are used
    cross_validates: ClassVar[bool] = False
    harmless: ClassVar[Mapping[str, frozenset[str]]] = {"training": VoxelClipTraining.harmless}
    demands: ClassVar[Mapping[str, tuple[Mapping[str, str], ...]]] = {
        "target": ({"kind": "clip_image", "output": "pooled"}, {"kind": "open_clip"}, {"kind": "truth"})
    }

    kind: Literal["voxelclip"] = "voxelclip"
    variant: Variant = Field(
        "voxelclip6",
        description="Preset of `network`, for every setting of it that is left open. voxelclip6: six "
        "convolutions and two blocks of attention (the published encoder). voxelclip4: four convolutions. "
        "stride_first: as voxelclip6 at an eighth of the cost. convolutional and flat_transformer: its two "
        "ancestors, without attention, and on the voxels as a list.",
    )
    network: Network = Field(VolumeNetwork(), description="Layers.")
    voxel_dropout: NonNegativeFraction = Field(
        0.1, description="Share of the single voxels that a training step does not see."
    )
    repeats: Repeats = Field("sampled", description=REPEATS)
    training: VoxelClipTraining = VoxelClipTraining()
    weights: Literal["float32", "float16"] = Field("float32", description="Precision of the saved weights.")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a config file holds)
        if not isinstance(given, Mapping):
            return given
        return compat.filled({"variant": cls.model_fields["variant"].default, **given}, VARIANTS, "variant")

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        kind = VARIANTS[self.variant]["network"]["kind"]
        if self.network.kind != kind:
            raise ValueError(
                f"the variant {self.variant} is a network of kind `{kind}`, but `network.kind` is "
                f"{self.network.kind!r}: leave `network.kind` out, or choose another `variant`"
            )
        return self

    @property
    def n_gpus(self) -> int:
        """GPUs that training asks a cluster for."""
        return self.training.n_gpus

    @property
    def note(self) -> str:
        """What the table says of it: which of the networks it is."""
        return f"variant: {self.variant}"

    @property
    def located(self) -> bool:
        """Whether it needs to know where the voxels are."""
        return self.network.kind == "volume"

    def tensors(self, n_voxels: int, shape: tuple[int, ...], voxels: pd.DataFrame | None = None) -> Shapes:
        """Saved weights: the state of the encoder, where its voxels are, and its temperature.

        Parameters
        ----------
        voxels : table of the voxels, for networks on volumes
        """
        import torch

        from percept.decoders.training import answers

        with torch.device("meta"):
            return answers.shapes(self.build(n_voxels, shape, voxels), self.weights)

    def build(self, n_voxels: int, shape: tuple[int, ...], voxels: pd.DataFrame | None = None) -> "VoxelClip":
        """The network before training, for responses (row, voxel) and embeddings (row, *shape).

        Raises
        ------
        PerceptError : a network on volumes, and it is not known where the voxels are; or its box is too small
        """
        from percept.decoders.networks import box
        from percept.decoders.networks.voxelclip_learner import VoxelClip

        network = self.network
        volume = isinstance(network, VolumeNetwork)
        place = box.of_table(voxels, network.margin, network.multiple) if volume else None
        return VoxelClip(n_voxels, math.prod(shape), self, place)

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit, or go on where a fit was interrupted; then predict."""
        from percept.decoders.training import answers, resident
        from percept.decoders.training.fit import fit

        learner = answers.initialised(
            lambda: self.build(task.X.shape[1], task.targets.shape, task.voxels), seed
        )
        data = resident.training(task), resident.validation(task)
        outcome = fit(learner, *data, self.training, answers.job(self, task, seed))
        yield from answers.blocks(task, outcome, answers.state(learner), partial(self.predict, learner))

    def predict(self, learner: "VoxelClip", X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings of unit length, (row, dim), of responses (row, voxel)."""
        from percept.decoders.training import answers

        with answers.arithmetic(learner, self.training.precision):
            return learner.predict(X)
