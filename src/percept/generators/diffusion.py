"""What the generators by diffusion share: settings, the low-level image they start from, several samples.

Each kind is a module of its own that says what conditions its sampler; here these become images.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.backbones.catalogue import n_gpus
from percept.backbones.diffusion.sampler import Conditions, Sampler
from percept.config import GeneratorConfig
from percept.generators import choose, spaces
from percept.generators.lowlevel import AutoencoderName, Lowlevel
from percept.generators.roles import Made, Roles, noise_seeds
from percept.sections import Precision

SchedulerName = Literal["default", "ddim", "unipc", "dpm"]


def strength(default: float) -> Any:  # noqa: ANN401 (a pydantic field)
    """The setting `strength` of a kind."""
    return Field(
        default,
        ge=0,
        le=1,
        description="Share of the denoising that runs on the low-level image, where that role is given: 1 "
        "leaves nothing of it (off), 0 leaves it as it is.",
    )


def guidance(default: float) -> Any:  # noqa: ANN401
    """The setting `guidance` of a kind."""
    return Field(default, ge=0, description="Scale of classifier-free guidance; 1 is none.")


def steps(default: int) -> Any:  # noqa: ANN401
    """The setting `steps` of a kind."""
    return Field(default, gt=0, description="Denoising steps of a full run.")


def scheduler(default: str) -> Any:  # noqa: ANN401
    """The setting `scheduler` of a kind."""
    return Field(
        default,
        description="default (what the network was published with), ddim, unipc or dpm; the last two need "
        "few steps.",
    )


class DiffusionConfig(GeneratorConfig):
    """Settings that all generators by diffusion have; kinds give their defaults."""

    backbone: str
    lowlevel_backbone: AutoencoderName | None = Field(
        None,
        description="Autoencoder whose latents the low-level decoder predicts; null where it predicts "
        "pixels. The decoded image is what the diffusion starts from.",
    )
    strength: float = strength(1.0)
    guidance: float = guidance(7.5)
    steps: int = steps(50)
    scheduler: SchedulerName = scheduler("default")
    precision: Precision = Field(
        "float32", description="Of weights and computation; float16 halves memory on a GPU."
    )
    batch_size: PositiveInt = Field(8, description="Images made at a time; the images do not depend on it.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @property
    def backbones(self) -> tuple[str, ...]:
        """The generator, the networks beside it, the autoencoder of the low-level role."""
        lowlevel = (self.lowlevel_backbone,) if self.lowlevel_backbone else ()
        return (self.backbone, *self.helpers, *lowlevel)

    @property
    def helpers(self) -> tuple[str, ...]:
        """Networks that a kind uses beside its generator: what compares samples or writes captions."""
        return ()

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """Latents of the autoencoder that is named, or pixels."""
        return {"lowlevel": spaces.lowlevel(self.lowlevel_backbone)}

    @property
    def n_gpus(self) -> int:
        """One, unless the CPU is asked for or the network is one of the tiny ones."""
        return n_gpus(self.device, self.backbone)

    def open_sampler(self, **options: Any) -> Sampler:  # noqa: ANN401 (settings of one family of samplers)
        """The sampler, read from the folder of its backbone.

        Raises
        ------
        PerceptError : the backbone is absent
        """
        from percept.backbones import diffusion

        return diffusion.open_named(
            self.backbone, self.device, self.precision, self.steps, self.scheduler, **options
        )


class Encoder:
    """The image encoder by which samples are compared; opened when it is built."""

    def __init__(self, name: str, output: str, cfg: DiffusionConfig) -> None:
        from percept.backbones import image

        self.network = image.open_named(name, output, cfg.device, cfg.precision)

    def __call__(self, samples: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (sample, image, ...) of samples (sample, image, height, width, 3)."""
        return np.stack([self.network.encode(images) for images in samples])


class Diffusion(ABC):
    """A generator by diffusion: kinds say what conditions it, and which of several samples stays."""

    n_samples = 1
    mixing: float | None = None

    def __init__(self, cfg: DiffusionConfig, sampler: Sampler) -> None:
        self.cfg, self.sampler = cfg, sampler
        self.lowlevel = Lowlevel(cfg.lowlevel_backbone, cfg.device, cfg.precision)

    @property
    def batch_size(self) -> int:
        """Images asked for at a time."""
        return self.cfg.batch_size

    def generate(self, roles: Roles, seed: int) -> Made:
        """Images of the sampler's size, with the low-level images where that role is given.

        Raises
        ------
        PerceptError : targets of another shape than the sampler or the autoencoder reads, or not finite
        """
        start = None if roles.lowlevel is None else self.lowlevel(roles.lowlevel)
        conditions, details = self.conditions(roles, start)
        numbers = range(self.n_samples)
        samples = np.stack(
            [self._sample(self.of_sample(conditions, roles, n), roles, seed, n) for n in numbers]
        )
        chosen = self.choose(samples, roles)
        both = zip(details or [{}] * len(roles), chosen.details, strict=True)
        return Made(chosen.images, start, [{**one, **other} for one, other in both])

    @abstractmethod
    def conditions(
        self, roles: Roles, start: NDArray[np.uint8] | None
    ) -> tuple[Conditions, Sequence[dict[str, Any]]]:
        """What the sampler is given for some images, and what is kept about each of them (or nothing)."""

    def of_sample(self, conditions: Conditions, roles: Roles, number: int) -> Conditions:
        """What one of several samples is made from: the same for all, unless a kind says otherwise."""
        return conditions

    def choose(self, samples: NDArray[np.uint8], roles: Roles) -> choose.Chosen:
        """The best of the samples (sample, image, height, width, 3) of each image, by their scores."""
        if len(samples) == 1:
            return choose.first(samples)
        return choose.best(samples, self.scores(samples, roles))

    def scores(self, samples: NDArray[np.uint8], roles: Roles) -> NDArray[np.floating]:
        """What several samples are compared by, (sample, image); kinds that make one have no need of it."""
        raise NotImplementedError

    def _sample(self, conditions: Conditions, roles: Roles, seed: int, number: int) -> NDArray[np.uint8]:
        cfg = self.cfg
        return self.sampler.sample(
            conditions,
            noise_seeds(seed, roles.stimulus, number),
            strength=cfg.strength,
            guidance=cfg.guidance,
            mixing=self.mixing,
        )
