"""Augmentation that gradients pass through, of real and generated images alike (Zhao et al. 2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How much is changed, and in what share of the images.

    Attributes
    ----------
    share : of the images that are changed; colour, place and hole are drawn apart
    shift : pixels in each direction, as a share of the side, at most; zeros come in
    hole : side of the square that is set to zero, as a share of the image's
    brightness : added to all channels, at most, of -1..1
    contrast, saturation : relative, at most
    """

    share: float = 0.3
    shift: float = 0.125
    hole: float = 0.5
    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 1.0


MOVED = Augmentation(share=1.0, hole=0.0, brightness=0.0, contrast=0.0, saturation=0.0)


def augmented(images: Tensor, how: Augmentation, generator: torch.Generator | None = None) -> Tensor:
    """Images (batch, 3, row, column) changed at random; differentiable in the images.

    The generator, of the CPU, decides what is drawn.
    """
    for change in (_coloured, _shifted, _pierced):
        images = change(images, how, generator)
    return images


def _drawn(images: Tensor, how: Augmentation, n: int, generator: torch.Generator | None) -> list[Tensor]:
    """As many numbers of -1..1 for each image, (batch,), and 0 for those that stay as they are."""
    draws = torch.rand(1 + n, len(images), generator=generator)
    changed = (draws[0] < how.share).float()
    return list(((2 * draws[1:] - 1) * changed).to(images.device))


def _coloured(images: Tensor, how: Augmentation, generator: torch.Generator | None) -> Tensor:
    """Brightness added, saturation and contrast stretched about the means of pixel and image."""
    drawn = _drawn(images, how, 3, generator)
    lighter, purer, harder = (value[:, None, None, None] for value in drawn)
    images = images + how.brightness * lighter
    grey = images.mean(dim=1, keepdim=True)
    images = grey + (images - grey) * (1 + how.saturation * purer)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + (images - middle) * (1 + how.contrast * harder)


def _shifted(images: Tensor, how: Augmentation, generator: torch.Generator | None) -> Tensor:
    """Moved by whole pixels, zeros behind."""
    n, _, height, width = images.shape
    down, right = _drawn(images, how, 2, generator)
    row = torch.arange(height, device=images.device) - (down * how.shift * height).round().long()[:, None]
    column = torch.arange(width, device=images.device) - (right * how.shift * width).round().long()[:, None]
    inside = ((row >= 0) & (row < height))[:, None, :, None] & ((column >= 0) & (column < width))[
        :, None, None
    ]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    which = torch.arange(n, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[which, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
    return moved * inside


def _pierced(images: Tensor, how: Augmentation, generator: torch.Generator | None) -> Tensor:
    """A square of zeros somewhere, partly outside perhaps."""
    _, _, height, width = images.shape
    top, left = _drawn(images, how, 2, generator)
    row = torch.linspace(-1, 1, height, device=images.device)[None, :, None]
    column = torch.linspace(-1, 1, width, device=images.device)[None, None, :]
    away = torch.maximum((row - top[:, None, None]).abs(), (column - left[:, None, None]).abs())
    pierced = (away < how.hole) & ((top != 0) | (left != 0))[:, None, None]
    return images * ~pierced[:, None]
