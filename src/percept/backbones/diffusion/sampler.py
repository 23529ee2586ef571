"""What every generator by diffusion has in common: conditions in, images out, one seed per image."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from percept.backbones import autoencoder
from percept.backbones.catalogue import Backbone
from percept.backbones.diffusion import schedulers
from percept.files import PerceptError

Tensor = Any  # torch.Tensor, which this module must not import before it is needed
GUIDING = ("image", "text", "prompts")


@dataclass(frozen=True)
class Conditions:
    """What the images of one batch are made from; each part has one entry per image, absent parts are None.

    Attributes
    ----------
    image : (image, feature) or (image, token, feature) embeddings of what is seen
    text : (image, token, feature) hidden states of a text encoder
    prompts : captions, encoded by the generator's own text encoder; instead of `text`
    init : uint8 (image, height, width, 3) of any size, to start from
    """

    image: NDArray[np.float32] | None = None
    text: NDArray[np.float32] | None = None
    prompts: Sequence[str] | None = None
    init: NDArray[np.uint8] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The parts that are not None, by name."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: part for name, part in parts.items() if part is not None}

    def __len__(self) -> int:
        return max(map(len, self.given.values()), default=0)


class Sampler(Protocol):
    """A generator of images; `open_named` returns one."""

    name: str
    accepts: ClassVar[frozenset[str]]
    steps: int

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""

    def sample(
        self,
        conditions: Conditions,
        seeds: Sequence[int],
        *,
        strength: float = 1.0,
        guidance: float = 7.5,
        mixing: float | None = None,
    ) -> NDArray[np.uint8]:
        """Images, uint8 (image, size, size, 3): see `PipelineSampler.sample`."""


@dataclass(frozen=True)
class Run:
    """One call of a pipeline: how many images, from which latents, how guided.

    `latents` are (image, channel, row, column) at the noise level of the scheduler's first step; `generators`
    hold what is left of each image's noise.
    """

    latents: Tensor
    generators: list[Any]
    steps: int
    guidance: float
    mixing: float | None

    def __len__(self) -> int:
        return len(self.generators)

    def to_pipeline(self) -> dict[str, Any]:
        """The arguments that all pipelines of Stable Diffusion's family share."""
        return {
            "latents": self.latents,
            "generator": self.generators,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "output_type": "latent",
        }


