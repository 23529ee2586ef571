"""Memory of each training: on the device by the engine's own estimate, on the host by what its rule asks for.

A network is built on torch's meta device, where tensors have shapes and no content, so that a billion
parameters take seconds and no memory; what it takes is what the training itself says before its first step.
"""

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from percept.backbones import catalogue
from percept.config import BaseConfig
from percept.files import PerceptError
from percept.preflight import figures
from percept.preflight.shapes import Shape, shape_of
from percept.preflight.sizes import BYTES, saved
from percept.preflight.world import Subject

# Rules that ask by what they are given.
OF_DATA = (
    "train_decoder", "score_decoders", "audit_subject", "leave_voxels_out", "encode_responses",
    "score_splits", "measure_noise_ceiling", "analyse_latents",
)  # fmt: skip
NETWORK_MB = 56_000  # of the host: a network of full size passes through it with its optimiser
LEAST_MB = 4000
# Of the widest map of an autoencoder of latents, at the size of the image (Rombach et al. 2022).
DECODER_CHANNELS = 256


@dataclass(frozen=True)
class Training:
    """The largest training of a decoder: of the subject with the most voxels.

    device : bytes on the device of training; 0 of decoders that are solved and not trained
    checkpoint : bytes of its state while it trains
    flop : operations of one training; moved : bytes through the memory of the device
    saved : bytes of its weights
    """

    decoder: str
    subject: str
    n_voxels: int
    gpus: int
    device: float
    checkpoint: float
    flop: float
    moved: float
    saved: float
    parameters: int = 0


@dataclass(frozen=True)
class Generation:
    """What making the images of a reconstruction takes on its device.

    device : bytes of its networks and of a batch; parameters : of all of its networks
    batch : images made at a time; side : pixels of an image
    """

    reconstruction: str
    gpus: int
    device: float
    parameters: float
    batch: int
    side: int


def voxels_mb(n_bytes: float) -> int:
    """MB of a job that holds a subject's betas of `n_bytes` as float32 a few times over."""
    return max(LEAST_MB, round(8e-6 * n_bytes))


def predictions_mb(n_bytes: float) -> int:
    """MB of a job that holds a file of predictions of `n_bytes`: as float32, centred, a block in float64."""
    return round(3e-6 * n_bytes)


def training_mb(n_bytes: float, gpus: int, kind: str) -> int:
    """MB that the rule of a training asks for, of a data set of this kind with betas of `n_bytes`.

    Each of several GPUs is driven by a process of its own, which holds everything.
    """
    network = NETWORK_MB if gpus and kind != "twin" else 0
    return (voxels_mb(n_bytes) + network) * max(1, gpus)


def trainings(cfg: BaseConfig, subjects: Iterable[Subject]) -> list[Training]:
    """The largest training of every decoder; decoders of equal settings are estimated once.

    Of a target whose shape nobody knows yet, nothing is said; nor of a network on volumes before it is known
    where its voxels are.
    """
    subjects = list(subjects)
    found, known = [], {}
    for name, decoder in cfg.every_decoder.items():
        shape = shape_of(decoder.target, cfg)
        if shape is None or not subjects:
            continue
        largest = max(subjects, key=lambda subject, decoder=decoder: subject.of(decoder.roi))
        key = (largest.name, shape, repr(decoder.model_dump(exclude={"seeds"})))
        if key not in known:
            known[key] = _training(_Asked(name, cfg, largest, shape))
        if known[key] is not None:
            found.append(replace(known[key], decoder=name))
    return found


@dataclass(frozen=True)
class _Asked:
    """One decoder on one subject, for a target of a known shape."""

    name: str
    cfg: BaseConfig
    subject: Subject
    shape: Shape

    @property
    def decoder(self) -> Any:  # noqa: ANN401 (one of several sections)
        return self.cfg.every_decoder[self.name]

    @property
    def n_voxels(self) -> int:
        return self.subject.of(self.decoder.roi)

    @property
    def n_images(self) -> int:
        """Images that train."""
        return max(2, self.subject.train_images(self.cfg.split.validation_fraction)[0])

    @property
    def further(self) -> list[Shape]:
        """Shapes of the targets that it reads beside its own."""
        shapes = [shape_of(name, self.cfg) for name in self.decoder.further]
        return [shape for shape in shapes if shape is not None]


