"""Image and text embeddings together, from a low-level start: Brain-Diffuser's last stage.

Defaults are those of Ozcelik and VanRullen (2023), code: Versatile Diffusion, 0.4 text against 0.6 image, 50
steps of DDIM, strength 0.75, guidance 7.5, one sample. Guidance is against zeros here, as in MindEye; theirs
encodes an empty text and a blank image. Their low-level image comes from a VDVAE, here from
whatever the low-level decoder predicts. They rescale predictions before: see `rescale`.
"""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.backbones.diffusion.sampler import Conditions
from percept.generators import spaces
from percept.generators.diffusion import SchedulerName, guidance, scheduler, steps, strength
from percept.generators.image_diffusion import ImageDiffusion, ImageDiffusionConfig, conditioning
from percept.generators.roles import Context, Roles


class DualDiffusionConfig(ImageDiffusionConfig):
    """Diffusion conditioned by predicted image and text embeddings, optionally from the low-level image."""

    needs: ClassVar[tuple[str, ...]] = ("semantic", "text")

    kind: Literal["dual_diffusion"] = "dual_diffusion"
    mixing: float = Field(
        0.4, ge=0, le=1, description="Weight of the text; the rest is the image embedding's."
    )
    samples: PositiveInt = Field(
        1,
        description="Images made of each pair; the one nearest to the image embedding is kept. Where the "
        "image decoder makes several embeddings, the images share them out.",
    )
    strength: float = strength(0.75)
    guidance: float = guidance(7.5)
    steps: int = steps(50)
    scheduler: SchedulerName = scheduler("ddim")

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """The text tokens of the backbone too."""
        return {**super().demands, "text": spaces.text(self.backbone)}

    def build(self, context: Context) -> "DualDiffusion":
        """Return the generator, its weights read.

        Raises
        ------
        PerceptError : weights are absent
        """
        return DualDiffusion(self)


class DualDiffusion(ImageDiffusion):
    """Images of predicted image and text embeddings."""

    cfg: DualDiffusionConfig

    def __init__(self, cfg: DualDiffusionConfig) -> None:
        super().__init__(cfg)
        self.mixing = cfg.mixing

    def conditions(
        self, roles: Roles, start: NDArray[np.uint8] | None
    ) -> tuple[Conditions, list[dict[str, Any]]]:
        """Both decoded embeddings, and the low-level image where there is one."""
        image = conditioning(self.cfg.backbone, roles.semantic)
        return Conditions(image=image, text=roles.text, init=start), []
