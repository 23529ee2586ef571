"""Pooled features of an open_clip image tower."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.backbones.image import ImageEncoder, load
from percept.config import TargetConfig
from percept.sections import Precision
from percept.targets.encode import Source, ahead, capability


class OpenClipConfig(TargetConfig):
    """The image embedding of a CLIP-like network, not normalised."""

    kind: Literal["open_clip"] = "open_clip"
    architecture: str = Field("ViT-L-14", description="Name that open_clip knows, or local-dir:<folder>.")
    weights: str = Field(
        "openai", description="Released tag, path of a .safetensors file, or random:<seed> (untrained)."
    )
    precision: Precision = Field("float32", description="How features are stored.")
    batch_size: PositiveInt = Field(64, description="Images per forward pass; lower it when memory is short.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @property
    def n_gpus(self) -> int:
        """One, unless the CPU is asked for: 70,000 images take a ViT-L/14 about 40 hours on two cores."""
        return int(self.device != "cpu")

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Embeddings (stimulus, feature)."""
        images = capability(source, "images", self.kind)
        encoder = _encoder(self.architecture, self.weights, self.device)
        yield from encoder.stream(ahead(map(images, batches)))

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """The backbone's fingerprint: which network, which weights, what it answers to a fixed image."""
        encoder = _encoder(self.architecture, self.weights, self.device)
        return {"kind": self.kind, "backbone": encoder.fingerprint()}


@lru_cache(maxsize=1)
def _encoder(architecture: str, weights: str, device: str) -> ImageEncoder:
    """The network is read once for its fingerprint and its features."""
    return load(architecture, weights, device)
