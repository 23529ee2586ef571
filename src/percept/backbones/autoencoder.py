"""Autoencoders of latent diffusion (diffusers' AutoencoderKL): images to latents and back.

A latent is the *mode* of the posterior times the network's scaling factor, never a sample of it: a sample is
a regression target with noise added. The low-level pipeline of MindEye (Scotti et al. 2023) predicts the
latents of 512 px images, (4, 64, 64) at a scaling of 0.18215; Takagi and Nishimoto (2023) those of 320 px.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones import fingerprint, store
from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.precision import dtype
from percept.backbones.resize import resized
from percept.files import PerceptError

AT_ONCE = 1 << 21  # pixels in one pass: eight images of 512 px, some 4 GB on a GPU in float32


@dataclass(frozen=True)
class Autoencoder:
    """A frozen autoencoder.

    Attributes
    ----------
    identity : which network it is, as in its manifest
    size : height and width, in pixels, to which images are brought before they are encoded
    """

    identity: dict[str, Any]
    network: Any  # diffusers.AutoencoderKL
    size: int

    @property
    def factor(self) -> int:
        """Pixels per latent position, along each axis."""
        return factor(self.network)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        return (self.network.config.latent_channels, self.size // self.factor, self.size // self.factor)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scaled latents, (image, channel, row, column), of uint8 images (image, height, width, 3).

        Raises
        ------
        ValueError : not uint8 RGB images
        """
        return encode(self.network, images, self.size).cpu().numpy()

    def decode(self, latents: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Images, uint8 (image, height, width, 3), of scaled latents (image, channel, row, column).

        Latents of any height and width are decoded, not only those of `size`.

        Raises
        ------
        PerceptError : latents of another shape, or not finite
        """
        import torch

        check_latents(latents, self.network.config.latent_channels)
        return decode(self.network, torch.from_numpy(np.asarray(latents, dtype=np.float32)))

    def fingerprint(self) -> dict[str, Any]:
        """Identity, size, digest of the weights in use, and the latents of the fixed image."""
        return {
            **self.identity,
            "size": self.size,
            "weights_sha256": fingerprint.of_weights(self.network),
            "probe": fingerprint.summarise(self.encode(fingerprint.probe_image())),
        }


def open_named(
    name: str, size: int | None = None, device: str = "auto", precision: str = "float32"
) -> Autoencoder:
    """The autoencoder `name` of the catalogue, read from its folder.

    Parameters
    ----------
    name : tiny_vae, sd_vae, sd_image_variations_vae
    size : of the images to encode, in pixels; the size of the catalogue, or the network's own, if absent
    device : auto (a GPU where there is one), cpu, cuda, ...
    precision : float32, float16 or bfloat16, of weights and computation; latents are float32 always

    Raises
    ------
    PerceptError : unknown or absent, a size that the network cannot halve often enough, no such precision
    """
    from diffusers import AutoencoderKL

    entry = named(name, "autoencoder")
    kind = dtype(precision)
    network = AutoencoderKL.from_pretrained(
        store.require(name), dtype=kind, local_files_only=True, use_safetensors=True
    )
    network = network.eval().requires_grad_(False).to(choose(device))
    size = size or entry.settings.get("size") or network.config.sample_size
    check_size(size, factor(network), name)
    identity = {**store.identity(name), "precision": precision}
    return Autoencoder(identity, network, int(size))


def factor(network: Any) -> int:  # noqa: ANN401 (diffusers.AutoencoderKL)
    """Pixels per latent position: each block but the last halves the image."""
    return 2 ** (len(network.config.block_out_channels) - 1)


def encode(network: Any, images: NDArray[np.uint8], size: int) -> Any:  # noqa: ANN401
    """Scaled posterior modes, float32 tensor (image, channel, row, column) on the network's device.

    Images are brought to `size` bilinearly, antialiased, uncropped, and to [-1, 1].
    """
    import torch

    shape = (network.config.latent_channels, size // factor(network), size // factor(network))
    modes = [torch.empty((0, *shape), device=network.device, dtype=network.dtype)]
    with torch.no_grad():
        for rows in _portions(len(images), size):
            pixels = resized(images[rows], size, network.device, antialias=True) * 2 - 1
            modes.append(network.encode(pixels.to(network.dtype)).latent_dist.mode())
    return torch.cat(modes).float() * network.config.scaling_factor


def decode(network: Any, latents: Any) -> NDArray[np.uint8]:  # noqa: ANN401 (a tensor)
    """Images, uint8 (image, height, width, 3), of a tensor of scaled latents."""
    import torch

    height, width = (n * factor(network) for n in latents.shape[2:])
    unscaled = latents.to(network.device, torch.float32) / network.config.scaling_factor
    with torch.no_grad():
        decoded = [
            _to_bytes(network.decode(unscaled[rows].to(network.dtype)).sample)
            for rows in _portions(len(latents), width)
        ]
    return np.concatenate([np.empty((0, height, width, 3), np.uint8), *decoded])


def check_latents(latents: NDArray, channels: int) -> None:
    """Refuse what no decoder of images can read.

    Raises
    ------
    PerceptError : not (image, channels, row, column), or not finite
    """
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise PerceptError(
            f"latents of shape {latents.shape} cannot be decoded: the autoencoder reads (image, {channels}, "
            "row, column). Name a decoder whose target is a `vae_latent` of this same autoencoder."
        )
    if not np.isfinite(latents).all():
        bad = np.flatnonzero(~np.isfinite(latents).all(axis=(1, 2, 3)))
        raise PerceptError(
            f"the latents of {len(bad)} of {len(latents)} images (first: row {bad[0]}) hold values that are "
            "not finite, so that there is no image to decode: look for NaN in the voxels or for a decoder "
            "that diverged (a lower learning rate, a larger ridge penalty), and decode again."
        )


def check_size(size: int, factor: int, name: str) -> None:
    """Refuse a size that the encoder cannot halve often enough.

    Raises
    ------
    PerceptError : not a positive multiple of `factor`
    """
    if size <= 0 or size % factor:
        near = max(factor, round(size / factor) * factor)
        raise PerceptError(
            f"the autoencoder {name} halves an image until one position stands for {factor} pixels: a size "
            f"of {size} px does not fit. Set `size` to a multiple of {factor}, such as {near}."
        )


def _portions(n_images: int, size: int) -> Iterator[slice]:
    step = max(1, AT_ONCE // size**2)
    yield from (slice(start, start + step) for start in range(0, n_images, step))


def _to_bytes(decoded: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    """(image, 3, height, width) around [-1, 1] to uint8 (image, height, width, 3), rounded."""
    unit = (decoded.float() / 2 + 0.5).clamp(0, 1) * 255
    return unit.round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
