"""Settings of self-supervision on responses. Defaults: Caron et al. 2021, adapted to little data.

Nothing here imports torch: the kinds of decoders read this module when a workflow is planned.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from percept.decoders.training.settings import TrainingConfig
from percept.sections import NonNegativeFraction, Section

Range = tuple[NonNegativeFraction, NonNegativeFraction]
HALF_DECADES = tuple(round(10 ** (step / 2), 6) for step in range(0, 13))  # 1 to 1e6


class DinoNetwork(Section):
    """The encoder, which is the hidden part of MindEye's networks, and the head of the pretraining."""

    width: PositiveInt = Field(4096, description="Width of the hidden layers.")
    blocks: NonNegativeInt = Field(4, description="Residual blocks after the first layer.")
    residual: bool = Field(True, description="Whether a block's input is added to its output.")
    stem: Literal["mlp", "linear"] = Field("mlp", description="First layer, as of `mindeye`.")
    block: Literal["mindeye", "prenorm"] = Field("mindeye", description="Blocks, as of `mindeye`.")
    activation: Literal["gelu", "silu"] = Field(
        "gelu", description="gelu, as in `mindeye`; silu, as in `lowlevel`."
    )
    bias: bool = Field(
        True, description="Whether linear layers have a bias: true in `mindeye`, false in `lowlevel`."
    )
    dropout: NonNegativeFraction = Field(0.5, description="The student's dropout after the first layer.")
    block_dropout: NonNegativeFraction = Field(0.15, description="The student's dropout within each block.")
    prototypes: Annotated[int, Field(ge=2)] = Field(1024, description="Outputs of the head.")
    head_width: PositiveInt = Field(2048, description="Width of the head's hidden layers.")
    bottleneck: PositiveInt = Field(256, description="Dimensions that the head brings to unit length.")


class DinoViews(Section):
    """What student and teacher see of the responses to one image; nothing is flipped, moved or cropped."""

    teacher: Literal["repeats", "averaged"] = Field(
        "repeats",
        description="The teacher's views: `repeats`, two different responses to the image, which the "
        "student sees as well; `averaged`, the mean of all, which the student never sees.",
    )
    local: NonNegativeInt = Field(
        4, description="Further views, of one response each, that only the student sees."
    )
    dropout: Range = Field(
        (0.3, 0.7),
        description="Least and largest share of the voxels that a local view lacks; drawn anew each time.",
    )
    global_dropout: Range = Field(
        (0.0, 0.3), description="The same for the student's copies of the teacher's views."
    )
    regions: tuple[str, ...] = Field(
        (),
        description="Regions that local views may lack as a whole: labels of the voxel table, `atlas` (each "
        "of its labels) or `atlas:label`. Empty: none.",
    )
    region_dropout: NonNegativeFraction = Field(
        0.3, description="Probability that a local view lacks a region; at least one is always left."
    )
    noise: NonNegativeFloat = Field(
        0.0,
        description="Noise added to all of the student's views, in standard deviations of a response's own, "
        "with the covariance of what repeats of an image do not share; 0 adds none.",
    )
    noise_rank: PositiveInt = Field(
        20,
        description="Patterns over voxels in that covariance; the rest of the variance is each voxel's own.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("dropout", "global_dropout"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(
                    f"`{name}` goes from {low:g} to {high:g}, which is no range: name the smaller share first"
                )
        if self.teacher == "averaged" and not self.local:
            raise ValueError(
                "a teacher that sees the mean of all responses shares no view with the student, and there "
                "are no local views either, so that nothing would be compared: set `local` to 1 or more"
            )
        return self


class DinoLosses(Section):
    """Temperatures and the teacher's pace."""

    teacher: PositiveFloat = Field(0.04, description="Temperature of the teacher, which sharpens it.")
    teacher_start: PositiveFloat = Field(
        0.04, description="Temperature of the teacher in the first epoch, where it is warmed up."
    )
    teacher_warmup: NonNegativeInt = Field(
        0, description="Epochs over which it goes from `teacher_start` to `teacher`; 0 does not warm up."
    )
    student: PositiveFloat = Field(0.1, description="Temperature of the student.")
    momentum: NonNegativeFraction = Field(
        0.99, description="Of the teacher at the first step; it grows to 1 at the last, along half a cosine."
    )
    frozen_epochs: NonNegativeInt = Field(
        1, description="First epochs in which the prototypes stay as they were drawn."
    )


class DinoTraining(TrainingConfig):
    """How the student is trained: as other networks, with the gradient clipped; the last weights are kept."""

    epochs: NonNegativeInt = Field(
        100, description="Passes over the training images; 0 leaves the encoder as it was drawn (a control)."
    )
    batch_size: PositiveInt = Field(64, description="Images per step, over all devices together.")
    learning_rate: PositiveFloat = Field(5e-4, description="Highest learning rate of the cycle.")
    peak_epochs: NonNegativeFloat = Field(10.0, description="Epochs until the learning rate is highest.")
    weight_decay: NonNegativeFloat = Field(0.04, description="Decoupled weight decay, the same throughout.")
    gradient_clip: PositiveFloat | None = Field(
        3.0, description="Largest norm of the gradient; null does not clip."
    )
    select: Literal["validation", "last"] = Field(
        "last",
        description="Which weights are kept. `validation` goes by the loss on the validation images, which "
        "falls also where all answers become one: it chooses badly.",
    )
    validate_every: PositiveInt = Field(5, description="Epochs between looks for a collapse.")

    @model_validator(mode="after")
    def _no_second_average(self) -> Self:
        if self.ema is not None:
            raise ValueError(
                "the teacher already is an average of the student's weights, and it is what is kept: set "
                "`ema` to null, and `losses.momentum` as you wish"
            )
        return self


class Probe(Section):
    """The linear map from frozen features to the target: ridge regression, as of the kind `ridge`."""

    alphas: tuple[PositiveFloat, ...] = Field(
        HALF_DECADES, min_length=1, description="Penalties tried, for features of unit variance."
    )
    folds: int = Field(
        5, ge=2, description="Cross-validation folds; rows of one image (or run) stay together."
    )
    per_target_alpha: bool = Field(True, description="One penalty per target column, or one for all of them.")
