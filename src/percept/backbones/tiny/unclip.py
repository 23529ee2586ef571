"""tiny_unclip: from an image embedding, a text, or both to a scene; a `StableUnCLIPImg2ImgPipeline`.

The network reads the pooled embedding of tiny_clip where Stable unCLIP reads that of its CLIP: with noise of
a level that it is told, added to its embedding of the step. Its cross-attention reads the text. Zeros and the
empty prompt, which the pipeline gives as unconditional, stand for no image and no text.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from percept.backbones.tiny import cards, clip, denoising, latents, origin, vae
from percept.backbones.tiny.data import Scenes
from percept.backbones.tiny.denoising import Condition, Reader
from percept.backbones.tiny.trainer import Job, Recipe, fit

if TYPE_CHECKING:
    import torch
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

NAME = "tiny_unclip"
RECIPE = Recipe(
    steps=4000, learning_rate=1.5e-3, batch_size=64, weight_decay=0.02, betas=(0.9, 0.99), ema=0.999
)
CHANNELS = (64, 104)  # at 8 x 8, at 4 x 4
NO_IMAGE, NO_TEXT = 0.15, 0.5  # shares of the scenes, drawn independently
NOISE_POWER = 3  # the level is 1000 u^3 for uniform u: a fifth of the scenes below 10
NOISE_LEVELS = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}  # as Stable unCLIP
MEASURED = 1000  # held-out scenes that are sampled
DESCRIPTION = """A latent diffusion model that shows what an image embedding of tiny_clip describes, and
optionally a text: `StableUnCLIPImg2ImgPipeline` of diffusers. Autoencoder, text encoder and tokenizer lie in
tiny_vae and tiny_text and are given when it is loaded; embeddings (64 features, not normalised) are given as
`image_embeds`. It also starts from an image, and works with DDIM, UniPC and DPM-Solver in 10 to 20 steps."""
DATA = """Latents are the posterior modes of tiny_vae, embeddings those of tiny_clip; texts are one of the
five captions. A scene is shown without its embedding (zeros) and without its text (the empty prompt), each
drawn independently of the other, so that image alone, text alone, both and neither work."""
TRAINING = """Squared error of v (Salimans and Ho 2022) over the noise schedule of Stable Diffusion.
Embeddings carry noise of random level, most of it low. AdamW, warm-up and cosine decay, bfloat16 matrix
products; the weights are an exponential moving average."""


@dataclass(frozen=True)
class Noiser:
    """Noise on image embeddings, and what the network is told of its level."""

    normaliser: "StableUnCLIPImageNormalizer"
    levels: "DDPMScheduler"

    @classmethod
    def of(cls, embeddings: NDArray[np.float32]) -> "Noiser":
        """Noise in proportion to the spread of each feature of (scene, feature)."""
        import torch
        from diffusers import DDPMScheduler
        from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

        normaliser = StableUnCLIPImageNormalizer(embeddings.shape[1]).requires_grad_(False)
        normaliser.mean.copy_(torch.from_numpy(embeddings.mean(axis=0)))
        normaliser.std.copy_(torch.from_numpy(embeddings.std(axis=0)))
        return cls(normaliser, DDPMScheduler(**NOISE_LEVELS))

    def condition(
        self, embeddings: "torch.Tensor", levels: "torch.Tensor", noise: "torch.Tensor"
    ) -> "torch.Tensor":
        """What `StableUnCLIPImg2ImgPipeline.noise_image_embeddings` gives to the network.

        (image, 2 x feature): embeddings (image, feature) with noise of the levels (image,) in 0 .. 999, in
        their own units again, and sines and cosines of the levels. Here each image has a level of its own.
        """
        import torch
        from diffusers.models.embeddings import get_timestep_embedding

        noisy = self.levels.add_noise(self.normaliser.scale(embeddings), noise, levels)
        told = get_timestep_embedding(
            levels, embeddings.shape[1], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        return torch.cat([self.normaliser.unscale(noisy), told], dim=1)


@dataclass(frozen=True)
class Shown:
    """What training draws its batches from: latents (scene, 4, 8, 8), embeddings (scene, 64), captions."""

    scenes: Scenes
    latents: "torch.Tensor"
    embeddings: "torch.Tensor"
    noiser: Noiser
    reader: Reader

    @classmethod
    def of(cls, job: Job) -> "Shown":
        """Everything of the training scenes, computed once."""
        import torch

        embeddings = latents.embeddings(job)
        return cls(
            job.train,
            torch.from_numpy(latents.latents(job)),
            torch.from_numpy(embeddings),
            Noiser.of(embeddings),
            Reader(job.parts[clip.NAME]),
        )

    def batch(
        self, step: int, recipe: Recipe, generator: "torch.Generator"
    ) -> tuple["torch.Tensor", Condition]:
        """Latents of a step's scenes and their conditions, some of them dropped."""
        import torch

        rng = np.random.default_rng([recipe.seed, step])
        rows = rng.choice(len(self.scenes), recipe.batch_size, replace=False)
        said, seen = (rng.random((2, len(rows))).T >= (NO_TEXT, NO_IMAGE)).T
        text = self.reader.empty.repeat(len(rows), 1, 1)
        if said.any():
            text[torch.from_numpy(said)] = self.reader.states(latents.captions(self.scenes, rows[said], rng))
        levels = (1000 * torch.rand(len(rows), generator=generator) ** NOISE_POWER).long().clamp(max=999)
        noise = torch.randn(len(rows), self.embeddings.shape[1], generator=generator)
        image = self.noiser.condition(self.embeddings[rows], levels, noise)
        return self.latents[rows], Condition(text, image * torch.from_numpy(seen)[:, None])


