"""Conditional GANs that are trained here: what their training takes, and how long.

Both players are built on torch's meta device, where tensors have shapes and no content.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from percept.config import BaseConfig
from percept.gan_settings import GanSection
from percept.preflight import asks
from percept.preflight.shapes import shape_of
from percept.preflight.work import STARTING, Work, computing, encoding_gflop

# Passes of a step: back takes twice what forward takes.
MAKING = 3  # one image, forward and back
JUDGING = 9  # a real image, a made one, and the made one again for the generator
PENALTY = 6  # R1: the gradient of the scores, and its own gradient
PATH = 9  # path lengths: an image, the gradient by its style, and its own gradient
LOOKING = 2  # the network of the conditions, which does not learn
COUNTED = 2  # images whose operations are counted


@dataclass(frozen=True)
class Gan:
    """The training of a GAN.

    device : bytes on the device of training; checkpoint : of its state while it trains
    saved : bytes of the weights that are kept
    flop : operations of the training; moved : bytes through the memory of the device
    """

    name: str
    gpus: int
    device: float
    checkpoint: float
    saved: float
    flop: float
    moved: float
    precision: str
    parameters: int


def trainings(cfg: BaseConfig) -> list[Gan]:
    """Every GAN that is trained; of conditions whose shape nobody knows yet, nothing is said."""
    found = []
    for name in asks.gans(cfg):
        shapes = [shape_of(target, cfg) for target in cfg.gans[name].conditions]
        if None not in shapes:
            found.append(_training(name, cfg, tuple(math.prod(shape) for shape in shapes)))
    return found


def _training(name: str, cfg: BaseConfig, widths: tuple[int, ...]) -> Gan:
    """Memory by the training's own estimate, whose activations bfloat16 halves.

    The network that looks at images is not counted, so that nothing is refused that fits.
    """
    import torch

    from percept.gans import memory, train

    section = cfg.gans[name]
    how = section.training
    with torch.device("meta"):
        players = train.players(section, widths)
        found = memory.estimate(*players, how.batch_size)
        step = _step(section, cfg, *_counted(*players))
    parameters, made = (sum(one.numel() for player in some for one in player.parameters())
                        for some in (players, players[:1]))  # fmt: skip
    kept = found.activations / (1 if how.precision == "float32" else 2)
    return Gan(
        name=name,
        gpus=section.n_gpus,
        device=found.weights + found.rest + kept,
        checkpoint=found.rest,  # without gradients, with weights, which are as large
        saved=4 * made,
        flop=how.steps * step,
        moved=how.steps * 2 * (found.weights + found.rest),
        precision=how.precision,
        parameters=parameters,
    )


def _counted(generator: Any, discriminator: Any) -> tuple[float, float]:  # noqa: ANN401 (torch is imported here)
    """Operations of making an image, and of judging one, forward; inside the meta device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    size = generator.size
    with FlopCounterMode(display=False) as making:
        images = generator(torch.empty(COUNTED, size.latent), torch.empty(COUNTED, size.condition))
    with FlopCounterMode(display=False) as judging:
        discriminator(images)
    return making.get_total_flops() / COUNTED, judging.get_total_flops() / COUNTED


def _step(section: GanSection, cfg: BaseConfig, making: float, judging: float) -> float:
    """Operations of a step of both sides; a penalty counts by how often it is there."""
    how, losses, n = section.training, section.losses, section.training.batch_size
    looks = losses.consistent or losses.contrast
    seen = sum(1e9 * encoding_gflop(cfg.targets[target]) for target in section.conditions) if looks else 0
    return (
        n * (MAKING * making + JUDGING * judging)
        + n * PENALTY * judging / losses.r1_every
        + n / 2 * PATH * making / losses.path_every
        + min(n, how.looked_at) * LOOKING * seen
    )


def works(trained: Sequence[Gan], gpus: bool) -> Iterator[Work]:
    """Each training, which goes on from its checkpoint."""
    for one in trained:
        asked = one.gpus if gpus else 0
        hours = computing(one.flop, one.moved, asked, one.precision) + STARTING
        yield Work("train_gan", one.name, 1, hours, hours, asked, "model", resumes=True)
