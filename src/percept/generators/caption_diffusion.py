"""Describe the low-level image, then draw from the description, starting at the image.

A BLIP caption of the low-level image, less the words "blurry" and "blurred", is the prompt of Stable
Diffusion 1.5 img2img, at strength 0.75 and guidance 6, one sample, diffusers' 50 steps: the reconstruction
of Koios1143/Machine-Learning-Final (2023), code. (Its voting among decoders rewards those whose diffusion
changes least, and is not done here.)
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from percept.backbones.captioner import BLURRED
from percept.backbones.diffusion.sampler import Conditions
from percept.generators.diffusion import (
    Diffusion,
    DiffusionConfig,
    SchedulerName,
    guidance,
    scheduler,
    steps,
    strength,
)
from percept.generators.roles import Context, Roles
from percept.generators.text_diffusion import TextGenerator


class CaptionDiffusionConfig(DiffusionConfig):
    """Diffusion of a caption of the low-level image, started from that image."""

    needs: ClassVar[tuple[str, ...]] = ("lowlevel",)

    kind: Literal["caption_diffusion"] = "caption_diffusion"
    backbone: TextGenerator = Field("sd15", description="Generator that draws from the caption.")
    captioner: Literal["tiny_blip", "blip_large", "blip_base"] = Field(
        "blip_large", description="Network that describes the low-level image."
    )
    strength: float = strength(0.75)
    guidance: float = guidance(6.0)
    steps: int = steps(50)
    scheduler: SchedulerName = scheduler("default")

    @property
    def helpers(self) -> tuple[str, ...]:
        """The captioner."""
        return (self.captioner,)

    def build(self, context: Context) -> "CaptionDiffusion":
        """Return the generator, its weights read.

        Raises
        ------
        PerceptError : weights are absent
        """
        return CaptionDiffusion(self)


class CaptionDiffusion(Diffusion):
    """Images of captions of the low-level images."""

    cfg: CaptionDiffusionConfig

    def __init__(self, cfg: CaptionDiffusionConfig) -> None:
        from percept.backbones import captioner

        super().__init__(cfg, cfg.open_sampler())
        self.captioner = captioner.open_named(cfg.captioner, cfg.device, cfg.precision)

    def conditions(
        self, roles: Roles, start: NDArray[np.uint8]
    ) -> tuple[Conditions, Sequence[dict[str, Any]]]:
        """The caption of the low-level image, and the image itself."""
        captions = self.captioner.caption(start, without=BLURRED)
        return Conditions(prompts=captions, init=start), [{"caption": caption} for caption in captions]
