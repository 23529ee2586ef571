"""tiny_gan: from an image embedding to a scene in one pass, by `percept.backbones.gan`.

Trained on images alone, as LAFITE (Zhou et al. 2022): the condition is the picture's own tiny_clip embedding
with noise, here of the strength that a decoder's errors have. In half of the pictures z is 0, so that z = 0
reconstructs; there, and only there, the picture itself is the target too, because pairs exist.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from percept.backbones.gan import distance, loading, play
from percept.backbones.gan.augment import Augmentation
from percept.backbones.gan.discriminator import Discriminator
from percept.backbones.gan.game import GameRecipe, Networks, fit
from percept.backbones.gan.generator import Generator, Size
from percept.backbones.gan.play import Play, Rules, scores
from percept.backbones.tiny import cards, clip, data, denoising, judge, kernel, latents, origin, quality
from percept.backbones.tiny.data import Scenes
from percept.backbones.tiny.trainer import Job
from percept.backbones.tiny.vae import normalised

if TYPE_CHECKING:
    import pandas as pd

NAME = "tiny_gan"
CHANNELS, JUDGING = (192, 128, 64, 32, 16), (128, 96, 64, 32, 16)  # at 4, 8, 16, 32 and 64 pixels
LATENT, STYLE, MAPPING = 32, 64, 4
STRENGTHS = (0.43, 0.51, 0.62, 0.71, 0.87)
"""Quantiles of the noise on conditions at `conditions.LEVELS`: the errors of the demo's ridge regression onto
tiny_clip, 109 validation images of both subjects. They were set from cosines standardised by other images;
`conditions.matched_strengths`, standardised as the generator does, gives 0.44, 0.53, 0.62, 0.72 and 0.88."""
CLEAN = 0.25  # share of the conditions without noise
STILL = 0.5  # share of the pictures with z = 0
R1_EVERY = 16
RULES = Rules(
    strengths=(STRENGTHS,), clean=CLEAN, still=STILL, mixing=0.0, seen=8,
    augmentation=Augmentation(share=0.3), temperature=0.1,
    r1=0.2, r1_every=R1_EVERY, path=2.0, path_every=16, path_decay=0.9,
    consistent=1.0, contrast=0.5, projected=0.5, coarse=4.0, fine=1.0,
)  # fmt: skip
MEASURED = 1000  # held-out scenes at most, each for choosing a state and for the card
AT_ONCE = 100  # pictures made together when it is measured


@dataclass(frozen=True)
class GanRecipe(GameRecipe):
    """A game with these networks; sizes of the networks can be smaller in tests."""

    channels: tuple[int, ...] = CHANNELS
    judging: tuple[int, ...] = JUDGING


RECIPE = GanRecipe(
    steps=6000,
    learning_rate=2.5e-3,
    batch_size=16,
    weight_decay=0.0,
    betas=(0.0, 0.99),
    ema=0.998,
    alone=700,
    measured_every=500,
)
DESCRIPTION = """A conditional StyleGAN2 that shows what an image embedding of tiny_clip describes, in one
pass: modulated convolutions whose styles are read from the embedding at every layer and from noise z (32
numbers). z = 0 reconstructs, other z vary. Read it with `percept.backbones.gan.loading.load`; `prepared`
makes conditions of embeddings (64 features, not normalised)."""
DATA = """Conditions are the embeddings by tiny_clip of the pictures themselves, standardised and of unit
length, three quarters of them with noise that moves them as far as decoded ones are away from the truth
(those of the demo's ridge regression, validation images). No brain activity was used otherwise."""
TRAINING = """The generator alone for the first 700 steps, then against a discriminator: logistic loss, R1,
path lengths, a projection onto the condition and a contrastive loss of it, differentiable augmentation. Added
are cosine and contrastive loss of what tiny_clip sees in the images, and, where z is 0 (half of them), the
absolute error to the picture at full and at a quarter of the size. Kept is the running average of the
generator's weights at the step where its kernel distance to held-out scenes, in features of tiny_judge, was
lowest. `kid` in the log is that distance, `gap` how much higher the discriminator scores training than
held-out scenes (overfitting)."""


class ScenePlay(Play):
    """The game on the scenes of a job."""

    def __init__(self, job: Job, recipe: GanRecipe, embeddings: Tensor) -> None:
        tower, _ = clip.load(job.parts[clip.NAME])
        super().__init__(RULES, partial(embedded, tower), recipe.alone)
        self.job, self.recipe = job, recipe
        self.embeddings = embeddings  # (scene, 64) of the training scenes
        self.held_out = chosen_on(job.held_out)
        self.known = kernel.features(job.parts[judge.NAME], self.held_out.images)
        self.new = torch.from_numpy(latents.embed(job.parts[clip.NAME], self.held_out.images))

    def batch(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scenes of a step, moved and tinted a little, and the embeddings of the scenes as they are."""
        found = data.batch(self.job.train, step, self.recipe.batch_size, self.recipe.seed)
        images, embeddings = normalised(found.images), self.embeddings[torch.from_numpy(found.rows)]
        return images.to(device), embeddings.to(device)

    def measured(self, networks: Networks) -> dict[str, float]:
        """Kernel distance of the average's pictures of held-out conditions, and the overfitting gap."""
        average, n = networks.average, len(self.held_out) // 2
        generator = torch.Generator().manual_seed(0)
        c = disturbed(average.prepared(self.new[:n]), average.size, generator)
        made = kernel.features(self.job.parts[judge.NAME], pictures(average, c))
        return {"kid": distance.kid(made, self.known[n:]), "gap": self._gap(networks, n)}

    def _gap(self, networks: Networks, n: int) -> float:
        """Mean score of training scenes less that of as many held-out ones."""
        found = [
            scores(networks, normalised(scenes.images[:n]), embeddings[:n], AT_ONCE)
            for scenes, embeddings in ((self.job.train, self.embeddings), (self.held_out, self.new))
        ]
        return float(found[0].mean() - found[1].mean())


def build(recipe: GanRecipe, embeddings: NDArray[np.float32]) -> Networks:
    """Untrained networks, the conditions standardised by embeddings (scene, feature)."""
    n = embeddings.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        generator = Generator(Size(recipe.channels, (n,), LATENT, STYLE, MAPPING, rate=1.0))
        discriminator = Discriminator(recipe.judging, (n,))
    generator.mean.copy_(torch.from_numpy(embeddings.mean(axis=0)))
    generator.spread.copy_(torch.from_numpy(embeddings.std(axis=0)))
    return Networks(generator, discriminator)


def train(job: Job, recipe: GanRecipe = RECIPE) -> None:
    """Train the network on the scenes, measure it on held-out ones and write its folder.

    Raises
    ------
    PerceptError : a loss is not finite
    """
    cards.clear(job.folder)
    embeddings = latents.embeddings(job)
    networks = build(recipe, embeddings)
    game = ScenePlay(job, recipe, torch.from_numpy(embeddings))
    history = fit(networks, game, recipe, job.work, origin.origin(job, __name__))
    loading.save(networks.average, job.folder)
    job = replace(job, held_out=measured_on(job.held_out))
    measured = measure(job, loading.load(job.folder)) | overfitting(history)
    cards.finish(
        job, NAME, recipe, history, measured,
        library="percept", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def chosen_on(held_out: Scenes) -> Scenes:
    """The held-out scenes by which a state is chosen: the first, at most half of them."""
    return held_out.take(np.arange(min(MEASURED, len(held_out) // 2)))


def measured_on(held_out: Scenes) -> Scenes:
    """The held-out scenes that the card speaks of, none of which helped to choose."""
    first = len(held_out) // 2
    return held_out.take(np.arange(first, min(first + MEASURED, len(held_out))))


def disturbed(c: Tensor, size: Size, generator: torch.Generator, clean: float = CLEAN) -> Tensor:
    """Conditions with the noise of the recipe, none on a share of them."""
    return play.disturbed(c, size, generator, RULES.strengths, clean)


def embedded(seer: torch.nn.Module, images: Tensor) -> Tensor:
    """Embeddings (image, 64), not normalised, of images (image, 3, row, column) in -1..1, with a gradient."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mean, sd = (images.new_tensor(values)[:, None, None] for values in (clip.MEAN, clip.STD))
    # On processors the fused attention is several times slower backwards than the plain one at this size.
    with sdpa_kernel(SDPBackend.MATH):
        return seer.encode_image(((images + 1) / 2 - mean) / sd)


def pictures(generator: Generator, c: Tensor, z: Tensor | None = None) -> NDArray[np.uint8]:
    """Pictures (image, row, column, 3) of conditions (image, condition); z is 0 unless it is given."""
    z = torch.zeros(len(c), generator.size.latent) if z is None else z
    with torch.inference_mode():
        parts = [generator(z[at : at + AT_ONCE], c[at : at + AT_ONCE]) for at in range(0, len(c), AT_ONCE)]
    levels = (torch.cat(parts).clamp(-1, 1) + 1) * 127.5
    return levels.round().permute(0, 2, 3, 1).byte().numpy()


def measure(job: Job, generator: Generator) -> dict[str, float]:
    """Quality on held-out scenes, z = 0: of true embeddings, and of those with the noise of a decoder."""
    true = latents.embed(job.parts[clip.NAME], job.held_out.images)
    seen = kernel.features(job.parts[judge.NAME], job.held_out.images)
    c = generator.prepared(torch.from_numpy(true))
    noisy = disturbed(c, generator.size, torch.Generator().manual_seed(0), clean=0.0)
    found: dict[str, float] = {}
    for what, given in {"true embedding": c, "embedding with a decoder's noise": noisy}.items():
        made = pictures(generator, given)
        found |= {
            f"{name}, from {what}": value for name, value in _compared(job, made, true, seen, c).items()
        }
    return found


def _compared(job: Job, made: NDArray[np.uint8], true: NDArray, seen: NDArray, c: Tensor) -> dict[str, float]:
    """Pictures against the scenes that they show: identification, retrieval of the condition, distance."""
    again = latents.embed(job.parts[clip.NAME], made)
    judged, n = kernel.features(job.parts[judge.NAME], made), len(made) // 2
    generator = loading.load(job.folder)
    cosines = (generator.prepared(torch.from_numpy(again)) @ c.T).numpy()
    pool = min(quality.RETRIEVAL_POOL, len(made))
    return {
        "two-way identification by tiny_clip (chance 0.5)": denoising.identified(again, true),
        "two-way identification by tiny_judge (chance 0.5)": denoising.identified(judged, seen),
        f"retrieval of the embedding among {pool}, first": quality.retrieval_top1(cosines, pool)[0],
        "kernel distance to other scenes in features of tiny_judge": distance.kid(judged[:n], seen[n:]),
    }


def overfitting(history: "pd.DataFrame") -> dict[str, float]:
    """The gap of the step that was kept, and how scores of real scenes spread there, to judge it by."""
    kept = history.loc[history["kid"].idxmin()]
    return {
        "step that was kept": float(kept["step"]),
        "score of training scenes less that of held-out ones, by the discriminator at that step": float(
            kept["gap"]
        ),
        "score of training scenes less that of generated ones, at that step": float(
            kept["real"] - kept["fake"]
        ),
    }
