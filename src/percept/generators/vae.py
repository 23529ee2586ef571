"""Decode predicted latents: MindEye's low-level reconstruction by itself (Scotti et al. 2023, §3.2)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from percept.backbones.catalogue import n_gpus
from percept.config import GeneratorConfig
from percept.generators import spaces
from percept.generators.lowlevel import AutoencoderName, Lowlevel
from percept.generators.roles import Context, Made, Roles
from percept.sections import Precision


class VaeConfig(GeneratorConfig):
    """Predicted latents through the decoder of their autoencoder: layout and colour, blurred, no detail."""

    needs: ClassVar[tuple[str, ...]] = ("lowlevel",)

    kind: Literal["vae"] = "vae"
    backbone: AutoencoderName = Field(
        "sd_image_variations_vae",
        description="Autoencoder whose latents the low-level decoder predicts: the one of its target.",
    )
    precision: Precision = Field("float32", description="Of weights and computation.")
    batch_size: PositiveInt = Field(16, description="Images decoded at a time.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @property
    def backbones(self) -> tuple[str, ...]:
        """The autoencoder."""
        return (self.backbone,)

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """Latents of this autoencoder."""
        return {"lowlevel": spaces.lowlevel(self.backbone)}

    @property
    def n_gpus(self) -> int:
        """One, unless the CPU is asked for or the network is a tiny one."""
        return n_gpus(self.device, self.backbone)

    def build(self, context: Context) -> "Vae":
        """Return the generator; its weights are read with the first batch."""
        return Vae(Lowlevel(self.backbone, self.device, self.precision), self.batch_size)


@dataclass(frozen=True)
class Vae:
    """Decodes latents. Given the true latents it shows what the autoencoder keeps of an image."""

    decode: Lowlevel
    batch_size: int

    def generate(self, roles: Roles, seed: int) -> Made:
        """Images of the low-level role; nothing is random, so `seed` changes nothing.

        Raises
        ------
        PerceptError : latents of another shape than the autoencoder's, or not finite
        """
        return Made(self.decode(roles.lowlevel))