def generations(cfg: BaseConfig) -> list[Generation]:
    """Every reconstruction that published networks make.

    Its networks are on the device together, in the generator's precision. Most of a batch is taken where its
    latents become images: a denoising step, though guidance doubles it, takes a third of that.
    """
    found = []
    for name, one in cfg.reconstructions.items():
        generator = one.generator
        networks = catalogue.closure(generator.backbones)
        published = [figures.PARAMETERS_M[network] for network in networks if network in figures.PARAMETERS_M]
        if generator.chooses_from or not published:
            continue
        width, batch = BYTES[getattr(generator, "precision", "float32")], getattr(generator, "batch_size", 1)
        own = getattr(generator, "backbone", None)
        side = catalogue.named(own).settings.get("size", 0) if own else 0  # 0: it decodes nothing
        parameters = 1e6 * sum(published)
        maps = figures.DECODER_MAPS.value * DECODER_CHANNELS * side**2
        device = width * (parameters + batch * maps)
        found.append(Generation(name, generator.n_gpus, device, parameters, batch, side))
    return found


def _training(asked: _Asked) -> Training | None:
    decoder, subject = asked.decoder, asked.subject
    if decoder.located and subject.located is None:
        return None
    located = (subject.located,) if decoder.located else ()
    try:
        n_bytes = saved(decoder.tensors(asked.n_voxels, asked.shape, *located))
        return _network(asked, n_bytes) if hasattr(decoder, "build") else _solved(asked, n_bytes)
    except PerceptError:
        return None  # such as a network that does not fit its target: the training says so itself


def _solved(asked: _Asked, n_bytes: float) -> Training:
    """A ridge decoder: one factorisation, then a product per penalty and block of targets."""
    decoder, n_voxels, dims = asked.decoder, asked.n_voxels, math.prod(asked.shape)
    rows = asked.subject.trials if asked.cfg.split.train_repeats == "single" else asked.n_images
    flop = solving(rows, n_voxels, dims, len(decoder.alphas), decoder.folds)
    return Training(asked.name, asked.subject.name, n_voxels, decoder.n_gpus, 0, 0, flop, 0, n_bytes)


def solving(rows: int, n_in: int, n_out: int, penalties: int, folds: int) -> float:
    """Operations of a linear model of `n_in` inputs and `n_out` outputs, by rows of training."""
    held_out = penalties * 2 * rows**3 / folds
    factorised = 2 * rows**2 * n_in + 9 * rows**3 + held_out
    return factorised + n_out * (2 * penalties * rows**2 + 4 * rows * n_in)


def _network(asked: _Asked, n_bytes: float) -> Training:
    """A network: memory, operations and traffic of its training."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from percept.decoders.training import preflight
    from percept.decoders.training.learner import When

    settings = asked.decoder.training
    with torch.device("meta"):
        learner, data = _built(asked), _data(asked)
    steps_per_epoch = math.ceil(data.n_rows / settings.batch_size)
    n_steps = max(1, settings.epochs * steps_per_epoch)
    batch = preflight.probe(learner, data, When(0, n_steps, steps_per_epoch), 0)
    with FlopCounterMode(display=False) as counted:
        kept = preflight.kept_bytes(learner, batch)  # of one row, then of two
    found = preflight.estimate(learner, data, settings, settings.batch_size // settings.devices, kept)
    forward = counted.get_total_flops() / 3
    return Training(
        decoder=asked.name,
        subject=asked.subject.name,
        n_voxels=asked.n_voxels,
        gpus=asked.decoder.n_gpus,
        device=found.total,
        checkpoint=found.weights + found.optimiser + found.average + found.best,
        flop=3 * forward * data.n_rows * settings.epochs,  # backward takes twice what forward takes
        moved=n_steps * 2 * (found.weights + found.gradients + found.optimiser),
        saved=n_bytes,
        parameters=sum(parameter.numel() for parameter in learner.parameters()),
    )


def _built(asked: _Asked) -> Any:  # noqa: ANN401 (a learner; torch is imported only here)
    """The network, by the arguments that the `build` of its kind takes."""
    given = {
        "n_voxels": asked.n_voxels, "shape": asked.shape, "voxels": asked.subject.located,
        "teacher": next(iter(asked.further), None),
    }  # fmt: skip
    wanted = inspect.signature(asked.decoder.build).parameters
    return asked.decoder.build(**{key: value for key, value in given.items() if key in wanted})


def _data(asked: _Asked) -> Any:  # noqa: ANN401
    """What it is trained on, without content: responses, and targets in half precision as they are cached."""
    import torch

    from percept.decoders.training.learner import Data

    n = asked.n_images
    most = math.ceil(asked.subject.trials / max(1, asked.subject.images))
    names = ["target", *getattr(asked.decoder, "taught", {})]
    shapes = [asked.shape, *asked.further]
    tensors = {
        "voxels": torch.empty(n * most, asked.n_voxels),
        "trials": torch.empty(n, most, dtype=torch.long),
        "n_trials": torch.empty(n, dtype=torch.long),
    }
    features = {
        name: torch.empty(n, *shape, dtype=torch.float16) for name, shape in zip(names, shapes, strict=False)
    }
    return Data(n, tensors | features)
