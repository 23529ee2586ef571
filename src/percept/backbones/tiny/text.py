"""tiny_text: from a caption to a scene; a `StableDiffusionPipeline`, which also starts from an image.

Its folder holds the text encoder and the tokenizer that tiny_unclip reads with as well: the text tower of
tiny_clip as `transformers` knows it.
"""

import shutil
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from percept.backbones.tiny import cards, clip, denoising, latents, origin, tokenizer, unclip
from percept.backbones.tiny.denoising import Condition, Reader
from percept.backbones.tiny.trainer import Job, Recipe, fit

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

    from percept.backbones.tiny.data import Scenes

NAME = "tiny_text"
RECIPE = Recipe(
    steps=3000, learning_rate=1.5e-3, batch_size=64, weight_decay=0.02, betas=(0.9, 0.99), ema=0.999
)
CHANNELS = (64, 80)  # at 8 x 8, at 4 x 4
NO_TEXT, ALL_TEXTS = 0.1, 0.25  # shares of the scenes: without text, with the mean of all five captions
DESCRIPTION = """A latent diffusion model that shows what a caption says: `StableDiffusionPipeline` (and
`StableDiffusionImg2ImgPipeline`) of diffusers, with the text tower of tiny_clip as its text encoder. The
autoencoder lies in tiny_vae and is given when it is loaded. It works with DDIM, UniPC and DPM-Solver in 10 to
20 steps."""
DATA = """Latents are the posterior modes of tiny_vae. Texts are one of the five captions; the mean hidden
states of all five, which decoders predict from brain activity, in a quarter of the cases; and the empty
prompt in a tenth."""
TRAINING = """Squared error of v (Salimans and Ho 2022) over the noise schedule of Stable Diffusion. AdamW,
warm-up and cosine decay, bfloat16 matrix products; the weights are an exponential moving average."""


def train(job: Job, recipe: Recipe = RECIPE) -> None:
    """Train the network on the latents of the scenes and write its folder.

    Raises
    ------
    PerceptError : a loss is not finite
    """
    import torch

    cards.clear(job.folder)
    shown, reader = torch.from_numpy(latents.latents(job)), Reader(job.parts[clip.NAME])
    noising, unet = denoising.scheduler(), denoising.build(CHANNELS, reader.width, recipe.seed)

    def loss_of_step(
        module: "UNet2DConditionModel", step: int, generator: "torch.Generator"
    ) -> dict[str, "torch.Tensor"]:
        rng = np.random.default_rng([recipe.seed, step])
        rows = rng.choice(len(job.train), recipe.batch_size, replace=False)
        condition = Condition(spoken(job.train, rows, reader, rng))
        return denoising.loss(module, noising, shown[rows], condition, generator)

    history = fit(unet, loss_of_step, recipe, job.work, origin.origin(job, __name__))
    write(job.folder, unet, reader)
    job = unclip.measured_on(job)
    measured = measure(job, unet.half().float(), reader)
    cards.finish(
        job, NAME, recipe, history, measured,
        library="diffusers", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def spoken(scenes: "Scenes", rows: np.ndarray, reader: Reader, rng: np.random.Generator) -> "torch.Tensor":
    """Hidden states, (row, token, width), of no caption, one, or the mean of all, drawn for each scene."""
    import torch

    drawn = rng.random(len(rows))
    every, one = drawn < ALL_TEXTS, (drawn >= ALL_TEXTS) & (drawn < 1 - NO_TEXT)
    states = reader.empty.repeat(len(rows), 1, 1)
    if every.any():
        states[torch.from_numpy(every)] = reader.means([scenes.captions[row] for row in rows[every]])
    if one.any():
        states[torch.from_numpy(one)] = reader.states(latents.captions(scenes, rows[one], rng))
    return states


def write(folder: Path, unet: "UNet2DConditionModel", reader: Reader) -> None:
    """The pipeline's own parts, in half precision, and the index that names them and the shared one."""
    deepcopy(unet).half().save_pretrained(folder / "unet")
    deepcopy(reader.tower).half().save_pretrained(folder / "text_encoder")
    denoising.scheduler().save_pretrained(folder / "scheduler")
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    for file in tokenizer.FILES:
        shutil.copyfile(Path(reader.tokenizer.name_or_path) / file, folder / "tokenizer" / file)
    parts: dict[str, tuple[str, str] | None] = {
        "feature_extractor": None,
        "image_encoder": None,
        "safety_checker": None,
        "scheduler": ("diffusers", "DDIMScheduler"),
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        **denoising.TEXT_PARTS,
    }
    denoising.write_index(folder, "StableDiffusionPipeline", parts, requires_safety_checker=False)


def measure(job: Job, unet: "UNet2DConditionModel", reader: Reader) -> dict[str, float]:
    """Two-way identification, by tiny_clip, of images made from the fullest caption and from all five."""
    true = latents.embed(job.parts[clip.NAME], job.held_out.images)
    nothing = Condition(reader.empty)
    given = {
        "full caption": reader.states([captions[0] for captions in job.held_out.captions]),
        "mean of five captions": reader.means(job.held_out.captions),
    }
    return {
        f"two-way identification by tiny_clip, from {what} (chance 0.5)": denoising.identified(
            unclip.remade(job, denoising.sample(unet, Condition(text), nothing)), true
        )
        for what, text in given.items()
    }
