"""Low-level images, blurry and in place: predicted latents through an autoencoder, or predicted pixels."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError
from percept.generators import pixels
from percept.sections import Precision

AutoencoderName = Literal["tiny_vae", "sd_vae", "sd_image_variations_vae"]
PIXELS_OUT = 128  # side of enlarged pixels: a generator brings them to its own size


class Lowlevel:
    """Makes images of the low-level role.

    Parameters
    ----------
    autoencoder : whose latents are predicted; None where pixels are
    device, precision : of the autoencoder
    """

    def __init__(self, autoencoder: AutoencoderName | None, device: str, precision: Precision) -> None:
        self.name, self.device, self.precision = autoencoder, device, precision
        self.network = None

    def __call__(self, predicted: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Images (n, height, width, 3) of latents (n, channel, row, column) or of pixels (n, size, size, 3).

        The autoencoder is read when it is first needed: a reconstruction may name none of its latents.

        Raises
        ------
        PerceptError : a target of another shape than named, or not finite
        """
        if self.name is None:
            self._check_pixels(predicted)
            return pixels.enlarge(predicted, PIXELS_OUT)
        if self.network is None:
            from percept.backbones import autoencoder

            self.network = autoencoder.open_named(self.name, device=self.device, precision=self.precision)
        return self.network.decode(predicted)

    def _check_pixels(self, predicted: NDArray[np.float32]) -> None:
        if predicted.ndim == 4 and predicted.shape[1] == predicted.shape[2] and predicted.shape[3] == 3:
            return
        raise PerceptError(
            f"the low-level role has targets of shape {predicted.shape[1:]}, which are no pixels (size, "
            "size, 3): if they are latents, set `lowlevel_backbone` of the generator to the autoencoder that "
            "the target `vae_latent` names; otherwise name a decoder whose target is of kind `pixels`."
        )
