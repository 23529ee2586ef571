"""tiny_vae: an autoencoder of the scenes, of diffusers' class `AutoencoderKL`, factor 8, four channels.

Its latents, (4, 8, 8) for 64 pixels, are what the small diffusion models denoise, and what decoders predict
from brain activity. Predictions are noisy, so it learns to decode noisy latents as well.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.backbones.tiny import cards, data, origin
from percept.backbones.tiny.trainer import Job, Recipe, fit

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

NAME = "tiny_vae"
RECIPE = Recipe(
    steps=6000, learning_rate=2e-3, batch_size=16, weight_decay=0.01, betas=(0.9, 0.99), ema=0.999
)
FINE = Recipe(
    steps=4000, learning_rate=1.5e-3, batch_size=16, weight_decay=0.01, betas=(0.9, 0.99), ema=0.998, seed=1
)
ARCHITECTURE: dict[str, Any] = {
    "sample_size": data.SIDE,
    "block_out_channels": (16, 32, 64, 80),
    "layers_per_block": 1,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "force_upcast": False,
}
SQUARED = 2.0  # weight of the squared error beside the absolute one
DIVERGENCE = 1e-3  # of the posterior from a standard normal, per value of the picture
CONTRAST, COLOUR = 4.0, 1.0  # emphasis of the second stage, see `loss`
STANDING_OUT = 0.3  # distance from the middle colour of a row, of -1..1, that counts as far
NOISE = 0.25  # added to the latents, in their standard deviations, at most
AT_ONCE = 250  # pictures encoded or decoded together
DESCRIPTION = """An autoencoder with a Kullback-Leibler term: `AutoencoderKL` of diffusers, factor 8, four
channels. Latents of a 64-pixel image are (4, 8, 8); `scaling_factor` in its configuration gives the posterior
modes of the training scenes unit spread."""
DATA = """Pictures are moved by up to two pixels and tinted by up to four percent."""
TRAINING = """Two stages, of 6,000 and 4,000 steps: absolute error, twice the squared error, and a thousandth
of the divergence of the posterior from a standard normal distribution (per value of the picture). In the
second stage, pixels that stand out of their row weigh up to five times as much, and errors of the differences
between channels are added, so that things keep their shapes and colours. Latents carry noise of up to a
quarter of their spread, of a strength drawn for each picture, because decoders predict noisy ones. AdamW,
warm-up and cosine decay, bfloat16 matrix products; the weights are an exponential moving average."""


def build() -> "AutoencoderKL":
    """The network, untrained."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**ARCHITECTURE)


