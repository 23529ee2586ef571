"""tiny_gan: from an image embedding to a scene in one pass, by `percept.backbones.gan`.

Trained on images alone, as LAFITE (Zhou et al. 2022): the condition is the picture's own tiny_clip embedding
with noise, here of the strength that a decoder's errors have. In half of the pictures z is 0, so that z = 0
reconstructs; there, and only there, the picture itself is the target too, because pairs exist.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor

from percept.backbones.gan import conditions, loading, losses
from percept.backbones.gan.augment import MOVED, Augmentation, augmented
from percept.backbones.gan.discriminator import Discriminator
from percept.backbones.gan.generator import Generator, Size
from percept.backbones.tiny import cards, clip, data, denoising, judge, kernel, latents, origin, quality
from percept.backbones.tiny.adversarial import GameRecipe, Networks, fit
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
SEEN = 8  # pictures of a batch that tiny_clip looks at, which costs as much as making them
AUGMENTATION = Augmentation(share=0.3)
TEMPERATURE = 0.1  # of both contrastive losses
R1, R1_EVERY = 0.2, 16
PATH, PATH_EVERY, PATH_DECAY = 2.0, 16, 0.9
CONSISTENT, CONTRAST, PROJECTED = 1.0, 0.5, 0.5  # weights: cosine and contrast by tiny_clip, contrast by D
COARSE, FINE = 4.0, 1.0  # weights of the absolute error at a quarter of the side, and at the full one
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


@dataclass(frozen=True)
class Turn:
    """What both sides see in one step.

    ``real``, ``fake`` (batch, 3, row, column) in -1..1, ``fake`` with its gradient; ``c`` (batch, condition)
    with noise, ``true`` without; ``still`` (batch,) where z is 0; ``generator`` of what is drawn.
    """

    real: Tensor
    fake: Tensor
    c: Tensor
    true: Tensor
    still: Tensor
    generator: torch.Generator


class Play:
    """The game on the scenes of a job."""

    def __init__(self, job: Job, recipe: GanRecipe, embeddings: Tensor) -> None:
        self.job, self.recipe = job, recipe
        self.embeddings = embeddings  # (scene, 64) of the training scenes
        self.seer, _ = clip.load(job.parts[clip.NAME])
        self.held_out = chosen_on(job.held_out)
        self.known = kernel.features(job.parts[judge.NAME], self.held_out.images)
        self.new = torch.from_numpy(latents.embed(job.parts[clip.NAME], self.held_out.images))

    def turn(self, networks: Networks, step: int, generator: torch.Generator) -> Turn:
        """A batch of scenes, their conditions, and what the generator makes of them."""
        batch = data.batch(self.job.train, step, self.recipe.batch_size, self.recipe.seed)
        true = networks.generator.prepared(self.embeddings[torch.from_numpy(batch.rows)])
        c = disturbed(true, networks.generator.size, generator)
        still = torch.rand(len(c), generator=generator) < STILL
        z = torch.randn(len(c), networks.generator.size.latent, generator=generator) * ~still[:, None]
        return Turn(normalised(batch.images), networks.generator(z, c), c, true, still, generator)

    def against(self, networks: Networks, turn: Turn, step: int) -> dict[str, Tensor]:
        """Telling real from fake, contrast of the projection, and R1 at some of the steps."""
        with_gradient = step % R1_EVERY == 0
        real = augmented(turn.real, AUGMENTATION, turn.generator).requires_grad_(with_gradient)
        fake = augmented(turn.fake.detach(), AUGMENTATION, turn.generator)
        seen, made = networks.discriminator(real), networks.discriminator(fake)
        scores = seen.score(turn.c), made.score(turn.c)
        loss = losses.telling(*scores) + PROJECTED * losses.contrastive(seen.seen, turn.c, TEMPERATURE)
        if with_gradient:
            loss = loss + R1_EVERY * R1 / 2 * losses.gradient_penalty(scores[0], real)
        return {"loss": loss, "real": scores[0].mean(), "fake": scores[1].mean()}

    def towards(self, networks: Networks, turn: Turn, step: int) -> dict[str, Tensor]:
        """Likeness to the picture, consistency with the condition, and in the game fooling the opponent."""
        found = likeness(turn) | self._consistency(networks.generator, turn)
        loss = COARSE * found["coarse"] + FINE * found["fine"] + CONSISTENT * found["apart"]
        loss = loss + CONTRAST * found["contrast"]
        if step >= self.recipe.alone:
            made = networks.discriminator(augmented(turn.fake, AUGMENTATION, turn.generator))
            loss = loss + losses.fooling(made.score(turn.c))
            loss = loss + PROJECTED * losses.contrastive(made.seen, turn.c, TEMPERATURE)
            if step % PATH_EVERY == 0:
                loss = loss + PATH_EVERY * PATH * path(networks, turn)
        return {"loss": loss, **found}

    def _consistency(self, generator: Generator, turn: Turn) -> dict[str, Tensor]:
        """What tiny_clip sees in some of the fakes against the embedding of the true picture, without noise.

        The pictures are moved a little first, so that what it sees is not a pattern made for its patches.
        """
        moved = augmented(turn.fake[:SEEN], MOVED, turn.generator)
        seen, true = generator.prepared(embedded(self.seer, moved)), turn.true[:SEEN]
        return {
            "apart": losses.inconsistency(seen, true),
            "contrast": losses.contrastive(seen, true, TEMPERATURE),
        }

    def measured(self, networks: Networks) -> dict[str, float]:
        """Kernel distance of the average's pictures of held-out conditions, and the overfitting gap."""
        average, n = networks.average, len(self.held_out) // 2
        generator = torch.Generator().manual_seed(0)
        c = disturbed(average.prepared(self.new[:n]), average.size, generator)
        made = kernel.features(self.job.parts[judge.NAME], pictures(average, c))
        return {"kid": kernel.kid(made, self.known[n:]), "gap": self._gap(networks, n)}

    def _gap(self, networks: Networks, n: int) -> float:
        """Mean score of training scenes less that of as many held-out ones."""
        scores = [
            _scores(networks, scenes.images[:n], embeddings[:n])
            for scenes, embeddings in ((self.job.train, self.embeddings), (self.held_out, self.new))
        ]
        return float(scores[0].mean() - scores[1].mean())


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
    play = Play(job, recipe, torch.from_numpy(embeddings))
    history = fit(networks, play, recipe, job.work, origin.origin(job, __name__))
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
    strengths = conditions.drawn_strengths(len(c), STRENGTHS, clean, generator)
    return conditions.noised(c, strengths, size.conditions, generator)


