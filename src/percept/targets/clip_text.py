"""Embeddings of captions by a text encoder of the catalogue, averaged over the captions of an image."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from percept.backbones import text
from percept.config import Identifier
from percept.files import PerceptError
from percept.targets.encode import Source, capability
from percept.targets.settings import NetworkConfig


class ClipTextConfig(NetworkConfig):
    """What people said about the image: mean over its captions (Brain-Diffuser: 77 x 768 tokens)."""

    role: ClassVar[str] = "text"
    reads: ClassVar[tuple[str, ...]] = ("captions",)

    kind: Literal["clip_text"] = "clip_text"
    backbone: Identifier = Field(
        "clip_vit_l14",
        description="Text encoder of the catalogue: a CLIP, or a diffusion model whose own encoder is meant.",
    )
    output: Literal["pooled", "tokens"] = Field(
        "pooled",
        description="pooled: (d,); tokens: (77, d), what the cross-attention of diffusion models reads.",
    )

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Mean embeddings (stimulus, d) or (stimulus, token, d).

        Raises
        ------
        PerceptError : a stimulus has no caption
        """
        said = dict(zip(stimuli.tolist(), capability(source, "captions", self.kind)(stimuli), strict=True))
        _require_captions(said)
        encoder = self.opened(text.open_named, self.output)
        for batch in batches:
            yield mean_over_captions(encoder, [said[one] for one in batch.tolist()], self.batch_size)

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """What the backbone, its output and its arithmetic are."""
        encoder = self.opened(text.open_named, self.output)
        return {"kind": self.kind, "mean_over": "captions", "backbone": encoder.fingerprint()}


def mean_over_captions(
    encoder: text.TextEncoder, captions: Sequence[Sequence[str]], batch_size: int
) -> NDArray[np.float32]:
    """Mean embedding (image, ...) over the captions of each image, every caption counting the same.

    Parameters
    ----------
    captions : of each image, at least one
    batch_size : texts per forward pass
    """
    texts = list(chain.from_iterable(captions))
    starts = np.cumsum([0, *map(len, captions[:-1])])
    embedded = np.concatenate(
        [encoder.encode(texts[first : first + batch_size]) for first in range(0, len(texts), batch_size)]
    )
    counts = np.array(list(map(len, captions))).reshape(-1, *[1] * (embedded.ndim - 1))
    return (np.add.reduceat(embedded, starts, axis=0) / counts).astype(np.float32)


def _require_captions(said: dict[int, tuple[str, ...]]) -> None:
    silent = [stimulus for stimulus, captions in said.items() if not captions]
    if silent:
        raise PerceptError(
            f"{len(silent)} stimuli have no caption, the first is {silent[0]}: a target of kind `clip_text` "
            "is the mean over the captions of an image. Add captions, or name a target of kind `clip_image`."
        )