def train(job: Job, recipe: Recipe = RECIPE, fine: Recipe = FINE) -> None:
    """Train in two stages, set the scale of the latents, measure on held-out scenes, write the folder.

    Raises
    ------
    PerceptError : a loss is not finite
    """
    import torch

    cards.clear(job.folder)
    torch.manual_seed(recipe.seed)
    autoencoder = build()
    identity = origin.origin(job, __name__)
    first = _stage(autoencoder, job, recipe, job.work, identity, (0.0, 0.0))
    second = _stage(autoencoder, job, fine, job.work / "fine", f"{recipe} {identity}", (CONTRAST, COLOUR))
    autoencoder.half().float()  # what is measured is what is written
    spread = float(encode(autoencoder, job.train.images[:5000]).std())
    autoencoder.register_to_config(scaling_factor=1 / spread)
    autoencoder.half().save_pretrained(job.folder)
    measured = quality(autoencoder.float(), job.held_out.images)
    cards.finish(
        job, NAME, replace(recipe, steps=recipe.steps + fine.steps), _joined(first, second), measured,
        library="diffusers", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def _stage(
    autoencoder: "AutoencoderKL",
    job: Job,
    recipe: Recipe,
    work: Path,
    identity: str,
    emphasis: tuple[float, float],
) -> pd.DataFrame:
    """Train on the scenes with an emphasis on contrast and on colour; returns the history."""

    def loss_of_step(
        module: "AutoencoderKL", step: int, generator: "torch.Generator"
    ) -> dict[str, "torch.Tensor"]:
        images = data.batch(job.train, step, recipe.batch_size, recipe.seed).images
        return loss(module, normalised(images), *emphasis)

    autoencoder.requires_grad_(True)
    return fit(autoencoder, loss_of_step, recipe, work, identity)


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The history of two stages as one, with steps and seconds counted through."""
    later = second.copy()
    later[["step", "seconds"]] += first[["step", "seconds"]].iloc[-1]
    return pd.concat([first, later], ignore_index=True)


def load(folder: str | Path) -> "AutoencoderKL":
    """The trained network, in evaluation mode and single precision."""
    import torch
    from diffusers import AutoencoderKL

    network = AutoencoderKL.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True, use_safetensors=True
    )
    return network.eval().requires_grad_(False)


def loss(
    autoencoder: "AutoencoderKL", pictures: "torch.Tensor", contrast: float = 0.0, colour: float = 0.0
) -> dict[str, "torch.Tensor"]:
    """Absolute and squared error of pictures (image, 3, row, column) in [-1, 1] after encoding and decoding.

    Every picture's latents get noise of a strength drawn from 0 to `NOISE`; the divergence keeps their scale.
    Pixels far from the middle colour of their row, where things stand before sky and ground, weigh up to
    1 + `contrast` times as much; errors of the differences between channels are added `colour` times.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        posterior = autoencoder.encode(pictures).latent_dist
        latents = posterior.sample()
        strength = NOISE * latents.detach().std() * torch.rand(len(pictures), 1, 1, 1)
        decoded = autoencoder.decode(latents + strength * torch.randn(latents.shape)).sample.float()
    weights = 1 + contrast * standing_out(pictures)
    weights = weights / weights.mean()
    error = decoded - pictures
    hues = error - error.roll(1, dims=1)  # red - blue, green - red, blue - green
    absolute = (weights * (error.abs() + colour * hues.abs())).mean()
    squared = (weights * (error.square() + colour * hues.square())).mean()
    divergence = posterior.kl().float().mean() / pictures[0].numel()
    total = absolute + SQUARED * squared + DIVERGENCE * divergence
    return {"loss": total, "absolute": absolute, "squared": squared, "divergence": divergence}


def standing_out(pictures: "torch.Tensor") -> "torch.Tensor":
    """How far each pixel is from the middle colour of its row, in [0, 1): (image, 1, row, column)."""
    middle = pictures.median(dim=3, keepdim=True).values
    return ((pictures - middle).abs().mean(dim=1, keepdim=True) / STANDING_OUT).tanh()


def normalised(images: NDArray[np.uint8]) -> "torch.Tensor":
    """Pictures as the network takes them, (image, 3, row, column) in [-1, 1]."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def encode(autoencoder: "AutoencoderKL", images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Posterior mode, (image, 4, 8, 8), unscaled, of uint8 images (image, row, column, 3)."""
    import torch

    with torch.inference_mode():
        modes = [
            autoencoder.encode(normalised(images[first : first + AT_ONCE])).latent_dist.mode()
            for first in range(0, len(images), AT_ONCE)
        ]
    return torch.cat(modes).numpy()


def decode(autoencoder: "AutoencoderKL", latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures, uint8 (image, row, column, 3), of unscaled latents (image, 4, 8, 8)."""
    import torch

    with torch.inference_mode():
        decoded = [
            autoencoder.decode(torch.from_numpy(latents[first : first + AT_ONCE])).sample
            for first in range(0, len(latents), AT_ONCE)
        ]
    levels = (torch.cat(decoded).clamp(-1, 1) + 1) * 127.5
    return levels.round().permute(0, 2, 3, 1).byte().numpy()


def quality(autoencoder: "AutoencoderKL", images: NDArray[np.uint8]) -> dict[str, float]:
    """What the model card says: PSNR in dB from the posterior mode, and from latents with noise."""
    latents = encode(autoencoder, images)
    noise = np.random.default_rng(0).standard_normal(latents.shape, dtype=np.float32)
    noisy = latents + NOISE * latents.std() * noise
    return {
        "PSNR of held-out scenes, posterior mode, dB": psnr(decode(autoencoder, latents), images),
        f"PSNR with noise of {NOISE} sd on the latents, dB": psnr(decode(autoencoder, noisy), images),
    }


def psnr(decoded: NDArray[np.uint8], images: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255² / mean squared error), averaged over the images."""
    error = np.square(decoded.astype(np.float64) - images).mean(axis=(1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-12))))