def likeness(turn: Turn) -> dict[str, Tensor]:
    """Mean absolute error of the pictures with z = 0, at the full side and at a quarter of it."""
    still = turn.still.float()[:, None, None, None]
    error = (turn.fake - turn.real) * still
    share = still.mean().clamp(min=1 / len(still))
    return {"coarse": F.avg_pool2d(error, 4).abs().mean() / share, "fine": error.abs().mean() / share}


def path(networks: Networks, turn: Turn) -> Tensor:
    """The penalty on path lengths of half a batch, around a running mean that moves along."""
    generator, n = networks.generator, len(turn.c) // 2
    w = generator.mapped(torch.randn(n, generator.size.latent, generator=turn.generator))
    images = generator.synthesis(w, turn.c[:n])
    lengths = losses.path_lengths(images, w, torch.randn(images.shape, generator=turn.generator))
    networks.path_mean = losses.running(networks.path_mean, lengths.mean(), PATH_DECAY)
    return losses.path_penalty(lengths, networks.path_mean)


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


def _scores(networks: Networks, images: NDArray[np.uint8], embeddings: Tensor) -> Tensor:
    """Scores of real pictures with their true conditions, in batches of the discriminator's groups."""
    c = networks.average.prepared(embeddings)
    with torch.inference_mode():
        parts = [
            networks.discriminator(normalised(images[at : at + AT_ONCE])).score(c[at : at + AT_ONCE])
            for at in range(0, len(images), AT_ONCE)
        ]
    return torch.cat(parts)


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
        "kernel distance to other scenes in features of tiny_judge": kernel.kid(judged[:n], seen[n:]),
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
