"""Embeddings of images by a CLIP of the catalogue: pooled, or one per token."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from percept.backbones import image
from percept.config import Identifier
from percept.targets.encode import Source, ahead, capability
from percept.targets.settings import NetworkConfig


class ClipImageConfig(NetworkConfig):
    """What a CLIP sees in the image: its pooled embedding, or the embeddings of all tokens."""

    role: ClassVar[str] = "image"

    kind: Literal["clip_image"] = "clip_image"
    backbone: Identifier = Field(
        "clip_vit_l14", description="CLIP of the catalogue, such as clip_vit_l14 or tiny_clip."
    )
    output: Literal["pooled", "tokens"] = Field(
        "pooled",
        description="pooled: (d,), not normalised; tokens: (t, d), in the space that generators read "
        "(ViT-L/14: 257 x 768, projected, divided by the norm of the class token).",
    )
    augmentation: Literal["none", "flip", "crops"] = Field(
        "none", description="Mean over views of the image: itself and its mirror image, or several crops."
    )

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Embeddings (stimulus, d) or (stimulus, token, d)."""
        images = capability(source, "images", self.kind)
        encoder = self.opened(image.open_named, self.output)
        yield from encoder.stream(ahead(map(images, batches)), augmentation=self.augmentation)

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """How views are averaged, and what the backbone, its output and its arithmetic are."""
        encoder = self.opened(image.open_named, self.output)
        return {"kind": self.kind, "augmentation": self.augmentation, "backbone": encoder.fingerprint()}
