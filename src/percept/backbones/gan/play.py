"""What is played for: the losses of both sides on pictures and their embeddings, wherever these come from."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from percept.backbones.gan import conditions, losses
from percept.backbones.gan.augment import MOVED, Augmentation, augmented
from percept.backbones.gan.game import Networks
from percept.backbones.gan.generator import Generator, Size


@dataclass(frozen=True)
class Rules:
    """Noise, shares and weights of a game.

    Attributes
    ----------
    strengths : per condition, quantiles of the noise on it at `conditions.LEVELS`
    clean : share of the conditions without noise
    still : share of the pictures with z = 0
    mixing : share of the batches whose later layers read another z (style mixing)
    seen : pictures of a batch that the encoder of the conditions looks at, which costs as much as making them
    augmentation : of what the discriminator sees
    temperature : of both contrastive losses
    r1, r1_every : half the weight of R1, and the steps between two of it
    path, path_every, path_decay : weight of path lengths, the steps between two, decay of their mean
    consistent, contrast, projected : weights of cosine and contrast by the encoder, of contrast by D
    coarse, fine : weights of the absolute error at a quarter of the side, and at the full one, where z is 0
    """

    strengths: tuple[tuple[float, ...], ...]
    clean: float
    still: float
    mixing: float
    seen: int
    augmentation: Augmentation
    temperature: float
    r1: float
    r1_every: int
    path: float
    path_every: int
    path_decay: float
    consistent: float
    contrast: float
    projected: float
    coarse: float
    fine: float


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


class Play(ABC):
    """A game on pictures; a subclass says where they come from (`batch`) and how they are measured.

    Parameters
    ----------
    rules : see `Rules`
    seer : embeddings (image, condition), not normalised, of images (image, 3, row, column) in -1..1, with a
        gradient: what the conditions are made of
    alone : steps in which the generator has no opponent
    """

    def __init__(self, rules: Rules, seer: Callable[[Tensor], Tensor], alone: int) -> None:
        self.rules, self.seer, self.alone = rules, seer, alone

    @abstractmethod
    def batch(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images (batch, 3, row, column) in -1..1 of a step, and their embeddings (batch, condition)."""

    @abstractmethod
    def measured(self, networks: Networks) -> dict[str, float]:
        """What is measured of the average on the way, the kernel distance ``kid`` among it."""

    def turn(self, networks: Networks, step: int, generator: torch.Generator) -> Turn:
        """A batch of pictures, their conditions, and what the generator makes of them."""
        rules, maker = self.rules, networks.generator
        real, embeddings = self.batch(step, networks.device)
        true = maker.prepared(embeddings)
        c = disturbed(true, maker.size, generator, rules.strengths, rules.clean)
        still = torch.rand(len(c), generator=generator) < rules.still
        z = drawn(maker, ~still, c, generator)
        if rules.mixing and torch.rand((), generator=generator) < rules.mixing:
            fake = mixed(maker, z, drawn(maker, ~still, c, generator), c, generator)
        else:
            fake = maker(z, c)
        return Turn(real, fake.float(), c, true, still.to(c.device), generator)

    def against(self, networks: Networks, turn: Turn, step: int) -> dict[str, Tensor]:
        """Telling real from fake, contrast of the projection, and R1 at some of the steps."""
        rules = self.rules
        with_gradient = step % rules.r1_every == 0
        real = augmented(turn.real, rules.augmentation, turn.generator).requires_grad_(with_gradient)
        fake = augmented(turn.fake.detach(), rules.augmentation, turn.generator)
        seen, made = networks.discriminator(real), networks.discriminator(fake)
        scores = seen.score(turn.c), made.score(turn.c)
        contrast = losses.contrastive(seen.seen, turn.c, rules.temperature)
        loss = losses.telling(*scores) + rules.projected * contrast
        if with_gradient:
            loss = loss + rules.r1_every * rules.r1 / 2 * losses.gradient_penalty(scores[0], real)
        return {"loss": loss, "real": scores[0].mean(), "fake": scores[1].mean()}

    def towards(self, networks: Networks, turn: Turn, step: int) -> dict[str, Tensor]:
        """Likeness to the picture, consistency with the condition, and in the game fooling the opponent."""
        rules = self.rules
        found = likeness(turn) | self._consistency(networks.generator, turn)
        loss = rules.coarse * found["coarse"] + rules.fine * found["fine"] + rules.consistent * found["apart"]
        loss = loss + rules.contrast * found["contrast"]
        if step >= self.alone:
            made = networks.discriminator(augmented(turn.fake, rules.augmentation, turn.generator))
            loss = loss + losses.fooling(made.score(turn.c))
            loss = loss + rules.projected * losses.contrastive(made.seen, turn.c, rules.temperature)
            if step % rules.path_every == 0:
                loss = loss + rules.path_every * rules.path * path(networks, turn, rules.path_decay)
        return {"loss": loss, **found}

    def _consistency(self, generator: Generator, turn: Turn) -> dict[str, Tensor]:
        """What the encoder sees in some of the fakes against the true embedding, which has no noise.

        The pictures are moved a little first, so that what it sees is not a pattern made for its patches.
        """
        n = self.rules.seen
        moved = augmented(turn.fake[:n], MOVED, turn.generator)
        seen, true = generator.prepared(self.seer(moved)), turn.true[:n]
        return {
            "apart": losses.inconsistency(seen, true),
            "contrast": losses.contrastive(seen, true, self.rules.temperature),
        }


