"""Settings of a conditional GAN that is trained on photographs; nothing here imports torch.

Defaults are those of LAFITE's training at 256 pixels where it has them (Zhou et al. 2022; StyleGAN2, Karras
et al. 2020). The contrastive losses are of the form without its doubled exponential, for which its weights
and temperature were tuned, so these differ.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from percept import spaces
from percept.sections import Fraction, Identifier, NonNegativeFraction, Section, nearest

LEVELS = 5  # of the distribution of noise strengths: 5, 25, 50, 75 and 95 %
SMALLEST = 4  # pixels of the first layer
Share = Annotated[float, Field(ge=0, le=1)]
Quantiles = Annotated[tuple[Share, ...], Field(min_length=LEVELS, max_length=LEVELS)]
LAYER = {"inception_v3": "inception", "efficientnet_b1": "effnet", "swav": "swav", "tiny_judge": "judge_late"}
"""Networks by which states are compared, and the layer that is read."""


class GanNoise(Section):
    """Noise on conditions, so that what is decoded later, which is never quite right, is in distribution."""

    decoders: tuple[Identifier, ...] = Field(
        (),
        description="A decoder per condition: noise moves conditions as far as its errors on validation "
        "images do. Give this, or `strengths`.",
    )
    subjects: tuple[Identifier, ...] = Field(
        (),
        description="Subjects whose errors are looked at, with `decoders`; none named: all of the data set.",
    )
    strengths: tuple[Quantiles, ...] = Field(
        (),
        description="Per condition five quantiles (5, 25, 50, 75 and 95 %) of the strength, in 0..1. LAFITE "
        "has 0.75 throughout.",
    )
    clean: Share = Field(0.25, description="Share of the conditions that get no noise.")

    @model_validator(mode="after")
    def _one_way(self) -> "GanNoise":
        if bool(self.decoders) == bool(self.strengths):
            raise ValueError(
                "the noise on conditions is either matched to the errors of `decoders`, or typed as "
                "`strengths`: give one of the two"
            )
        if any(list(one) != sorted(one) for one in self.strengths):
            raise ValueError("`strengths` are quantiles of a distribution: list them in ascending order")
        return self


class GanNetwork(Section):
    """How large the generator and its opponent are."""

    side: Literal[16, 32, 64, 128, 256] = Field(256, description="Pixels of an image, in rows and columns.")
    capacity: PositiveInt = Field(
        16384, description="Channels of a resolution times its side, up to `most_channels`."
    )
    most_channels: PositiveInt = Field(512, description="Channels of the small resolutions.")
    latent: PositiveInt = Field(512, description="Numbers of the noise z.")
    style: PositiveInt = Field(512, description="Numbers of w, and of what a layer reads of each condition.")
    mapping: PositiveInt = Field(8, description="Layers from z to w.")
    rate: PositiveFloat = Field(
        0.01, description="Learning rate of the layers that read conditions, relative to the others'."
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels at 4 pixels, at 8, ..."""
        sides = [SMALLEST]
        while sides[-1] < self.side:
            sides.append(2 * sides[-1])
        return tuple(max(1, min(self.most_channels, self.capacity // side)) for side in sides)


class GanLosses(Section):
    """What both sides are trained for."""

    still: Share = Field(
        0.5, description="Share of the images with z = 0, which is what reconstructs. Mind Reader has 1."
    )
    mixing: Share = Field(
        0.0, description="Share of the batches whose later layers read another z (style mixing; LAFITE: 0.9)."
    )
    augmented: Share = Field(
        0.3,
        description="Share of the images, real and generated, that are moved, tinted and pierced before the "
        "discriminator sees them.",
    )
    r1: NonNegativeFloat | None = Field(
        None,
        description="Weight gamma of the penalty on the discriminator's gradient; null: 0.0002 side^2 / "
        "batch (Karras et al. 2020b). LAFITE has 10.",
    )
    r1_every: PositiveInt = Field(16, description="Steps between two of it.")
    path: NonNegativeFloat = Field(2.0, description="Weight of the penalty on path lengths.")
    path_every: PositiveInt = Field(4, description="Steps between two of it.")
    temperature: PositiveFloat = Field(0.1, description="Of both contrastive losses.")
    consistent: NonNegativeFloat = Field(
        1.0, description="Weight of 1 - cosine of what the conditions' network sees in an image to the truth."
    )
    contrast: NonNegativeFloat = Field(0.5, description="Weight of the contrastive loss of the same.")
    projected: NonNegativeFloat = Field(
        0.5, description="Weight of the contrastive loss of what the discriminator sees."
    )
    coarse: NonNegativeFloat = Field(
        4.0, description="Weight of the absolute error at a quarter of the side, where z is 0; LAFITE: none."
    )
    fine: NonNegativeFloat = Field(1.0, description="Weight of the absolute error at the full side there.")


class GanTraining(Section):
    """How long, by which steps, and where it is trained."""

    steps: PositiveInt = Field(200_000, description="Steps of each side.")
    alone: NonNegativeInt = Field(0, description="Steps in which the generator has no opponent yet.")
    batch_size: Annotated[int, Field(ge=2)] = Field(32, description="Images of a step.")
    learning_rate: PositiveFloat = Field(2.5e-3, description="Highest learning rate of both sides.")
    warmup: NonNegativeInt = Field(200, description="Steps until it is highest; a cosine down to 0 follows.")
    ema: Fraction = Field(0.999, description="Decay of the average of the weights, which is what is kept.")
    looked_at: PositiveInt = Field(
        16,
        description="Images of a batch that the conditions' network looks at, which takes time and memory.",
    )
    precision: Literal["float32", "bfloat16"] = Field("float32", description="Arithmetic of both passes.")
    device: str = Field("auto", description="auto (a GPU where there is one), cpu, cuda, cuda:1, ...")
    checkpoint_minutes: PositiveFloat = Field(10.0, description="Minutes between checkpoints.")
    measured_every: PositiveInt = Field(2000, description="Steps between two measures of the average.")
    measured_by: Literal["inception_v3", "efficientnet_b1", "swav", "tiny_judge"] = Field(
        "inception_v3",
        description="Network in whose features images are compared with held-out ones of the pool (KID): the "
        "nearest state is kept.",
    )
    measured_images: Annotated[int, Field(ge=4)] = Field(
        2000, description="Images of the pool that are held out for this, half of them as conditions."
    )


class GanSection(Section):
    """A conditional StyleGAN2, trained on the images of a pool and on their embeddings; no brain activity."""

    pool: Identifier = Field(description="Name of an entry of `pools`: the images it is trained on.")
    conditions: tuple[Identifier, ...] = Field(
        min_length=1,
        max_length=2,
        description="Entries of `targets` (kind clip_image, pooled) whose embeddings it shows: of the first "
        "by the role `semantic` of a reconstruction, of a second by `text`.",
    )
    noise: GanNoise
    network: GanNetwork = GanNetwork()
    losses: GanLosses = GanLosses()
    training: GanTraining = GanTraining()
    same: NonNegativeFraction = Field(
        0.9,
        description="Cosine, of standardised embeddings, from which an image of the pool counts as one of "
        "the data set, seen in training or in the test: it is left out.",
    )
    seed: NonNegativeInt = Field(0, description="Seed of weights, order and noise.")

    @property
    def n_gpus(self) -> int:
        """GPUs that a cluster is asked for."""
        return 0 if self.training.device == "cpu" else 1

    @property
    def backbones(self) -> tuple[str, ...]:
        """The network that compares states; those of the conditions belong to the targets."""
        return (self.training.measured_by,)

    @property
    def gamma(self) -> float:
        """Weight of R1."""
        if self.losses.r1 is not None:
            return self.losses.r1
        return 0.0002 * self.network.side**2 / self.training.batch_size

    @model_validator(mode="after")
    def _one_each(self) -> "GanSection":
        given = self.noise.decoders or self.noise.strengths
        if len(given) != len(self.conditions):
            raise ValueError(
                f"it has {len(self.conditions)} condition(s) and noise for {len(given)}: name a decoder, or "
                "five strengths, for each of `conditions`"
            )
        return self


# What a whole configuration is checked for.

EMBEDDING = ({"kind": "clip_image", "output": "pooled", "augmentation": "none"},)


def require_trainable(name: str, config: Any) -> None:  # noqa: ANN401 (percept.config.BaseConfig)
    """Refuse a GAN whose images, conditions or noise are not there, or of another kind than it needs.

    Raises
    ------
    ValueError : names the setting and what would be right
    """
    gan, path = config.gans[name], f"gans.{name}"
    require(gan.pool, config.pools, f"{path}.pool", "pools")
    for target in gan.conditions:
        require(target, config.targets, f"{path}.conditions", "targets")
        if not spaces.fits(config.targets[target], EMBEDDING):
            raise ValueError(
                f"`{path}.conditions` names {target!r}, which is {spaces.target(config.targets[target])}: a "
                f"GAN is conditioned by a target {spaces.listed(EMBEDDING)}, one vector per image"
            )
    if config.pools[gan.pool].embeddings and len(gan.conditions) > 1:
        raise ValueError(
            f"`{path}.conditions`: the pool {gan.pool!r} brings the embeddings of one target, and this GAN "
            "has two: leave `embeddings` of the pool out, so that both are computed, or name one condition"
        )
    for subject in gan.noise.subjects:
        known = dict.fromkeys(config.dataset.subjects)
        require(subject, known, f"{path}.noise.subjects", "dataset.subjects")
    for decoder, target in zip(gan.noise.decoders, gan.conditions, strict=False):
        require(decoder, config.decoders, f"{path}.noise.decoders", "decoders")
        if config.decoders[decoder].target != target:
            raise ValueError(
                f"`{path}.noise.decoders`: {decoder!r} predicts {config.decoders[decoder].target!r}, not the "
                f"condition {target!r}, so its errors say nothing about it: name a decoder of {target!r}"
            )
    validated = config.split.validation_fraction > 0 and config.split.protocol != "leave-one-run-out"
    if gan.noise.decoders and not validated:
        raise ValueError(
            f"`{path}.noise.decoders`: noise is matched on validation images, and this split has no fixed "
            "ones: set `split.validation_fraction`, or type `noise.strengths`"
        )


def require_shown(name: str, config: Any) -> None:  # noqa: ANN401 (percept.config.BaseConfig)
    """Refuse decoders of a reconstruction that do not predict what its GAN was trained on.

    Raises
    ------
    ValueError : names the role and the target that it has to be of
    """
    shown = config.reconstructions[name]
    for trained in shown.generator.gans:
        path = f"reconstructions.{name}"
        require(trained, config.gans, f"{path}.generator.trained", "gans")
        conditions = config.gans[trained].conditions
        wanted = dict(zip(("semantic", "text"), conditions, strict=False)) | {"ranking": conditions[0]}
        _require_roles(path, shown.roles, wanted, trained, n=len(conditions))
        if len(conditions) > 1 and shown.generator.z != "zero":
            raise ValueError(
                f"`{path}.generator.z`: images of the GAN {trained!r} are compared by one condition, and it "
                "has two: set `z: zero`"
            )
        for role, decoder in shown.roles.items():
            if (found := config.decoders[decoder].target) != wanted[role]:
                raise ValueError(
                    f"`{path}.{role}`: the GAN {trained!r} reads the target {wanted[role]!r} here, and "
                    f"{decoder!r} predicts {found!r}: numbers of another space make images of nothing. Name "
                    f"a decoder of {wanted[role]!r}"
                )


def _require_roles(path: str, roles: Mapping[str, str], wanted: Mapping[str, str], gan: str, n: int) -> None:
    if ("text" in roles) != ("text" in wanted):
        raise ValueError(
            f"`{path}.text`: the GAN {gan!r} has {n} condition(s): name a decoder of the second one in the "
            "role `text` where there are two, and none where there is one"
        )


def require(name: str, known: Mapping[str, Any], path: str, section: str) -> None:
    """Refuse a name that is no entry of a section.

    Raises
    ------
    ValueError : names the nearest that is one
    """
    if name not in known:
        raise ValueError(f"`{path}` names {name!r}, which is no entry of `{section}`{nearest(name, known)}")
