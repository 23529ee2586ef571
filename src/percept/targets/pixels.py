"""The image itself at low resolution: what a linear reconstruction predicts."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.targets.encode import Source, ahead, capability
from percept.targets.settings import DirectConfig

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as in Pillow's mode L


class PixelsConfig(DirectConfig):
    """Pixel intensities of the image, averaged over the area of each low-resolution pixel."""

    kind: Literal["pixels"] = "pixels"
    size: PositiveInt = Field(16, description="Side of the low-resolution image, in pixels.")
    colour: Literal["rgb", "grey"] = Field("rgb", description="Three channels, or their luma (BT.601).")

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Intensities in 0..1, (stimulus, size, size, 3), or (stimulus, size, size) in grey."""
        images = capability(source, "images", self.kind)
        for found in ahead(map(images, batches)):
            low = area_resize(found, self.size)
            yield low if self.colour == "rgb" else low @ LUMA

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """Settings; the method is exact arithmetic, so nothing else can differ."""
        return {"kind": self.kind, "size": self.size, "colour": self.colour, "filter": "area"}


def area_weights(n_in: int, n_out: int) -> NDArray[np.float32]:
    """Share, (out, in), of each input pixel in each output pixel: rows sum to 1.

    Exact for any ratio: an input pixel that lies across a border counts on both sides by its covered part.
    """
    edges = np.arange(n_out + 1) * n_in / n_out  # in input pixels
    pixels = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * n_out / n_in).astype(np.float32)


def area_resize(images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Mean intensity in 0..1, (image, size, size, 3), over the area of each output pixel.

    The antialiased reduction that keeps mean intensity. Rows are reduced first, one image at a time, so that
    the float copy stays in the cache of the processor.
    """
    n, height, width, channels = images.shape
    down, across = area_weights(height, size) / 255, area_weights(width, size)
    low = np.empty((n, size, size, channels), dtype=np.float32)
    for image, out in zip(images, low, strict=True):
        rows = down @ image.reshape(height, -1).astype(np.float32)  # (size, width * channel)
        out[:] = across @ rows.reshape(size, width, channels)
    return low
