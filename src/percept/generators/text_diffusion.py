"""Text-conditioned diffusion from a low-level start, without any text: Takagi and Nishimoto's pipeline.

Latents decoded from early visual areas become the image to start from, hidden states of a text encoder
decoded from ventral areas take the place of a prompt's. Defaults are those of Takagi and Nishimoto (2023),
code: Stable Diffusion 1.4, 50 steps of DDIM, strength 0.8, guidance 5, five samples. They score all five;
here the medoid is kept, the one most like the other four to an image encoder, which needs no truth either.
"""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

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

TextGenerator = Literal["tiny_text", "sd14", "sd15"]


class TextDiffusionConfig(DiffusionConfig):
    """Diffusion conditioned by predicted text embeddings, optionally started from the low-level image."""

    needs: ClassVar[tuple[str, ...]] = ("text",)
    takes: ClassVar[tuple[str, ...]] = ("lowlevel",)

    kind: Literal["text_diffusion"] = "text_diffusion"
    backbone: TextGenerator = Field(
        "sd14", description="Generator whose text encoder's hidden states the text decoder predicts."
    )
    samples: PositiveInt = Field(
        5, description="Images made of each text, one or at least three; the medoid is kept."
    )
    encoder: Literal["tiny_clip", "clip_vit_l14", "openclip_vit_h14"] = Field(
        "clip_vit_l14", description="Image encoder that compares the samples with one another."
    )
    strength: float = strength(0.8)
    guidance: float = guidance(5.0)
    steps: int = steps(50)
    scheduler: SchedulerName = scheduler("ddim")

    @field_validator("samples")
    @classmethod
    def _choosable(cls, samples: int) -> int:
        if samples == 2:
            raise ValueError(
                "of two samples each is as like the other, so that no medoid can be chosen: set 1, or 3 and "
                "more"
            )
        return samples

    @property
    def helpers(self) -> tuple[str, ...]:
        """The image encoder that compares samples, if there are several."""
        return (self.encoder,) if self.samples > 1 else ()

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """The text tokens of the backbone, and what the diffusion starts from."""
        return {**super().demands, "text": spaces.text(self.backbone)}

    def build(self, context: Context) -> "TextDiffusion":
        """Return the generator, its weights read.

        Raises
        ------
        PerceptError : weights are absent
        """
        return TextDiffusion(self)


class TextDiffusion(Diffusion):
    """Images of predicted text embeddings, the medoid of several samples."""

    cfg: TextDiffusionConfig

    def __init__(self, cfg: TextDiffusionConfig) -> None:
        super().__init__(cfg, cfg.open_sampler())
        self.n_samples = cfg.samples
        self.encoder = Encoder(cfg.encoder, "pooled", cfg) if cfg.samples > 1 else None

    def conditions(
        self, roles: Roles, start: NDArray[np.uint8] | None
    ) -> tuple[Conditions, list[dict[str, Any]]]:
        """The decoded hidden states, and the low-level image where there is one."""
        return Conditions(text=roles.text, init=start), []

    def scores(self, samples: NDArray[np.uint8], roles: Roles) -> NDArray[np.floating]:
        """Mean cosine of the embedding of each sample to those of the others: the medoid is best."""
        return choose.likeness(self.encoder(samples))