def build(n_features: int, text_width: int, seed: int) -> "UNet2DConditionModel":
    """The untrained network for embeddings of `n_features` and texts of tokens of `text_width`."""
    return denoising.build(
        CHANNELS,
        text_width,
        seed,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * n_features,
    )


def train(job: Job, recipe: Recipe = RECIPE) -> None:
    """Train the network on the latents of the scenes and write its folder.

    Raises
    ------
    PerceptError : a loss is not finite
    """
    cards.clear(job.folder)
    shown, noising = Shown.of(job), denoising.scheduler()
    unet = build(shown.embeddings.shape[1], shown.reader.width, recipe.seed)

    def loss_of_step(
        module: "UNet2DConditionModel", step: int, generator: "torch.Generator"
    ) -> dict[str, "torch.Tensor"]:
        return denoising.loss(module, noising, *shown.batch(step, recipe, generator), generator)

    history = fit(unet, loss_of_step, recipe, job.work, origin.origin(job, __name__))
    write(job.folder, unet, shown.noiser)
    job = measured_on(job)
    measured = measure(job, unet.half().float(), shown)
    cards.finish(
        job, NAME, recipe, history, measured,
        library="diffusers", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def measured_on(job: Job) -> Job:
    """The job with as many held-out scenes as are sampled."""
    return replace(job, held_out=job.held_out.take(np.arange(min(MEASURED, len(job.held_out)))))


def write(folder: Path, unet: "UNet2DConditionModel", noiser: Noiser) -> None:
    """The pipeline's own parts, in half precision, and the index that names them and the shared ones."""
    from copy import deepcopy

    deepcopy(unet).half().save_pretrained(folder / "unet")
    deepcopy(noiser.normaliser).half().save_pretrained(folder / "image_normalizer")
    noiser.levels.save_pretrained(folder / "image_noising_scheduler")
    denoising.scheduler().save_pretrained(folder / "scheduler")
    parts: dict[str, tuple[str, str] | None] = {
        "feature_extractor": None,
        "image_encoder": None,
        "image_normalizer": ("stable_diffusion", "StableUnCLIPImageNormalizer"),
        "image_noising_scheduler": ("diffusers", "DDPMScheduler"),
        "scheduler": ("diffusers", "DDIMScheduler"),
        "unet": ("diffusers", "UNet2DConditionModel"),
        "vae": ("diffusers", "AutoencoderKL"),
        **denoising.TEXT_PARTS,
    }
    denoising.write_index(folder, "StableUnCLIPImg2ImgPipeline", parts)


def measure(job: Job, unet: "UNet2DConditionModel", shown: Shown) -> dict[str, float]:
    """Two-way identification, by tiny_clip, of images made from true embeddings, texts, both, or neither."""
    import torch

    true = latents.embed(job.parts[clip.NAME], job.held_out.images)
    zeros, told = torch.zeros(len(true), true.shape[1]), torch.zeros(len(true), dtype=torch.long)
    image = shown.noiser.condition(torch.from_numpy(true), told, zeros)
    text = shown.reader.states([captions[0] for captions in job.held_out.captions])
    nothing = Condition(shown.reader.empty, torch.zeros(1, image.shape[1]))
    silent, blind = nothing.text.expand(len(true), -1, -1), torch.zeros_like(image)
    given = {
        "true embedding": Condition(silent, image),
        "full caption": Condition(text, blind),
        "embedding and caption": Condition(text, image),
        "neither": Condition(silent, blind),
    }
    return {
        f"two-way identification by tiny_clip, from {what} (chance 0.5)": denoising.identified(
            remade(job, denoising.sample(unet, condition, nothing)), true
        )
        for what, condition in given.items()
    }


def remade(job: Job, made: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings, (image, 64), of the pictures of latents of unit spread."""
    autoencoder = vae.load(job.parts[vae.NAME])
    pictures = vae.decode(autoencoder, made / autoencoder.config.scaling_factor)
    return latents.embed(job.parts[clip.NAME], pictures)
