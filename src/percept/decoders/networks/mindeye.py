"""MindEye's high level as the engine trains it (Scotti et al. 2023, section 3)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from percept.decoders.networks import losses
from percept.decoders.networks.blocks import Backbone, Layers, Projector, evaluating
from percept.decoders.networks.mixing import Mixing, draw_mixing, mix
from percept.decoders.networks.prior import Prior
from percept.decoders.networks.repeats import averages, response
from percept.decoders.networks.settings import (
    Contrast,
    MindEyeLosses,
    MindEyeNetwork,
    PriorSettings,
    Repeats,
)
from percept.decoders.training.learner import Batch, Data, Learner, When
from percept.files import PerceptError

ROWS = 64  # per forward pass outside training
FIXED = 0  # seed of the noise under which the prior is validated


class Settings(Protocol):
    """What of a decoder's section of the config shapes its learner."""

    @property
    def network(self) -> MindEyeNetwork:
        """Layers."""

    @property
    def losses(self) -> MindEyeLosses:
        """What is minimised."""

    @property
    def prior(self) -> PriorSettings | None:
        """The diffusion prior, if there is one."""

    @property
    def repeats(self) -> Repeats:
        """Which response to an image trains."""


class MindEye(Learner):
    """A residual network to the tokens of an image, a projector for retrieval, and a diffusion prior.

    Parameters
    ----------
    n_voxels : of a response
    shape : (token, dim) of a target; one token where it is pooled

    Raises
    ------
    PerceptError : a phase of the training has no loss
    """

    def __init__(self, n_voxels: int, shape: tuple[int, int], settings: Settings) -> None:
        super().__init__()
        self.shape, self.losses, self.repeats = tuple(shape), settings.losses, settings.repeats
        self.sampling = settings.prior
        tokens, dim = self.shape
        self.backbone = Backbone(n_voxels, tokens * dim, _layers(settings.network))
        projects = settings.network.projector and self.contrasts  # nothing else would train it
        self.projector = Projector(dim, settings.network.projector_width) if projects else None
        self.prior = _prior(dim, tokens, settings.prior) if settings.prior and self.losses.prior else None
        _check(self.losses, self.prior is not None)

    def standardise(self, targets: Tensor) -> None:
        """Adapt the prior to targets (image, ...) of the training images, if its settings ask for that."""
        if self.prior is not None and self.sampling is not None and self.sampling.scale == "data":
            self.prior.standardise(targets.reshape(len(targets), *self.shape))

    @property
    def contrasts(self) -> bool:
        """Whether a contrastive loss is minimised at any time."""
        return {self.losses.first, self.losses.second} != {"none"}

    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        """Responses and targets; while the contrast is bimixco, responses mixed with others of the batch."""
        voxels = response(data, rows, self.repeats, when.step, rng)
        batch = {"voxels": voxels, "target": data.tensors["target"][rows]}
        if contrast_at(self.losses, when) != "bimixco":
            return batch
        mixing = draw_mixing(len(rows), rng, self.losses.mixing_beta, self.losses.mixing_share)
        mixing = mixing.to(rows.device)
        return batch | {
            "voxels": mix(voxels, mixing),
            "partner": mixing.partner,
            "weight": mixing.weight,
        }

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``backbone`` and ``projected``, (row, token x dim); ``prior`` and ``mse``, (row,), if they count.

        The gradient of the prior's loss flows into the backbone.
        """
        found = self.outputs(batch["voxels"])
        target = batch["target"].flatten(1).float()
        if self.prior is not None:
            found["prior"] = self.prior.loss(self.tokens(found["backbone"]), self.tokens(target))
        if self.losses.mse:
            found["mse"] = (found["backbone"].float() - target).square().mean(dim=1)
        return found

    def outputs(self, voxels: Tensor) -> dict[str, Tensor]:
        """``backbone``, which conditions the prior, and ``projected``, which ranks: (row, token x dim)."""
        backbone = self.backbone(voxels)
        if self.projector is None:
            return {"backbone": backbone, "projected": backbone}
        return {"backbone": backbone, "projected": self.projector(self.tokens(backbone)).flatten(1)}

    def tokens(self, flat: Tensor) -> Tensor:
        """(row, token x dim) as (row, token, dim)."""
        return flat.unflatten(1, self.shape)

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        """Contrast of the phase, plus the weighted means of the prior's loss and of the squared error."""
        parts = {}
        if self.contrasts:
            parts["contrastive"] = self._contrast(found["projected"], batch, when)
        if self.prior is not None:
            parts["prior"] = self._mean_prior(found["prior"], batch)
        if self.losses.mse:
            parts["mse"] = found["mse"].mean()
        return {"loss": _weighted(parts, self.losses), **parts}

    def _contrast(self, projected: Tensor, batch: Batch, when: When) -> Tensor:
        target = batch["target"]
        match contrast_at(self.losses, when):
            case "bimixco":
                labels = Mixing(batch["partner"], batch["weight"]).labels(self.losses.fixed_points)
                return losses.bimixco(projected, target, labels, self.losses.mixing_temperature)
            case "infonce":
                return losses.info_nce(projected, target, self.losses.mixing_temperature)
            case "softclip":
                return losses.soft_clip(projected, target, soft_temperature(self.losses, when))
            case _:
                return projected.new_zeros((), dtype=torch.float32)

    def _mean_prior(self, prior: Tensor, batch: Batch) -> Tensor:
        """Mean over the rows that count: the target of a mixed row is one image, its response is of two."""
        if self.losses.mixed_prior == "kept" or "partner" not in batch:
            return prior.mean()
        counts = ~Mixing(batch["partner"], batch["weight"]).mixed
        return (prior * counts).sum() / counts.sum().clamp(min=1)

    def validate(self, data: Data, when: When) -> dict[str, float]:
        """Scores of the mean response to each image.

        ``loss`` is the calibrated InfoNCE, or without a contrastive loss the weighted sum of the others;
        ``image_given_brain`` and ``brain_given_image`` are the shares of queries whose own counterpart, among
        all of the data, ranks first; ``prior`` is the prior's loss under noise that is always the same.
        """
        projected, parts = [], []
        with _same_noise(data.tensors["target"].device):
            for rows in _batches(data):
                found = self({"voxels": averages(data, rows), "target": data.tensors["target"][rows]})
                projected.append(found["projected"].float())
                parts.append({name: found[name].sum() for name in ("prior", "mse") if name in found})
        cosines = _cosines(torch.cat(projected), data.tensors["target"])
        means = {name: sum(part[name] for part in parts) / data.n_rows for name in parts[0]}
        scores = {name: float(mean) for name, mean in means.items()} | top1(cosines)
        info_nce = losses.calibrated(cosines)
        loss = info_nce if self.contrasts else float(_weighted(means, self.losses))
        return {"loss": loss, "info_nce": info_nce, **scores}

    @torch.no_grad()
    def embed(self, voxels: ArrayLike | Tensor) -> dict[str, Tensor]:
        """`outputs` of responses (row, voxel) in evaluation mode: (row, token x dim) float32, on the CPU."""
        device = next(self.parameters()).device
        with evaluating(self):
            parts = [self.outputs(rows.to(device).float()) for rows in torch.as_tensor(voxels).split(ROWS)]
            return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}

    @torch.no_grad()
    def sample(self, backbone: Tensor, seeds: NDArray[np.integer]) -> Tensor:
        """Embeddings drawn by the prior, (row, sample, token, dim) float32, on the CPU.

        Parameters
        ----------
        backbone : (row, token x dim), see `embed`
        seeds : (row, sample); a sample depends on its seed and its row alone

        Raises
        ------
        PerceptError : there is no prior
        """
        if self.prior is None or self.sampling is None:
            raise PerceptError(
                "this network has no diffusion prior to draw embeddings from: set `prior` and a "
                "`losses.prior` above 0, and train again"
            )
        device, of = next(self.parameters()).device, self.sampling
        n_rows, n_samples = seeds.shape
        found = torch.empty(n_rows, n_samples, *self.shape)
        for rows in torch.arange(n_rows).split(max(1, ROWS // n_samples)):
            condition = self.tokens(backbone[rows].to(device)).repeat_interleave(n_samples, dim=0)
            own = seeds[rows.numpy()].ravel().tolist()
            drawn = self.prior.sample(condition, own, of.sampling_steps, of.sampler, of.guidance)
            found[rows] = drawn.cpu().unflatten(0, (-1, n_samples))
        return found


def contrast_at(cfg: MindEyeLosses, when: When) -> Contrast:
    """Contrastive loss of an epoch."""
    return cfg.first if when.epoch < n_first(cfg, when.n_epochs) else cfg.second


def n_first(cfg: MindEyeLosses, n_epochs: int) -> int:
    """Epochs of the first phase."""
    return int(cfg.switch * n_epochs)


def soft_temperature(cfg: MindEyeLosses, when: When) -> float:
    """Temperature of softclip in an epoch: along half a cosine over the epochs of its phase or phases."""
    switch = n_first(cfg, when.n_epochs)
    start = 0 if cfg.first == "softclip" else switch
    stop = when.n_epochs if cfg.second == "softclip" else switch
    progress = (when.epoch - start) / max(1, stop - start - 1)
    return losses.temperature(progress, cfg.soft_start, cfg.soft_end)


def top1(cosines: Tensor) -> dict[str, float]:
    """Share of queries whose own counterpart ranks first, from cosines (brain, image), by direction."""
    own = torch.arange(len(cosines), device=cosines.device)
    return {
        "image_given_brain": float((cosines.argmax(dim=1) == own).double().mean()),
        "brain_given_image": float((cosines.argmax(dim=0) == own).double().mean()),
    }


def _layers(network: MindEyeNetwork) -> Layers:
    return Layers(
        network.width,
        network.blocks,
        network.residual,
        network.stem,
        network.block,
        network.dropout,
        network.block_dropout,
    )


def _prior(dim: int, tokens: int, settings: PriorSettings) -> Prior:
    sampling = {"sampler", "sampling_steps", "samples", "guidance", "scale"}
    return Prior(dim, tokens, **settings.model_dump(exclude=sampling))


def _check(cfg: MindEyeLosses, prior: bool) -> None:
    used = {cfg.first} if cfg.switch == 1 else {cfg.second} if cfg.switch == 0 else {cfg.first, cfg.second}
    if "none" in used and not prior and not cfg.mse:
        raise PerceptError(
            "a phase of the training has nothing to minimise: its contrastive loss is none, there is no "
            "prior with a weight, and `losses.mse` is 0. Choose `losses.first` and `losses.second`, or give "
            "one of the other losses a weight."
        )


def _weighted(parts: dict[str, Tensor], cfg: MindEyeLosses) -> Tensor:
    weights = {"contrastive": 1.0, "prior": cfg.prior, "mse": cfg.mse}
    return sum(weights[name] * part for name, part in parts.items())


def _batches(data: Data) -> Iterator[Tensor]:
    rows = torch.arange(data.n_rows, device=data.tensors["target"].device)
    yield from rows.split(ROWS)


def _cosines(projected: Tensor, target: Tensor) -> Tensor:
    """(brain, image); targets, kept in half precision, are widened a few at a time."""
    return torch.cat([losses.similarity(projected, part) for part in target.split(ROWS)], dim=1)


@contextmanager
def _same_noise(device: torch.device) -> Iterator[None]:
    """Within it torch draws the same numbers each time; afterwards it goes on where it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(FIXED)
        yield
