"""Image-embedding diffusion with a low-level start and second-order choice: MindEye's last stage.

Defaults are those of Scotti et al. (2023), code and supplement: Versatile Diffusion's image branch, 20 steps
of UniPC, guidance 3.5, started at strength 0.85 from the low-level image, 16 samples of which the one stays
that, encoded again, is nearest to the decoded embedding. Where the decoder makes samples, as MindEye's prior
does, each image is made from one of its own; what it predicts, the output of its retrieval head, then ranks.
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from percept.backbones.catalogue import CATALOGUE
from percept.backbones.diffusion.sampler import Conditions
from percept.generators import choose, spaces
from percept.generators.diffusion import (
    Diffusion,
    DiffusionConfig,
    Encoder,
    SchedulerName,
    guidance,
    scheduler,
    steps,
    strength,
)
from percept.generators.roles import Context, Roles

ImageGenerator = Literal[
    "tiny_unclip", "stable_unclip", "stable_unclip_small", "versatile_diffusion", "ip_adapter",
    "ip_adapter_plus",
]  # fmt: skip


class ImageDiffusionConfig(DiffusionConfig):
    """Diffusion conditioned by the predicted image embedding, optionally started from the low-level image."""

    needs: ClassVar[tuple[str, ...]] = ("semantic",)
    from_samples: ClassVar[bool] = True

    kind: Literal["image_diffusion"] = "image_diffusion"
    backbone: ImageGenerator = Field(
        "versatile_diffusion",
        description="Generator whose image embedding the semantic decoder predicts.",
    )
    samples: PositiveInt = Field(
        16,
        description="Images made of each embedding; the one nearest to the embedding is kept. Where the "
        "decoder makes several embeddings, the images share them out.",
    )
    strength: float = strength(0.85)
    guidance: float = guidance(3.5)
    steps: int = steps(20)
    scheduler: SchedulerName = scheduler("unipc")
    noise_level: NonNegativeInt = Field(
        0, description="Noise put on the embedding before it conditions (unCLIP only): variety for fidelity."
    )

    @property
    def takes(self) -> tuple[str, ...]:
        """What images start from; and, if one of several is chosen, what it is chosen by."""
        return ("lowlevel", "ranking") if self.samples > 1 else ("lowlevel",)

    @property
    def helpers(self) -> tuple[str, ...]:
        """The image encoder that compares samples, if there are several."""
        return (image_space(self.backbone)[0],) if self.samples > 1 else ()

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """The image embedding that the backbone was trained on, and what the diffusion starts from."""
        embedding = spaces.image(self.backbone)
        return {**super().demands, "semantic": embedding, "ranking": embedding}

    def build(self, context: Context) -> "ImageDiffusion":
        """Return the generator, its weights read.

        Raises
        ------
        PerceptError : weights are absent
        """
        return ImageDiffusion(self)


class ImageDiffusion(Diffusion):
    """Images of predicted embeddings, the best of several samples."""

    cfg: ImageDiffusionConfig

    def __init__(self, cfg: ImageDiffusionConfig) -> None:
        super().__init__(cfg, cfg.open_sampler(noise_level=cfg.noise_level))
        self.n_samples = cfg.samples
        self.encoder = Encoder(*image_space(cfg.backbone), cfg) if cfg.samples > 1 else None

    def conditions(
        self, roles: Roles, start: NDArray[np.uint8] | None
    ) -> tuple[Conditions, list[dict[str, Any]]]:
        """The decoded embedding, and the low-level image where there is one."""
        return Conditions(image=conditioning(self.cfg.backbone, roles.semantic), init=start), []

    def of_sample(self, conditions: Conditions, roles: Roles, number: int) -> Conditions:
        """Image `number` is made from the embedding of that number, where several were decoded.

        If fewer embeddings than images are there, they take turns.
        """
        if roles.samples is None:
            return conditions
        one = roles.samples[:, number % roles.samples.shape[1]].astype(np.float32)
        return replace(conditions, image=conditioning(self.cfg.backbone, one))

    def scores(self, samples: NDArray[np.uint8], roles: Roles) -> NDArray[np.floating]:
        """Cosine of the embedding of each sample to the one that ranks, or else to the decoded one."""
        wanted = roles.semantic if roles.ranking is None else roles.ranking
        return choose.similarity_to(self.encoder(samples), wanted)


def image_space(generator: str) -> tuple[str, str]:
    """The image encoder of the embeddings that condition a generator, and which output of it."""
    settings = CATALOGUE[generator].settings
    return settings["image"], settings["image_output"]


def conditioning(generator: str, predicted: NDArray[np.float32]) -> NDArray[np.float32]:
    """Predicted embeddings as a generator reads them.

    Tokens of the projected space have a CLS token of length 1, which regression shrinks: each image's tokens
    are divided by the length of their own CLS token (Scotti et al. 2023, code). Others stay as they are.
    """
    encoder, output = image_space(generator)
    if output != "tokens" or CATALOGUE[encoder].settings["tokens"] != "projected" or predicted.ndim != 3:
        return predicted
    length = np.linalg.norm(predicted[:, :1], axis=-1, keepdims=True)
    return predicted / np.where(length > 0, length, 1)
