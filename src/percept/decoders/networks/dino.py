"""DINO on responses as the engine trains it (Caron et al. 2021; views of responses instead of crops)."""

from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from percept.backbones import distillation
from percept.decoders.networks import dino_views as views
from percept.decoders.networks.blocks import Encoder, Layers, evaluating
from percept.decoders.networks.dino_settings import DinoLosses, DinoNetwork, DinoViews
from percept.decoders.networks.losses import similarity
from percept.decoders.networks.repeats import averages
from percept.decoders.training.learner import Batch, Data, Learner, When, send

ROWS = 256  # per forward pass outside training
NEIGHBOURS, SHARPNESS = 20, 0.07  # of the vote of nearest neighbours (Caron et al. 2021, section 4.1)
FIXED = 0  # seed of the views that are validated


class Settings(Protocol):
    """What of a decoder's section of the config shapes its learner."""

    @property
    def network(self) -> DinoNetwork:
        """Layers."""

    @property
    def views(self) -> DinoViews:
        """What student and teacher see."""

    @property
    def losses(self) -> DinoLosses:
        """Temperatures and pace."""


@dataclass(frozen=True)
class Surroundings:
    """What views need to know of the voxels; found anew at each start, so no checkpoint holds it.

    members : (region, voxel) bool; noise : see `dino_views.Noise`, None adds none
    """

    members: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    noise: views.Noise | None = None


