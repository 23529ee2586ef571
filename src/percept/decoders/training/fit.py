"""Train a network: resumable at any moment, the same weights every time, on one device or several."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch.multiprocessing import ProcessRaisedException

from percept.backbones.device import choose, memory_for
from percept.decoders.training import checkpoint, parallel, preflight, seeds, signals, state
from percept.decoders.training.fabric import Fabric
from percept.decoders.training.job import Job, Outcome
from percept.decoders.training.learner import Data, Learner
from percept.decoders.training.loop import SETTLED, Loop
from percept.decoders.training.progress import Progress, writer
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError, write_text

__all__ = ["Job", "Outcome", "fit"]

log = logging.getLogger(__name__)


def fit(learner: Learner, train: Data, validation: Data | None, cfg: TrainingConfig, job: Job) -> Outcome:
    """Train `learner` in place.

    A training that was interrupted goes on where its last checkpoint was written: every
    `cfg.checkpoint_minutes`, and when SIGTERM, SIGINT or SIGUSR1 arrives, which then takes effect. Everything
    random is a function of `job.seed`, the step and the device's number, so that on the CPU the weights are
    those of the uninterrupted training, bit for bit. A finished training returns at once, and one whose
    checkpoint is damaged starts anew.

    Parameters
    ----------
    learner : in its initial state (the caller seeds its weights); it ends with the chosen weights, in
        evaluation mode, on the device of training
    train, validation : moved to the device once; without validation the last weights are kept
    job : where the state is kept, and what it belongs to

    Raises
    ------
    PerceptError : a loss is not finite, memory does not suffice, devices or a package are missing
    """
    _warn_unvalidated(cfg, validation)
    mark = checkpoint.mark(learner, train.n_rows, cfg, job.identity, job.seed)
    training = _Training(learner, (train, validation), cfg, job, mark)
    stored = training.stored()
    if stored is None or not stored["finished"]:
        with signals.noted() as arrived, memory_for(f"training {job.name}", preflight.KNOBS):
            stored = _trained(training, arrived)
        signals.obey(arrived)
    if stored is None:
        raise PerceptError(
            f"{job.name}: the training was interrupted by a signal to one of its processes; its state is in "
            f"{job.checkpoint}. Run the same command again: it goes on from there."
        )
    learner.load_state_dict(stored["weights"])
    learner.to(choose(cfg.device)).eval()
    return Outcome(pd.DataFrame(stored["history"]), dict(stored["record"]))


def _warn_unvalidated(cfg: TrainingConfig, validation: Data | None) -> None:
    if validation is None and (cfg.select == "validation" or cfg.patience is not None):
        log.warning(
            "there are no validation images to select weights by, or to stop early by: the last weights are "
            "kept (set `split.validation_fraction` above 0, or `training.select: last` if this is meant)"
        )


@dataclass(frozen=True)
class _Training:
    """What every process needs to know."""

    learner: Learner
    data: tuple[Data, Data | None]
    cfg: TrainingConfig
    job: Job
    mark: str

    def stored(self) -> checkpoint.Stored | None:
        """Its checkpoint, where there is one."""
        return checkpoint.read(self.job.checkpoint, self.mark)


def _trained(training: _Training, arrived: list[int]) -> checkpoint.Stored | None:
    """The finished checkpoint, or None if a signal came first."""
    if training.cfg.tensorboard:
        writer()
    fabric = parallel.fabric_for(training.cfg)
    if training.cfg.devices == 1:
        return _run(fabric, training, arrived)
    failure = training.job.failure
    failure.unlink(missing_ok=True)
    try:
        parallel.launch(fabric, partial(_rank, training=training, logs=parallel.logs()))
    except ProcessRaisedException as error:
        if not failure.is_file():
            raise
        raise PerceptError(failure.read_text(encoding="utf-8")) from error
    stored = training.stored()
    return stored if stored is not None and stored["finished"] else None


def _rank(fabric: Fabric, training: _Training, logs: list[str]) -> None:
    """One of several processes; what it finds is in the checkpoint, what it fails of in a file beside it."""
    parallel.log_to(logs if fabric.is_global_zero else [])
    parallel.unshare(training.learner)
    name = training.job.name
    try:
        with signals.noted() as arrived, memory_for(f"training {name}", preflight.KNOBS):
            _run(fabric, training, arrived)
    except PerceptError as error:
        write_text(str(error), training.job.failure)
        raise


def _run(fabric: Fabric, training: _Training, arrived: list[int]) -> checkpoint.Stored | None:
    """Train on one device, from the checkpoint where there is one; None if a signal came first."""
    cfg, job = training.cfg, training.job
    with seeds.untouched(fabric.device), _arithmetic(fabric.device):
        loop = Loop(fabric, training.learner, training.data, cfg, job)
        stored = training.stored()
        if stored is not None:
            state.resume(loop, stored)
        events = (job.events or job.folder / "events") if cfg.tensorboard and fabric.is_global_zero else None
        with closing(Progress(job.name, loop.step, loop.plan.n_steps, events)) as progress:
            whole = _steps(loop, progress, training.mark, arrived)
        return state.finish(loop, training.mark) if whole else None


def _steps(loop: Loop, progress: Progress, mark: str, arrived: list[int]) -> bool:
    """Go through the steps that are left; False if a signal ended them."""
    while not loop.over:
        loop.advance()
        progress.step()
        if loop.between_epochs:
            progress.epoch(loop.close_epoch())
        due, stop = _asked(loop, arrived)
        if due or stop:
            state.save(loop, mark)
        if stop:
            return False
    return True


def _asked(loop: Loop, arrived: list[int]) -> list[bool]:
    """Whether a checkpoint is due, and whether a signal asks to stop.

    Several devices have to agree, which waits for them, so they are not asked at each step.
    """
    if loop.fabric.world_size > 1 and not loop.between_epochs and loop.step % SETTLED:
        return [False, False]
    due = time.monotonic() - loop.saved_at > loop.cfg.checkpoint_minutes * 60
    return parallel.agree(loop.fabric, due, bool(arrived))


@contextmanager
def _arithmetic(device: torch.device) -> Iterator[None]:
    """TF32 in matrix products on a GPU; on the CPU the same sums in the same order each time."""
    precision = torch.get_float32_matmul_precision()
    strict, lenient = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = torch.utils.deterministic.fill_uninitialized_memory
    try:
        if device.type == "cuda":
            torch.set_float32_matmul_precision("high")
        else:
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # a guard against bugs, at a price
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(strict, warn_only=lenient)
        torch.utils.deterministic.fill_uninitialized_memory = filled
