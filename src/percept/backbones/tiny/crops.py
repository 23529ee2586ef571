"""Views of pictures for self-distillation: crops of two sizes, mirrored and with other colours.

Only pictures are cropped and mirrored: a response of the brain is not, because its places are its meaning.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

ASPECT = 4 / 3  # width over height of a crop, or the inverse, at most
GREY = (0.299, 0.587, 0.114)  # luminance of red, green and blue (ITU-R BT.601)


@dataclass(frozen=True)
class Crops:
    """Which views are drawn (defaults after Caron et al. 2021, for 64 pixels).

    ``large`` and ``small`` are ranges of the share of the picture's area; ``flip`` and ``grey`` are
    probabilities; ``jitter`` the largest relative change of brightness, contrast and each channel.
    """

    n_global: int = 2
    n_local: int = 2
    large: tuple[float, float] = (0.4, 1.0)
    small: tuple[float, float] = (0.1, 0.4)
    global_size: int = 64
    local_size: int = 32
    flip: float = 0.5
    jitter: float = 0.3
    grey: float = 0.1


def cropped(images: NDArray[np.uint8], cfg: Crops, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Global and local views, (view x image, 3, size, size) in [0, 1], view by view.

    Parameters
    ----------
    images : (image, row, column, 3)
    """
    pictures = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255
    large = [_view(pictures, cfg.large, cfg.global_size, cfg, rng) for _ in range(cfg.n_global)]
    small = [_view(pictures, cfg.small, cfg.local_size, cfg, rng) for _ in range(cfg.n_local)]
    empty = pictures.new_empty(0, 3, cfg.local_size, cfg.local_size)
    return torch.cat(large), torch.cat(small or [empty])


def _view(
    pictures: Tensor, area: tuple[float, float], size: int, cfg: Crops, rng: np.random.Generator
) -> Tensor:
    """One crop of each picture."""
    n = len(pictures)
    boxes = torch.from_numpy(boxes_of(n, area, cfg.flip, rng)).float()
    grid = F.affine_grid(boxes, [n, 3, size, size], align_corners=False)
    seen = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return coloured(seen, cfg.jitter, cfg.grey, rng)


def boxes_of(n: int, area: tuple[float, float], flip: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Affine maps (n, 2, 3) from a view to the picture, both in [-1, 1]: boxes inside it, some mirrored."""
    share = rng.uniform(*area, n)
    stretch = np.exp(rng.uniform(-math.log(ASPECT), math.log(ASPECT), n) / 2)
    wide, high = (np.minimum(np.sqrt(share) * side, 1) for side in (stretch, 1 / stretch))
    mirrored = np.where(rng.random(n) < flip, -1, 1)
    maps = np.zeros((n, 2, 3))
    maps[:, 0, 0], maps[:, 1, 1] = wide * mirrored, high
    maps[:, 0, 2], maps[:, 1, 2] = (rng.uniform(-1, 1, n) * (1 - side) for side in (wide, high))
    return maps


def coloured(seen: Tensor, jitter: float, grey: float, rng: np.random.Generator) -> Tensor:
    """Views (view, 3, row, column) under other light: contrast, brightness, channels; some without colour."""
    n = len(seen)
    contrast, bright = (torch.from_numpy(rng.uniform(1 - jitter, 1 + jitter, (n, 1, 1, 1))) for _ in "cb")
    gain = torch.from_numpy(rng.uniform(1 - jitter / 2, 1 + jitter / 2, (n, 3, 1, 1))) * bright
    mean = seen.mean(dim=(1, 2, 3), keepdim=True)
    changed = ((seen - mean) * contrast.float() + mean) * gain.float()
    without = torch.from_numpy(rng.random((n, 1, 1, 1)) < grey)
    light = (changed * changed.new_tensor(GREY)[:, None, None]).sum(dim=1, keepdim=True)
    return torch.where(without, light.expand_as(changed), changed).clamp(0, 1)
