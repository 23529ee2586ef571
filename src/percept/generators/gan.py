"""A conditional GAN that shows a predicted image embedding in one pass, as LAFITE and Mind Reader do.

Mind Reader (Lin et al. 2022) keeps the noise z at 0, because a reconstruction has to be one image, not a
variety (its "fix z"). Two ways to use the noise are beside it, neither of which sees the truth: noise
optimised until the image's own embedding is as near to the decoded one as can be, or the best of several z by
that same measure.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from percept.backbones.catalogue import n_gpus
from percept.config import GeneratorConfig, Identifier
from percept.files import PerceptError, read_json
from percept.generators import choose, spaces
from percept.generators.image_diffusion import image_space
from percept.generators.roles import Context, Made, Roles, noise_seeds

GanName = Literal["tiny_gan"]


class GanConfig(GeneratorConfig):
    """One pass of a conditional GAN from the predicted image embedding."""

    needs: ClassVar[tuple[str, ...]] = ("semantic",)

    kind: Literal["gan"] = "gan"
    backbone: GanName | None = Field(
        None,
        description="Generator whose image embedding the semantic decoder predicts; null: tiny_gan, unless "
        "`trained` names another.",
    )
    trained: Identifier | None = Field(
        None, description="An entry of `gans`, in the place of `backbone`: a network that is trained here."
    )
    z: Literal["zero", "optimised", "sampled"] = Field(
        "zero",
        description="The noise: zero (nothing is random), optimised until the image's own embedding is as "
        "near to the decoded one as it gets, or sampled several times, of which the nearest to it is kept.",
    )
    samples: PositiveInt = Field(8, description="Images made of each embedding, with z: sampled.")
    variable: Literal["z", "w"] = Field(
        "w", description="What is optimised, with z: optimised: z itself, or w, what the network makes of it."
    )
    steps: PositiveInt = Field(30, description="Steps of Adam, with z: optimised.")
    rate: PositiveFloat = Field(0.05, description="Their learning rate.")
    batch_size: PositiveInt = Field(50, description="Images made at a time; the images do not depend on it.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @model_validator(mode="before")
    @classmethod
    def _shipped(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a config file holds)
        if isinstance(given, dict) and given.get("backbone") is None and given.get("trained") is None:
            return {**given, "backbone": "tiny_gan"}
        return given

    @model_validator(mode="after")
    def _one_network(self) -> "GanConfig":
        if self.backbone and self.trained:
            raise ValueError(
                "`backbone` and `trained` both name the network that makes the images: leave one of them out"
            )
        return self

    @property
    def takes(self) -> tuple[str, ...]:
        """The second condition of a network that has two, and what chooses among several images."""
        return (("text",) if self.trained else ()) + (("ranking",) if self.z == "sampled" else ())

    @property
    def gans(self) -> tuple[str, ...]:
        """The network that is trained here, where it is one."""
        return (self.trained,) if self.trained else ()

    @property
    def backbones(self) -> tuple[str, ...]:
        """The generator, and the encoder of its conditions where images are compared by it.

        Of a network that is trained here, whose conditions its own entry names, none.
        """
        if self.trained:
            return ()
        return (self.backbone,) if self.z == "zero" else (self.backbone, image_space(self.backbone)[0])

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """The image embedding that the backbone was trained on; `gans` says it of what is trained here."""
        if self.trained:
            return {}
        embedding = spaces.image(self.backbone)
        return {"semantic": embedding, "ranking": embedding}

    @property
    def n_gpus(self) -> int:
        """One, unless the CPU is asked for or the network is a tiny one."""
        if self.trained:
            return 0 if self.device == "cpu" else 1
        return n_gpus(self.device, *self.backbones)

    def build(self, context: Context) -> "Gan":
        """Return the generator, its weights read.

        Raises
        ------
        PerceptError : weights are absent, or no network that was trained here is given
        """
        if self.trained and context.gan is None:
            raise PerceptError(
                f"a generator of kind `gan` shows embeddings by the network {self.trained!r}, which is "
                "trained here, and was built without its folder: give it that of the rule `train_gan`."
            )
        return Gan(self, context.gan)


class Gan:
    """Images of predicted embeddings by a conditional GAN."""

    def __init__(self, cfg: GanConfig, folder: Path | None = None) -> None:
        from percept.backbones import image
        from percept.backbones.gan import sampler

        self.cfg, self.batch_size = cfg, cfg.batch_size
        if cfg.trained:
            self.sampler = sampler.open_folder(folder, cfg.device)
        else:
            self.sampler = sampler.open_named(cfg.backbone, cfg.device)
        self.encoder = None if cfg.z == "zero" else image.open_named(*_space(cfg, folder), cfg.device)
        self.search = sampler.Search(cfg.variable, cfg.steps, cfg.rate)

    def generate(self, roles: Roles, seed: int) -> Made:
        """One image per row; with z: zero, and with w optimised, the seed changes nothing.

        Raises
        ------
        PerceptError : targets of another shape than the network reads, or not finite
        """
        make = {"zero": self._one, "optimised": self._fitted, "sampled": self._sampled}[self.cfg.z]
        images, details = make(roles, seed)
        return Made(images, details=details)

    def _one(self, roles: Roles, seed: int) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
        return self.sampler.draw(_beside(roles)), [{} for _ in range(len(roles))]

    def _fitted(self, roles: Roles, seed: int) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
        seeds = noise_seeds(seed, roles.stimulus)
        images = self.sampler.fitted(roles.semantic, self.encoder, self.search, seeds)
        (found,) = self.scores(images[None], roles.semantic)
        return images, [{"similarity": float(value)} for value in found]

    def _sampled(self, roles: Roles, seed: int) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
        numbers = range(self.cfg.samples)
        seeds = [noise_seeds(seed, roles.stimulus, number) for number in numbers]
        samples = np.stack([self.sampler.draw(roles.semantic, each) for each in seeds])
        wanted = roles.semantic if roles.ranking is None else roles.ranking
        chosen = choose.best(samples, self.scores(samples, wanted))
        return chosen.images, chosen.details

    def scores(self, samples: NDArray[np.uint8], wanted: NDArray[np.float32]) -> NDArray[np.floating]:
        """Cosine (sample, image) of each sample's embedding to the wanted one, both standardised."""
        conditions = [self.sampler.conditions(self.encoder.encode(images)) for images in samples]
        embedded = np.stack([each.cpu().numpy() for each in conditions])
        return choose.similarity_to(embedded, self.sampler.conditions(wanted).cpu().numpy())


def _space(cfg: GanConfig, folder: Path | None) -> tuple[str, str]:
    """The image encoder of the embeddings that a network was trained on, and which output of it."""
    if not cfg.trained:
        return image_space(cfg.backbone)
    target = read_json(folder / "about.json")["conditions"][0]
    return target["backbone"], target["output"]


def _beside(roles: Roles) -> NDArray[np.float32]:
    """Embeddings (image, feature) of all conditions beside each other."""
    return roles.semantic if roles.text is None else np.concatenate([roles.semantic, roles.text], axis=1)
