"""Settings of the networks and their losses. The defaults are MindEye's (Scotti et al. 2023).

Nothing here imports torch: the kinds of decoders read this module when a workflow is planned.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from percept.sections import NonNegativeFraction, Section

Share = Annotated[float, Field(ge=0, le=1)]
Repeats = Literal["sampled", "cycled", "averaged", "mixed"]
REPEATS = (
    "Which response to an image trains: `sampled`, one of its repeats at random; `cycled`, repeat number "
    "step mod 3 for the whole batch; `averaged`, their mean; `mixed`, decided once per batch: a random "
    "convex combination (half of the batches), the mean (3 in 10) or one repeat (2 in 10)."
)
Contrast = Literal["bimixco", "infonce", "softclip", "none"]
FixedPoints = Literal["added", "assigned"]


class MindEyeNetwork(Section):
    """Layers from voxels to the tokens of an image."""

    width: PositiveInt = Field(4096, description="Width of the hidden layers.")
    blocks: NonNegativeInt = Field(4, description="Residual blocks between the first and the last layer.")
    residual: bool = Field(True, description="Whether a block's input is added to its output.")
    stem: Literal["mlp", "linear"] = Field(
        "mlp",
        description="First layer: `mlp` follows it by a norm, an activation and dropout; `linear` does not "
        "(the shared-space layer of MindEye2).",
    )
    block: Literal["mindeye", "prenorm"] = Field(
        "mindeye",
        description="`mindeye`: linear, norm, activation, dropout. `prenorm`: norm, linear, activation, "
        "dropout, linear.",
    )
    dropout: NonNegativeFraction = Field(0.5, description="Dropout after the first layer.")
    block_dropout: NonNegativeFraction = Field(0.15, description="Dropout within each block.")
    projector: bool = Field(
        True, description="A head of its own for the contrastive loss and for retrieval, applied per token."
    )
    projector_width: PositiveInt = Field(2048, description="Width of the projector's hidden layers.")


class MindEyeLosses(Section):
    """What training minimises: a contrastive loss in two phases, plus the prior's and the squared error."""

    first: Contrast = Field(
        "bimixco", description="Contrastive loss of the first epochs; bimixco mixes the voxels of images."
    )
    second: Contrast = Field("softclip", description="Contrastive loss of the epochs after `switch`.")
    switch: Share = Field(0.33, description="Share of the epochs that belong to the first phase.")
    prior: NonNegativeFloat = Field(30.0, description="Weight of the diffusion prior's loss.")
    mse: NonNegativeFloat = Field(
        0.0, description="Weight of the squared error between the backbone's output and the target."
    )
    mixing_temperature: PositiveFloat = Field(0.006, description="Temperature of bimixco and infonce.")
    soft_start: PositiveFloat = Field(0.004, description="Temperature of softclip in its first epoch.")
    soft_end: PositiveFloat = Field(0.0075, description="Temperature of softclip in its last epoch.")
    mixing_beta: PositiveFloat = Field(0.15, description="Both parameters of the Beta law of mixing weights.")
    mixing_share: Share = Field(0.5, description="Probability that a row of a batch is mixed with another.")
    fixed_points: FixedPoints = Field(
        "added",
        description="Labels of rows that the permutation mixes with themselves: both weights `added`, or the "
        "second `assigned` over the first (MindEye's code: a wrong label for about one row per batch).",
    )
    mixed_prior: Literal["dropped", "kept"] = Field(
        "dropped",
        description="The prior's loss of mixed rows, whose voxels belong to two images but whose target to "
        "one: left out, or kept (MindEye's code).",
    )


class PriorSettings(Section):
    """Diffusion prior: a transformer that turns the backbone's output into image embeddings."""

    depth: PositiveInt = Field(6, description="Layers of the transformer.")
    heads: PositiveInt = Field(12, description="Attention heads.")
    head_width: PositiveInt = Field(
        64,
        description="Width of a head; on a GPU in bfloat16 or float16 a multiple of 8, which the kernels of "
        "attention ask for that need no memory for a matrix of all pairs of tokens.",
    )
    timesteps: PositiveInt = Field(100, description="Noise levels in training.")
    condition_dropout: NonNegativeFraction = Field(
        0.2, description="Probability that a row trains without its condition (classifier-free guidance)."
    )
    image_dropout: NonNegativeFraction = Field(
        0.2, description="Probability that a row trains without its noisy image tokens."
    )
    relative_bias: Literal["symmetric", "causal"] = Field(
        "symmetric",
        description="Buckets of the attention's relative position bias: of both directions, or `causal` "
        "(MindEye's: all later tokens share one bucket).",
    )
    scale: Literal["sqrt_dim", "data"] = Field(
        "sqrt_dim",
        description="How embeddings are brought to the scale of the noise: times the root of their "
        "dimensions (MindEye: tokens of about unit length), or centred and divided by their standard "
        "deviation.",
    )
    sampler: Literal["ddpm", "ddim"] = Field("ddpm", description="How embeddings are sampled.")
    sampling_steps: PositiveInt = Field(100, description="Noise levels visited when sampling.")
    samples: PositiveInt = Field(1, description="Embeddings sampled per test image.")
    guidance: NonNegativeFloat = Field(1.0, description="Classifier-free guidance when sampling; 1 is none.")

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if self.sampler == "ddpm" and self.sampling_steps != self.timesteps:
            raise ValueError(
                f"the sampler ddpm visits all {self.timesteps} noise levels of the prior, not "
                f"{self.sampling_steps}: set `sampling_steps` to {self.timesteps}, or `sampler: ddim`"
            )
        if not 2 <= self.sampling_steps <= self.timesteps:
            raise ValueError(
                f"a prior trained on {self.timesteps} noise levels cannot be sampled at "
                f"{self.sampling_steps}: set `sampling_steps` to 2 or more, up to {self.timesteps}"
            )
        if self.guidance != 1 and not self.condition_dropout:
            raise ValueError(
                f"a guidance of {self.guidance:g} needs a prior that also learnt to do without a condition: "
                "set `condition_dropout` above 0, or leave `guidance` at 1"
            )
        return self


class LowLevelNetwork(Section):
    """Layers from voxels to the latent of a blurry image."""

    width: PositiveInt = Field(4096, description="Width of the hidden layers.")
    blocks: NonNegativeInt = Field(4, description="Residual blocks between the first and the last layer.")
    dropout: NonNegativeFraction = Field(0.5, description="Dropout after the first layer.")
    block_dropout: NonNegativeFraction = Field(0.25, description="Dropout within each block.")
    map_channels: PositiveInt = Field(64, description="Channels of the feature map that is upsampled.")
    up_channels: tuple[PositiveInt, ...] = Field(
        (64, 128, 256),
        min_length=1,
        description="Channels of the upsampler from its output to its input; each after the first doubles "
        "the size of the map.",
    )
    teacher_width: PositiveInt = Field(512, description="Hidden channels of the head that meets a teacher.")
    init: Literal["default", "xavier"] = Field(
        "default",
        description="First weights of the linear layers: torch's default, or uniform with the variance of "
        "Glorot and Bengio (2010, equation 16; `xavier`).",
    )


class LowLevelLosses(Section):
    """What training minimises: the latent's absolute error plus similarity to a teacher's dense tokens."""

    l1: PositiveFloat = Field(
        1 / 0.18215,
        description="Weight of the absolute error; undoes the scale of Stable Diffusion's latents.",
    )
    auxiliary: NonNegativeFloat = Field(0.1, description="Weight of the dense contrastive loss.")
    temperature: PositiveFloat = Field(0.075, description="Temperature of the dense contrastive loss.")
