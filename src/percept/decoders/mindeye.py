"""MindEye's high level (Scotti et al. 2023): from voxels to the tokens of an image embedding.

A residual network maps voxels to tokens. A projector on top is trained to find the image among others, and
its output is what is predicted and ranked; a diffusion prior, conditioned on the network's own output, is
trained to draw image embeddings, from which images are made.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from percept.decoders import compat
from percept.decoders.initial import InitialisedConfig, hidden
from percept.decoders.networks.settings import (
    REPEATS,
    MindEyeLosses,
    MindEyeNetwork,
    PriorSettings,
    Repeats,
)
from percept.decoders.task import Block, Task
from percept.decoders.training.settings import TrainingConfig
from percept.decoders.weights import Shapes

if TYPE_CHECKING:
    from torch import Tensor

    from percept.decoders.networks.mindeye import MindEye

# What the public code does (commit 6b30ea5) where that differs from what the paper means, or from what is
# right. Its other departures touch no decoder: which direction of retrieval is called which, how two-way
# identification is oriented, how SSIM and resizing are called are choices of the evaluation.
MINDEYE1: compat.Preset = {
    "repeats": "cycled",  # repeat number step mod 3, the same for the whole batch, not one drawn per image
    "losses": {
        "fixed_points": "assigned",  # H7: where the permutation mixes a row with itself, its label is wrong
        "mixed_prior": "kept",  # H9: the prior learns from mixed voxels whose target is not mixed
    },
    "prior": {
        "relative_bias": "causal",  # the library's buckets: all later tokens share one
    },
    "training": {
        "decayed": "all_but_biases",  # gains decay too: their names do not match the exclusion list
        # H10: what its validation saw was the test set, under random augmentation. Nothing of that reaches
        # the published numbers, because inference loads the last weights.
        "select": "last",
    },
}


AT_ONCE = 1 << 26  # numbers that are drawn before they are kept in float16 (256 MB)


class MindEyeConfig(InitialisedConfig):
    """MindEye's high level (Scotti et al. 2023): a residual network, a projector and a diffusion prior."""

    unit: ClassVar[Literal["average", "single"] | None] = "single"  # `repeats` says how they are used
    cross_validates: ClassVar[bool] = False
    harmless: ClassVar[Mapping[str, frozenset[str]]] = {"training": TrainingConfig.harmless}
    demands: ClassVar[Mapping[str, tuple[Mapping[str, str], ...]]] = {
        "target": ({"kind": "clip_image"}, {"kind": "clip_text"}, {"kind": "open_clip"}, {"kind": "truth"})
    }

    kind: Literal["mindeye"] = "mindeye"
    network: MindEyeNetwork = MindEyeNetwork()
    losses: MindEyeLosses = MindEyeLosses()
    prior: PriorSettings | None = Field(
        PriorSettings(), description="Diffusion prior; null trains and samples none."
    )
    repeats: Repeats = Field("sampled", description=REPEATS)
    training: TrainingConfig = TrainingConfig()
    weights: Literal["float32", "float16"] = Field("float32", description="Precision of the saved weights.")
    compat: Literal["mindeye1"] | None = Field(
        None,
        description="Preset for every switch that is left open. mindeye1 does as the public code of MindEye: "
        "wrong labels at fixed points (losses.fixed_points: assigned), the prior trained on mixed voxels "
        "(losses.mixed_prior: kept), one repeat for the whole batch (repeats: cycled), one-sided relative "
        "positions (prior.relative_bias: causal), decay of gains (training.decayed: all_but_biases), the "
        "last weights (training.select: last).",
    )

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a config file holds)
        return compat.filled(given, {"mindeye1": MINDEYE1})

    @property
    def encoder(self) -> dict[str, Any]:
        """Hidden layers, which a decoder whose weights it begins with has to share."""
        return hidden(self.network, activation="gelu", bias=True)

    @property
    def n_gpus(self) -> int:
        """GPUs that training asks a cluster for."""
        return self.training.n_gpus

    @property
    def note(self) -> str | None:
        """What the table says of it: whether it is trained as it was published."""
        return f"compat: {self.compat}" if self.compat else None

    @property
    def samples(self) -> int:
        """Embeddings of each test image that the prior draws."""
        return self.prior.samples if self._draws else 0

    @property
    def _draws(self) -> bool:
        """Whether there is a prior: without a weight it is not trained, and draws nothing."""
        return self.prior is not None and self.losses.prior > 0

    @model_validator(mode="after")
    def _every_epoch_learns(self) -> Self:
        """Refuse a phase without any loss; one of no epochs at all may be without."""
        cfg = self.losses
        phases = (
            {cfg.first} if cfg.switch == 1 else {cfg.second} if cfg.switch == 0 else {cfg.first, cfg.second}
        )
        if "none" in phases and not (self._draws or cfg.mse):
            raise ValueError(
                "there are epochs with nothing to learn: `losses.first` or `losses.second` is none, there is "
                "no prior with a weight, and `losses.mse` is 0. Give one of them"
            )
        return self

    def tensors(self, n_voxels: int, shape: tuple[int, ...]) -> Shapes:
        """Saved weights: the state of the network, its projector and its prior."""
        import torch

        from percept.decoders.training import answers

        with torch.device("meta"):
            return answers.shapes(self.build(n_voxels, shape), self.weights)

    def build(self, n_voxels: int, shape: tuple[int, ...]) -> "MindEye":
        """The network before training, for responses (row, voxel) and targets (row, *shape), whose last axis
        is that of a token.
        """
        from percept.decoders.networks.mindeye import MindEye

        *_, dim = shape
        tokens = math.prod(shape) // dim
        return MindEye(n_voxels, (tokens, dim), self)

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit, or go on where a fit was interrupted; then predict, and draw embeddings of the test images."""
        from percept.decoders.training import answers, resident
        from percept.decoders.training.fit import fit

        learner = answers.initialised(lambda: self.build(task.X.shape[1], task.targets.shape), seed)
        self.begin(learner, learner.backbone, task)
        data = resident.training(task), resident.validation(task)
        learner.standardise(data[0].tensors["target"])
        outcome = fit(learner, *data, self.training, answers.job(self, task, seed))
        sample = partial(self.draw, learner, seed) if self.samples else None
        yield from answers.blocks(
            task, outcome, answers.state(learner), partial(self.predict, learner), sample
        )

    def predict(self, learner: "MindEye", X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embeddings that rank, (row, token x dim), of responses (row, voxel): the projector's output, or the
        network's own where it has no projector.
        """
        from percept.decoders.training import answers

        with answers.arithmetic(learner, self.training.precision):
            return answers.in_batches(lambda rows, _: learner.embed(rows)["projected"], X)

    def draw(
        self, learner: "MindEye", seed: int, X: NDArray[np.float32], stimulus: NDArray
    ) -> NDArray[np.float16]:
        """Embeddings drawn by the prior, (row, sample, token x dim), for responses (row, voxel) to images
        (row,); the noise of a sample depends on `seed`, its image and its number alone.
        """
        from percept.decoders.training import answers

        streams = answers.seeds(seed, stimulus, self.samples)

        def drawn(rows: "Tensor", of: slice) -> "Tensor":
            return learner.sample(learner.embed(rows)["backbone"], streams[of]).flatten(2).half()

        n_rows = max(1, AT_ONCE // (self.samples * math.prod(learner.shape)))
        with answers.arithmetic(learner, self.training.precision):
            return answers.in_batches(drawn, X, n_rows)
