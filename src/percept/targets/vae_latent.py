"""Latents of the autoencoder of a diffusion model: where which light is."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.backbones import autoencoder
from percept.config import Identifier
from percept.targets.encode import Source, ahead, capability
from percept.targets.settings import NetworkConfig


class VaeLatentConfig(NetworkConfig):
    """Latent of the image, (channel, row, column): the mode of its posterior, times the scaling factor."""

    role: ClassVar[str] = "autoencoder"

    kind: Literal["vae_latent"] = "vae_latent"
    backbone: Identifier = Field(
        "sd_vae", description="Autoencoder of the catalogue, such as sd_vae or tiny_vae."
    )
    size: PositiveInt | None = Field(
        None,
        description="Side in pixels to which images are resized, a multiple of 8 (Takagi: 320); null: the "
        "network's own.",
    )
    batch_size: PositiveInt = Field(16, description="Images per forward pass; lower it when memory is short.")

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Latents (stimulus, channel, size / 8, size / 8)."""
        images = capability(source, "images", self.kind)
        encoder = self.opened(autoencoder.open_named, self.size)
        yield from map(encoder.encode, ahead(map(images, batches)))

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """What the backbone, the size of its images and its arithmetic are."""
        encoder = self.opened(autoencoder.open_named, self.size)
        return {"kind": self.kind, "backbone": encoder.fingerprint()}