class Dino(Learner):
    """Student and teacher of responses; the teacher's encoder is what is kept.

    Parameters
    ----------
    n_voxels : of a response
    """

    members: Tensor
    patterns: Tensor
    own: Tensor

    def __init__(self, n_voxels: int, settings: Settings, around: Surroundings | None = None) -> None:
        super().__init__()
        network = settings.network
        self.views, self.losses = settings.views, settings.losses
        head = (network.width, network.prototypes, network.head_width, network.bottleneck)
        self.pair = distillation.Pair(
            partial(Encoder, n_voxels, layers(network)), partial(distillation.Head, *head)
        )
        around = around or Surroundings()
        noise = around.noise or views.Noise(np.zeros((0, n_voxels), np.float32), np.zeros(0, np.float32))
        self.noisy = around.noise is not None and settings.views.noise > 0
        known = {"members": around.members, "patterns": noise.patterns, "own": noise.own}
        for name, array in known.items():
            self.register_buffer(name, torch.tensor(array), persistent=False)
        self.known: Data | None = None  # the training data, among which validation looks for neighbours

    @property
    def encoder(self) -> Encoder:
        """What is probed, and what other networks may begin with: the teacher's."""
        return self.pair.teacher.encoder

    @property
    def n_global(self) -> int:
        """The teacher's views."""
        return 1 if self.views.teacher == "averaged" else 2

    def counted(self) -> Tensor:
        """Pairs (teacher's view, student's view) that are compared: a view never with itself.

        The mean of all responses is no view of the student, so with it every pair counts.
        """
        if self.views.teacher == "averaged":
            return torch.ones(1, self.views.local, dtype=torch.bool)
        return distillation.pairs(2, 2 + self.views.local)

    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        """``teacher`` and ``student``, responses (row, view, voxel); ``share`` (row, view) of the voxels, and
        ``missing`` (row, view, region), that the student's views lack; ``frozen``, a scalar.
        """
        self.known = data
        shown = self._shown(data, rows, rng)
        local = np.arange(shown["student"].shape[1]) >= shown["student"].shape[1] - self.views.local
        ranges = [self.views.dropout if each else self.views.global_dropout for each in local]
        n_regions, probability = len(self.members), self.views.region_dropout
        missing = views.lacking(len(rows), local, n_regions, probability, rng)
        share = views.shares(len(rows), ranges, rng).astype(np.float32)
        frozen = torch.tensor(when.epoch < self.losses.frozen_epochs, device=rows.device)
        sent = {name: send(one, rows.device) for name, one in {"share": share, "missing": missing}.items()}
        return {**shown, **sent, "frozen": frozen}

    def _shown(self, data: Data, rows: Tensor, rng: np.random.Generator) -> Batch:
        """Responses behind the views: two different repeats or the mean; then one at random each."""
        n_trials, trials = data.tensors["n_trials"][rows], data.tensors["trials"][rows]
        numbers = send(rng.random((len(rows), 2 + self.views.local)), rows.device)
        local = (numbers[:, 2:] * n_trials[:, None]).long()
        if self.views.teacher == "averaged":
            return {"teacher": averages(data, rows)[:, None], "student": self._responses(data, trials, local)}
        both = views.two_repeats(n_trials, numbers[:, :2])
        student = self._responses(data, trials, torch.cat([both, local], dim=1))
        return {"teacher": student[:, :2], "student": student}

    def _responses(self, data: Data, trials: Tensor, repeat: Tensor) -> Tensor:
        """Responses (row, view, voxel) of the repeats (row, view)."""
        return data.tensors["voxels"][trials.gather(1, repeat)]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``teacher`` and ``student``, logits (row, view, prototype)."""
        n_rows, n_views = batch["student"].shape[:2]
        taught = self.pair.taught(batch["teacher"].flatten(0, 1)).unflatten(0, (n_rows, -1))
        learned = self.pair.student(self.perturbed(batch), batch["frozen"])
        return {"teacher": taught, "student": learned.unflatten(0, (n_rows, n_views))}

    def perturbed(self, batch: Batch) -> Tensor:
        """What the student sees, (row x view, voxel)."""
        seen = batch["student"].flatten(0, 1)
        if self.noisy:
            seen = views.noisy(seen, self.patterns, self.own, self.views.noise)
        missing = views.within(batch["missing"].flatten(0, 1), self.members) if len(self.members) else None
        return views.thinned(seen, batch["share"].flatten(), missing)

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        """Cross entropy between teacher and student; the teacher's logits are noted for its centre."""
        self.pair.note(found["teacher"])
        taught = self.assigned(found["teacher"], when)
        return {"loss": distillation.loss(found["student"], taught, self.counted(), self.losses.student)}

    def assigned(self, logits: Tensor, when: When) -> Tensor:
        """The teacher's probabilities in an epoch."""
        cfg = self.losses
        warm = distillation.warmed(cfg.teacher_start, cfg.teacher, when.epoch, cfg.teacher_warmup)
        return distillation.assigned(logits, self.pair.centre, warm)

    def updated(self, when: When) -> None:
        """Teacher and centre follow."""
        fraction = when.step / max(1, when.n_steps - 1)
        self.pair.follow(distillation.momentum(self.losses.momentum, fraction))

    def validate(self, data: Data, when: When) -> dict[str, float]:
        """Whether answers differ, and what the teacher's features are worth, on mean responses to images.

        ``loss`` under views that are always the same; ``entropy`` and ``divergence`` of the teacher's answers
        (`distillation.spread`); ``neighbours``, how often the target that the nearest training images vote
        for is nearest to an image's own among all of the data: only this looks at targets, and it trains
        nothing.
        """
        rows = torch.arange(data.n_rows, device=data.tensors["voxels"].device)
        batch = self.draw_fixed(data, rows, when)
        found = self.forward(batch)
        taught = self.assigned(self.pair.taught(averages(data, rows)), when)
        loss = float(self.loss_of(found, when))
        return {"loss": loss, **distillation.spread(taught), **self._neighbours(data, rows)}

    def loss_of(self, found: dict[str, Tensor], when: When) -> Tensor:
        """`loss` of outputs, of which nothing is noted."""
        taught = self.assigned(found["teacher"], when)
        return distillation.loss(found["student"], taught, self.counted(), self.losses.student)

    def draw_fixed(self, data: Data, rows: Tensor, when: When) -> Batch:
        """The batch of `draw` with the same random numbers each time; the training data stay known."""
        known = self.known
        batch = self.draw(data, rows, when, np.random.default_rng(FIXED))
        self.known = known
        return batch

    def _neighbours(self, data: Data, rows: Tensor) -> dict[str, float]:
        if self.known is None or "target" not in data.tensors:
            return {}
        known = torch.arange(self.known.n_rows, device=rows.device)
        centre = self.known.tensors["target"].flatten(1).float().mean(dim=0)
        targets = [one.tensors["target"].flatten(1).float() - centre for one in (self.known, data)]
        features = [self._features(one, of) for one, of in ((self.known, known), (data, rows))]
        voted = neighbours(features[1], features[0], targets[0])
        first = similarity(voted, targets[1]).argmax(dim=1) == rows
        return {"neighbours": float(first.double().mean())}

    def _features(self, data: Data, rows: Tensor) -> Tensor:
        return torch.cat([self.encoder(averages(data, part)).float() for part in rows.split(ROWS)])

    @torch.no_grad()
    def embed(self, voxels: ArrayLike) -> NDArray[np.float32]:
        """Features (row, width) of responses (row, voxel), by the teacher's encoder."""
        device = next(self.parameters()).device
        with evaluating(self):
            parts = [self.encoder(rows.to(device)).float() for rows in torch.as_tensor(voxels).split(ROWS)]
        return torch.cat(parts).cpu().numpy()


def layers(network: DinoNetwork) -> Layers:
    """The hidden layers that the settings describe."""
    return Layers(
        network.width,
        network.blocks,
        network.residual,
        network.stem,
        network.block,
        network.dropout,
        network.block_dropout,
        network.activation,
        network.bias,
    )


def neighbours(asked: Tensor, known: Tensor, targets: Tensor) -> Tensor:
    """Mean targets (row, dim) of the nearest known rows, each weighted by exp(cosine / `SHARPNESS`).

    Parameters
    ----------
    asked : (row, feature); known : (known, feature); targets : (known, dim)
    """
    cosines, nearest = similarity(asked, known).topk(min(NEIGHBOURS, len(known)), dim=1)
    weights = (cosines / SHARPNESS).softmax(dim=1)
    return (weights[..., None] * targets[nearest]).sum(dim=1)
