"""Generators by latent diffusion, each around a pipeline of diffusers, behind one interface."""

from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.diffusion.ip_adapter import AdapterSampler
from percept.backbones.diffusion.loading import frozen
from percept.backbones.diffusion.sampler import Conditions, PipelineSampler, Sampler
from percept.backbones.diffusion.text import TextSampler
from percept.backbones.diffusion.unclip import UnclipSampler
from percept.backbones.diffusion.versatile import VersatileSampler
from percept.backbones.precision import dtype

__all__ = ["SAMPLERS", "Conditions", "Sampler", "open_named"]

SAMPLERS: dict[str, type[PipelineSampler]] = {
    "img2img": TextSampler,
    "unclip": UnclipSampler,
    "versatile": VersatileSampler,
    "ip_adapter": AdapterSampler,
}
"""By the loader that the catalogue names."""


def open_named(
    name: str,
    device: str = "auto",
    precision: str = "float32",
    steps: int = 20,
    scheduler: str = "default",
    noise_level: int = 0,
) -> Sampler:
    """The generator `name` of the catalogue, read from its folder and those of its components.

    Parameters
    ----------
    device : auto (a GPU where there is one), cpu, cuda, ...
    precision : float32, float16 or bfloat16, of weights and computation
    steps : of denoising, for a full run from noise
    scheduler : default (what the network was published with), ddim, unipc or dpm (few steps)
    noise_level : noise put on the image embedding before it conditions; of the unCLIP networks alone

    Raises
    ------
    PerceptError : unknown or absent backbone, or a setting that it does not have
    """
    entry = named(name, "generator")
    kind = SAMPLERS[entry.loader]
    pipeline = frozen(kind.load(entry, dtype(precision)).to(choose(device)))
    return kind(entry, pipeline, steps, scheduler, noise_level)
