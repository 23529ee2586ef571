"""Train a conditional GAN on photographs: what it is built of, how it is measured, and what remains."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from percept.backbones import image
from percept.backbones.device import choose, memory_for
from percept.backbones.fingerprint import digest
from percept.backbones.gan import loading
from percept.backbones.gan.augment import Augmentation
from percept.backbones.gan.discriminator import Discriminator
from percept.backbones.gan.game import GameRecipe, Networks, Running, fit
from percept.backbones.gan.generator import Generator, Size
from percept.backbones.gan.play import Rules
from percept.backbones.gan.sampler import seen
from percept.files import PerceptError, hash_text, write_json, write_parquet
from percept.gan_settings import GanSection
from percept.gans.memory import estimate
from percept.gans.photographs import PhotographPlay
from percept.gans.read import Photographs, standard

log = logging.getLogger(__name__)
ABOUT = "about.json"
LESS_MEMORY = (
    "lower `training.batch_size`, `training.looked_at` or `network.capacity`, or set `training.precision` to "
    "bfloat16"
)


@dataclass(frozen=True)
class Job:
    """Where a network goes, and what its weights depend on beside settings and data.

    ``folder`` receives weights, settings, history and what is known about them; ``code`` is the version of
    the code that trains.
    """

    folder: Path
    code: str = ""

    @property
    def work(self) -> Path:
        """Folder of the checkpoint: no declared output, so that it outlives a job that is killed."""
        return Path(self.folder) / "work"


def train(cfg: GanSection, data: Photographs, job: Job) -> None:
    """Train a network and write its folder; one that was interrupted goes on where its checkpoint is.

    Raises
    ------
    PerceptError : a loss is not finite, an image cannot be read, memory does not suffice, or weights of the
        networks that judge are absent
    """
    device = choose(cfg.training.device)
    networks = build(cfg, data).to(device)
    describe(cfg, networks)
    with (
        memory_for("training the GAN", LESS_MEMORY),
        PhotographPlay(cfg, data, rules(cfg, data), encoder(cfg, data, device)) as play,
    ):
        running = Running(cfg.training.precision, 60 * cfg.training.checkpoint_minutes)
        history = fit(networks, play, recipe(cfg), job.work, identity(cfg, data, job, device), running)
    if history.empty or history["step"].iloc[-1] < cfg.training.steps:
        raise PerceptError(
            f"the training of {job.folder} was interrupted by a signal; its state is in {job.work}. Run the "
            "same command again: it goes on from there."
        )
    write(networks, history, cfg, data, job)
    shutil.rmtree(job.work)


def describe(cfg: GanSection, networks: Networks) -> None:
    """Say in the log how large the players are, and what memory a step takes."""
    with torch.device("meta"):
        again = players(cfg, networks.generator.size.conditions)
        needed = estimate(*again, cfg.training.batch_size)
    sizes = ", ".join(f"{n:,} parameters of the {name}" for name, n in counted(networks).items())
    log.info(
        "%s; about %.2g GB in float32, %.2g GB of it activations, the network of the conditions not counted",
        sizes, needed.total / 1e9, needed.activations / 1e9,
    )  # fmt: skip


def build(cfg: GanSection, data: Photographs) -> Networks:
    """Untrained networks on the CPU, whose conditions are standardised by the pool's embeddings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        networks = Networks(*players(cfg, tuple(each.shape[1] for each in data.embeddings)))
    mean, spread = standard(data.conditions)
    for generator in (networks.generator, networks.average):
        generator.mean.copy_(torch.from_numpy(mean))
        generator.spread.copy_(torch.from_numpy(spread))
    return networks


def players(cfg: GanSection, widths: tuple[int, ...]) -> tuple[Generator, Discriminator]:
    """Generator and discriminator for conditions of these widths."""
    size = cfg.network
    return (
        Generator(Size(size.channels, widths, size.latent, size.style, size.mapping, size.rate)),
        Discriminator(size.channels, widths),
    )


def counted(networks: Networks) -> dict[str, int]:
    """Parameters of both players."""
    return {
        name: sum(parameter.numel() for parameter in getattr(networks, name).parameters())
        for name in ("generator", "discriminator")
    }


def recipe(cfg: GanSection) -> GameRecipe:
    """The steps of both optimisers: Adam, without decay, of betas 0 and 0.99 (Karras et al. 2020)."""
    how = cfg.training
    return GameRecipe(
        how.steps, how.learning_rate, how.batch_size, 0.0, how.warmup, (0.0, 0.99), how.ema, cfg.seed,
        alone=how.alone, measured_every=how.measured_every,
    )  # fmt: skip


def rules(cfg: GanSection, data: Photographs) -> Rules:
    """What is played for."""
    how = cfg.losses
    return Rules(
        data.strengths, cfg.noise.clean, how.still, how.mixing, cfg.training.looked_at,
        Augmentation(share=how.augmented), how.temperature, cfg.gamma, how.r1_every, how.path, how.path_every,
        path_decay=0.99, consistent=how.consistent, contrast=how.contrast, projected=how.projected,
        coarse=how.coarse, fine=how.fine,
    )  # fmt: skip


def encoder(cfg: GanSection, data: Photographs, device: str) -> Callable[[Tensor], Tensor]:
    """Embeddings (image, condition) of images, by the networks of the conditions, with a gradient."""
    if not cfg.losses.consistent and not cfg.losses.contrast:
        width = data.conditions.shape[1]
        return lambda images: images.new_zeros(len(images), width)  # nothing looks, and nothing is loaded
    towers = [image.open_named(target["backbone"], target["output"], device) for target in data.targets]
    return partial(_seen_by, towers)


def _seen_by(towers: list[image.ImageEncoder], images: Tensor) -> Tensor:
    return torch.cat([seen(tower, images) for tower in towers], dim=1)


def identity(cfg: GanSection, data: Photographs, job: Job, device: str) -> str:
    """What a checkpoint belongs to: settings but for how often it is written, data, code, kind of device."""
    settings = cfg.model_dump(mode="json", exclude={"training": {"checkpoint_minutes", "device"}})
    arrays = digest({"rows": data.rows, "conditions": data.conditions}, n=32)
    known = [settings, arrays, data.strengths, data.targets, data.images.files, job.code]
    return hash_text(json.dumps([known, torch.device(device).type], sort_keys=True), 32)


def write(networks: Networks, history: pd.DataFrame, cfg: GanSection, data: Photographs, job: Job) -> None:
    """The average's weights and size, the course of the training, and what the network was trained on."""
    write_parquet(history, job.folder / "history.parquet")
    write_json(about(networks, history, cfg, data), job.folder / ABOUT)
    loading.save(networks.average.cpu(), job.folder)


def about(networks: Networks, history: pd.DataFrame, cfg: GanSection, data: Photographs) -> Mapping[str, Any]:
    """What whoever uses the network has to know: whose embeddings it reads, and how it was trained."""
    best = history.loc[history["kid"].idxmin()]
    return {
        "conditions": [dict(target) for target in data.targets],
        "strengths": [list(one) for one in data.strengths],
        "images": {"used": len(data.rows), "left_out": data.left_out},
        "parameters": counted(networks),
        "recipe": asdict(recipe(cfg)),
        "kept": {"step": int(best["step"]), "kid": float(best["kid"]), "by": cfg.training.measured_by},
    }