class PipelineSampler(ABC):
    """A pipeline of diffusers, started from noise or from an image, one generator of noise per image.

    Subclasses say what the pipeline accepts, and call it.
    """

    accepts: ClassVar[frozenset[str]]

    def __init__(
        self,
        entry: Backbone,
        pipeline: Any,  # noqa: ANN401
        steps: int,
        scheduler: str,
        noise_level: int = 0,
    ) -> None:
        self.name, self.pipeline, self.steps, self.noise_level = entry.name, pipeline, steps, noise_level
        if steps < 1:
            raise PerceptError(f"{steps} denoising steps make no image: set `steps` to 1 or more.")
        if not 0 <= noise_level < self._noise_levels:
            raise PerceptError(
                f"the generator {self.name} cannot put noise of level {noise_level} on its image embedding: "
                f"set `noise_level` from 0 to {self._noise_levels - 1} (0, for all but the unCLIP networks)."
            )
        self.scheduler = schedulers.named(scheduler, pipeline.scheduler)
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    @abstractmethod
    def load(cls, entry: Backbone, dtype: Any) -> Any:  # noqa: ANN401 (a torch.dtype; a pipeline)
        """The pipeline of an entry of the catalogue, on the CPU, from the folders that hold it.

        Raises
        ------
        PerceptError : a folder is absent or damaged
        """

    @property
    def _noise_levels(self) -> int:
        """How many levels of noise the network knows for its image embedding; one is none."""
        return 1

    @property
    def unet(self) -> Any:  # noqa: ANN401
        """The denoising network."""
        return self.pipeline.unet

    @property
    def size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.unet.config.sample_size * autoencoder.factor(self.pipeline.vae)

    def sample(
        self,
        conditions: Conditions,
        seeds: Sequence[int],
        *,
        strength: float = 1.0,
        guidance: float = 7.5,
        mixing: float | None = None,
    ) -> NDArray[np.uint8]:
        """Images, uint8 (image, size, size, 3): the same for a seed, whatever else is in the batch.

        Parameters
        ----------
        conditions : one entry per image in every part
        seeds : one per image
        strength : share of the steps that is run on `conditions.init`; 1 starts from noise alone, 0 returns
            the image as the autoencoder gives it back; without an image to start from it has no effect
        guidance : scale of classifier-free guidance; 1 or less is none
        mixing : weight of the text against the image embedding, from 0 (image alone) to 1 (text alone), where
            a generator takes both; None is the generator's own way

        Raises
        ------
        PerceptError : conditions that this generator cannot read, that are not finite or not one per seed; a
            strength or mixing outside [0, 1]; images that are not finite
        """
        import torch

        self._check(conditions, seeds, mixing)
        skipped = schedulers.n_skipped(self.steps, strength) if conditions.init is not None else 0
        if skipped == self.steps:
            return autoencoder.decode(self.pipeline.vae, self._encode(conditions.init))
        with torch.no_grad():
            run = self._start(conditions.init, seeds, skipped, (guidance, mixing))
            latents = self._denoise(conditions, run).float()
        self._check_finite(latents)
        return autoencoder.decode(self.pipeline.vae, latents)

    @abstractmethod
    def _denoise(self, conditions: Conditions, run: Run) -> Tensor:
        """Latents, (image, channel, row, column), scaled as the autoencoder's."""

    @abstractmethod
    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of one entry of `image` and `text`, as far as accepted; None is any length."""

    def _encode(self, init: NDArray[np.uint8]) -> Tensor:
        return autoencoder.encode(self.pipeline.vae, init, self.size)

    def _start(
        self,
        init: NDArray[np.uint8] | None,
        seeds: Sequence[int],
        skipped: int,
        guided: tuple[float, float | None],
    ) -> Run:
        """Noise, or an image with the noise of the first step that is left.

        Noise is drawn on the CPU in float32, image by image: it depends neither on the batch nor the device.
        """
        import torch

        unet, vae = self.unet, self.pipeline.vae
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        side = self.size // autoencoder.factor(vae)
        shape = (1, vae.config.latent_channels, side, side)
        latents = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
        latents = latents.to(unet.device)
        self.pipeline.scheduler = late = schedulers.begun_late(self.scheduler, skipped)
        if skipped:
            late.set_timesteps(self.steps, device=unet.device)
            first = late.timesteps[:1].repeat(len(seeds))
            latents = late.add_noise(self._encode(init), latents, first)
        return Run(latents.to(unet.dtype), generators, self.steps, *guided)

    def _tensor(self, values: NDArray[np.floating]) -> Tensor:
        """Conditions where, and as, the network computes."""
        import torch

        return torch.from_numpy(np.array(values, dtype=np.float32)).to(self.unet.device, self.unet.dtype)

    def _check(self, conditions: Conditions, seeds: Sequence[int], mixing: float | None) -> None:
        given = conditions.given
        if unread := sorted(given.keys() - self.accepts):
            raise PerceptError(
                f"the generator {self.name} reads {', '.join(sorted(self.accepts))}, but was given "
                f"{', '.join(unread)}: name another backbone, or leave out that role of the reconstruction."
            )
        if {"text", "prompts"} <= given.keys() or not given.keys() & set(GUIDING):
            raise PerceptError(
                f"the generator {self.name} needs something to show: an image embedding, or either text "
                f"embeddings or prompts, not both; it was given {', '.join(given) or 'nothing'}."
            )
        if any(len(part) != len(seeds) for part in given.values()) or not len(seeds):
            lengths = ", ".join(f"{len(part)} of `{name}`" for name, part in given.items())
            raise PerceptError(
                f"{len(seeds)} seeds were given for {lengths}: a generator makes one image per seed, and "
                "needs one entry of every condition for each."
            )
        if mixing is not None and not 0 <= mixing <= 1:
            raise PerceptError(
                f"a mixing of {mixing} is none: set it from 0 (image alone) to 1 (text alone)."
            )
        for name, shape in self._shapes().items():
            if name in given:
                _check_embedding(np.asarray(given[name]), name, shape, self.name)

    def _check_finite(self, latents: Tensor) -> None:
        if not latents.isfinite().all():
            raise PerceptError(
                f"the generator {self.name} left the range of {self.unet.dtype} while denoising, so that "
                "there is no image: set `precision: float32` (or bfloat16 instead of float16), or a lower "
                "`guidance`."
            )


def _check_embedding(
    values: NDArray[np.floating], name: str, shape: tuple[int | None, ...], generator: str
) -> None:
    found = values.shape[1:]
    fits = len(found) == len(shape) and all(b in (None, a) for a, b in zip(found, shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise PerceptError(
            f"the generator {generator} is conditioned by `{name}` embeddings of shape ({wanted}) per image, "
            f"but those given are {found}: decode to a target of the encoder that this generator was trained "
            "with (see its entry in `percept.backbones.catalogue`)."
        )
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
        raise PerceptError(
            f"the `{name}` embeddings of {len(bad)} of {len(values)} images (first: row {bad[0]}) hold "
            "values that are not finite, so that nothing can be generated from them: look for NaN in the "
            "voxels, or for a decoder that diverged."
        )
