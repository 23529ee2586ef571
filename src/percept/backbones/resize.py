"""Bilinear resizing of images as tensors, with antialiasing said aloud.

torchvision's `Resize` of a tensor smoothed nothing below 0.17 and does from then on, without a word in the
code that calls it. The field's image metrics were published with the former.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_tensor(images: NDArray[np.uint8], device: str = "cpu") -> Any:  # noqa: ANN401 (a tensor)
    """Images (n, height, width, 3) uint8 as a float32 tensor (n, 3, height, width) in [0, 1].

    Raises
    ------
    ValueError : not 8-bit colour images
    """
    return _bytes(images, device).float() / 255


def resized(images: NDArray[np.uint8], size: int, device: str = "cpu", *, antialias: bool = False) -> Any:  # noqa: ANN401
    """As `to_tensor` and `resize`, (n, 3, size, size); faster, for what shrinks is scaled afterwards.

    Raises
    ------
    ValueError : not 8-bit colour images
    """
    return resize(_bytes(images, device).float(), size, antialias=antialias) / 255


def _bytes(images: NDArray[np.uint8], device: str) -> Any:  # noqa: ANN401
    import torch

    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            f"images are uint8 of axes (image, height, width, 3), not {images.dtype} of shape "
            f"{images.shape}: clip to 0..255 and convert, as the shown image would be"
        )
    tensor = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # a read-only one warns
    return tensor.to(device).permute(0, 3, 1, 2)


def resize(images: Any, size: int, *, antialias: bool = False) -> Any:  # noqa: ANN401
    """Square images (n, channel, size, size) by bilinear interpolation, pixel centres at halves.

    Parameters
    ----------
    images : tensor (n, channel, height, width), float; those of the size are returned as they are
    antialias : widen the kernel by the factor when images shrink; enlarging is the same either way
    """
    from torch.nn.functional import interpolate

    if tuple(images.shape[2:]) == (size, size):
        return images
    return interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=antialias)
