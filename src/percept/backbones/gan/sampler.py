"""Images of embeddings by a trained generator, and the search for the noise that suits an embedding best."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from percept.backbones import store
from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.gan import loading
from percept.backbones.gan.generator import Generator
from percept.backbones.image import ImageEncoder
from percept.files import PerceptError


@dataclass(frozen=True)
class Search:
    """How noise is optimised: steps of Adam on z, or on w, which z becomes."""

    variable: Literal["z", "w"]
    steps: int
    rate: float


@dataclass(frozen=True)
class Sampler:
    """A trained generator on a device."""

    generator: Generator
    device: str

    def conditions(self, embeddings: NDArray[np.float32]) -> Tensor:
        """Unit conditions (image, condition) of embeddings, as the network was trained on.

        Raises
        ------
        PerceptError : embeddings of another width, or not finite
        """
        width = self.generator.size.condition
        if embeddings.ndim != 2 or embeddings.shape[1] != width or not np.isfinite(embeddings).all():
            raise PerceptError(
                f"embeddings of shape {embeddings.shape[1:]} per image, "
                f"{int((~np.isfinite(embeddings)).sum())} of their numbers not finite, cannot condition this "
                f"network, which reads finite vectors of {width} features: give it a decoder of the target "
                "that it was trained on (kind `clip_image`, output pooled)."
            )
        return self.generator.prepared(torch.from_numpy(np.float32(embeddings)).to(self.device))

    def noise(self, n: int, seeds: Sequence[int] | None) -> Tensor:
        """Noise z (image, latent) of a seed each; 0 without seeds."""
        width = self.generator.size.latent
        if seeds is None:
            return torch.zeros(n, width, device=self.device)
        drawn = [torch.randn(width, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(self.device)

    def draw(self, embeddings: NDArray[np.float32], seeds: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Images (image, side, side, 3) of embeddings (image, feature): of z = 0, or of z of a seed each.

        Raises
        ------
        PerceptError : embeddings of another width, or not finite
        """
        with torch.inference_mode():
            c = self.conditions(embeddings)
            return levels(self.generator(self.noise(len(c), seeds), c))

    def fitted(
        self, embeddings: NDArray[np.float32], encoder: ImageEncoder, search: Search, seeds: Sequence[int]
    ) -> NDArray[np.uint8]:
        """Images whose own embedding is as near to the given one as the search brings it.

        The cosine of CLIP(G(z, c)) to the embedding that c was made of rises, both standardised as conditions
        are. w starts at z = 0; z, of which 0 is a corner, at noise of a seed each. Every image is optimised
        by itself.

        Raises
        ------
        PerceptError : embeddings of another width, or not finite
        """
        c = self.conditions(embeddings)
        with torch.no_grad():
            z = self.noise(len(c), seeds)
            start = z if search.variable == "z" else self.generator.mapped(torch.zeros_like(z))
        variable = start.clone().requires_grad_(True)
        optimiser = torch.optim.Adam([variable], lr=search.rate)
        for _ in range(search.steps):
            images = self._made(variable, search, c)
            again = self.generator.prepared(seen(encoder, images))
            optimiser.zero_grad()
            (1 - F.cosine_similarity(again, c)).sum().backward()
            optimiser.step()
        with torch.inference_mode():
            return levels(self._made(variable, search, c))

    def _made(self, variable: Tensor, search: Search, c: Tensor) -> Tensor:
        w = self.generator.mapped(variable) if search.variable == "z" else variable
        return self.generator.synthesis(w, c)


def open_named(name: str, device: str = "auto") -> Sampler:
    """The GAN `name` of the catalogue.

    Raises
    ------
    PerceptError : unknown or absent backbone, or a device that is not there
    """
    return open_folder(store.require(named(name, "generator").name), device)


def open_folder(folder: str | Path, device: str = "auto") -> Sampler:
    """The GAN of a folder, as `loading.save` wrote it.

    Raises
    ------
    PerceptError : a device that is not there
    """
    device = choose(device)
    return Sampler(loading.load(folder).to(device), device)


def levels(images: Tensor) -> NDArray[np.uint8]:
    """Images (image, row, column, 3) in 0..255 of tensors (image, 3, row, column) in -1..1."""
    scaled = (images.clamp(-1, 1) + 1) * 127.5
    return scaled.round().permute(0, 2, 3, 1).byte().cpu().numpy()


def seen(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """Embeddings (image, feature) of images (image, 3, row, column) in -1..1, with a gradient to the images.

    As `encoder.encode`, but for the rounding of grey levels; images of another size are resized bicubically.
    """
    side = encoder.tower.preprocess_cfg["size"]
    side = (side, side) if isinstance(side, int) else tuple(side)
    pixels = (images.clamp(-1, 1) + 1) / 2
    if pixels.shape[2:] != side:
        pixels = F.interpolate(pixels, side, mode="bicubic", align_corners=False, antialias=True)
    scaling = encoder.preprocessing
    mean, sd = (pixels.new_tensor(values)[:, None, None] for values in (scaling.mean, scaling.sd))
    return encoder.output(encoder.tower, (pixels - mean) / sd).float()