def disturbed(
    c: Tensor,
    size: Size,
    generator: torch.Generator,
    strengths: tuple[tuple[float, ...], ...],
    clean: float,
) -> Tensor:
    """Conditions (batch, condition) with noise of strengths (per condition, level), none on a share."""
    each = [conditions.drawn_strengths(len(c), quantiles, clean, generator) for quantiles in strengths]
    return conditions.noised(c, torch.stack(each, dim=1), size.conditions, generator)


def drawn(maker: Generator, moving: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
    """Noise z (batch, latent) beside conditions, 0 where it is not `moving`, (batch,)."""
    z = torch.randn(len(c), maker.size.latent, generator=generator)
    return (z * moving[:, None]).to(c.device)


def mixed(maker: Generator, z: Tensor, other: Tensor, c: Tensor, generator: torch.Generator) -> Tensor:
    """Images of c whose layers read z up to one that is drawn, and from there on another z.

    Where both are 0, as they are where z = 0 is trained, nothing is mixed.
    """
    at = int(torch.randint(1, len(maker.layers), (), generator=generator))
    return maker.synthesis(maker.mapped(z), c, (maker.mapped(other), at))


def likeness(turn: Turn) -> dict[str, Tensor]:
    """Mean absolute error of the pictures with z = 0, at the full side and at a quarter of it."""
    still = turn.still.float()[:, None, None, None]
    error = (turn.fake - turn.real) * still
    share = still.mean().clamp(min=1 / len(still))
    return {"coarse": F.avg_pool2d(error, 4).abs().mean() / share, "fine": error.abs().mean() / share}


def path(networks: Networks, turn: Turn, decay: float) -> Tensor:
    """The penalty on path lengths of half a batch, around a running mean that moves along."""
    generator, n = networks.generator, max(1, len(turn.c) // 2)
    z = torch.randn(n, generator.size.latent, generator=turn.generator).to(turn.c.device)
    w = generator.mapped(z)
    images = generator.synthesis(w, turn.c[:n])
    directions = torch.randn(images.shape, generator=turn.generator).to(images.device)
    lengths = losses.path_lengths(images, w, directions)
    networks.path_mean = losses.running(networks.path_mean, lengths.mean().float(), decay)
    return losses.path_penalty(lengths, networks.path_mean)


def scores(networks: Networks, images: Tensor, embeddings: Tensor, at_once: int) -> Tensor:
    """Scores (image,) of real pictures (image, 3, row, column) with their true conditions."""
    c = networks.average.prepared(embeddings)
    with torch.inference_mode():
        parts = [
            networks.discriminator(images[at : at + at_once]).score(c[at : at + at_once])
            for at in range(0, len(images), at_once)
        ]
    return torch.cat(parts)
