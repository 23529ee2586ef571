"""Linear reconstruction: the predicted low-resolution image itself, enlarged. No prior, nothing invented."""

from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.config import GeneratorConfig
from percept.files import PerceptError
from percept.generators import spaces
from percept.generators.roles import Context, Made, Roles

BATCH = 64  # images enlarged at a time: float images of a whole test set would take gigabytes
CUBIC = -0.5  # Keys (1981): the only slope at 1 that reproduces quadratics; also Pillow's


class PixelsConfig(GeneratorConfig):
    """Predicted pixels, enlarged by bicubic interpolation and clipped to 8 bits."""

    needs: ClassVar[tuple[str, ...]] = ("lowlevel",)

    kind: Literal["pixels"] = "pixels"
    out: PositiveInt = Field(128, description="Side of the images made, in pixels.")

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """Pixels in colour."""
        return {"lowlevel": spaces.pixels()}

    def build(self, context: Context) -> "Pixels":
        """Return the generator; it has nothing to train or to load."""
        return Pixels(self.out)


@dataclass(frozen=True)
class Pixels:
    """Enlarges predicted pixels. Given the true target it makes the recovery ceiling."""

    out: int
    batch_size: int = BATCH

    def generate(self, roles: Roles, seed: int) -> Made:
        """Images (n, out, out, 3) of the low-level role; nothing is random, so `seed` changes nothing.

        Raises
        ------
        PerceptError : the target is not a square colour image, or is not finite
        """
        return Made(enlarge(roles.lowlevel, self.out))


def enlarge(predicted: NDArray, out: int) -> NDArray[np.uint8]:
    """Images (n, out, out, 3) uint8 of predicted pixels.

    Parameters
    ----------
    predicted : (n, size * size * 3) or (n, size, size, 3) float, intensities where 0 is black and 1 white

    Raises
    ------
    PerceptError : the target is not a square colour image, or is not finite
    """
    low = as_squares(np.asarray(predicted, dtype=np.float32))
    if not np.isfinite(low).all():
        bad = int((~np.isfinite(low)).any(axis=(1, 2, 3)).sum())
        raise PerceptError(
            f"{bad} of {len(low)} predicted images hold values that are not finite, which no image can "
            "show: the decoder diverged or met invalid voxels; see its log and `voxels.invalid`."
        )
    return to_uint8(resize(low, out))


def as_squares(predicted: NDArray) -> NDArray:
    """View flattened square colour images, (n, size * size * 3), as (n, size, size, 3).

    Raises
    ------
    PerceptError : the length is not that of a square colour image
    """
    n_values = int(np.prod(predicted.shape[1:]))
    size = isqrt(n_values // 3)
    shown = (size, size, 3)
    if size == 0 or predicted.shape[1:] not in {shown, (size * size * 3,)}:
        raise PerceptError(
            f"the generator `pixels` shows square colour images, size x size x 3 values each; this target "
            f"has shape {predicted.shape[1:]}: name a decoder whose target is of kind `pixels`."
        )
    return predicted.reshape(len(predicted), *shown)


def resize(images: NDArray, out: int) -> NDArray:
    """Bicubic resampling of square images (n, size, size, channel) to (n, out, out, channel), float32.

    Separable and linear, so one (out, size) matrix serves rows and columns of all images at once. Agrees
    with Pillow's `BICUBIC`: pixel centres at halves, weights renormalised at the border, and a support
    widened by the factor when the image shrinks.
    """
    weights = interpolation(images.shape[1], out)
    wide = np.einsum("os,nrsc->nroc", weights, images, optimize=True)
    return np.einsum("os,nsrc->norc", weights, wide, optimize=True)


@cache
def interpolation(size: int, out: int) -> NDArray:
    """Weights (out, size) float32 of bicubic resampling along one axis; each row sums to 1."""
    step = size / out  # input pixels per output pixel
    support = max(step, 1.0)
    centre = (np.arange(out) + 0.5) * step
    distance = np.abs(np.arange(size) + 0.5 - centre[:, None]) / support  # (out, size)
    weights = keys_cubic(distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def keys_cubic(distance: NDArray) -> NDArray:
    """Keys' cubic kernel at distances >= 0 in pixels: 1 at 0, 0 at 1, 2 and beyond."""
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = CUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def to_uint8(images: NDArray) -> NDArray:
    """Round intensities in 0..1 to 0..255, clipping what lies outside."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
