"""The loop over steps: one training under way, on one device or on one of several."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from percept.decoders.training import chunked, parallel, preflight, seeds
from percept.decoders.training.fabric import Fabric
from percept.decoders.training.job import Job, Plan, Row
from percept.decoders.training.learner import Batch, Data, Learner, When
from percept.decoders.training.ledger import Ledger
from percept.decoders.training.monitor import Meter
from percept.decoders.training.optimiser import Average, adamw, finite, learning_rate, scheduler, trained
from percept.decoders.training.selection import Selection, Weights
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError

SETTLED = 32  # steps after which losses are read back at the latest, and several devices agree on what to do


class Loop:
    """A training under way.

    Steps follow one another without waiting for the device: losses stay there until they are settled, every
    `SETTLED` steps, at the end of an epoch and before a checkpoint.
    """

    def __init__(
        self, fabric: Fabric, learner: Learner, data: tuple[Data, Data | None], cfg: TrainingConfig, job: Job
    ) -> None:
        self.fabric, self.learner, self.cfg, self.job = fabric, learner, cfg, job
        self.device = fabric.device
        self.plan = Plan.of(cfg, data[0].n_rows)
        self.meter = Meter(self.device)
        fabric.to_device(learner.train())
        self.train, self.validation = (_resident(part, self.device) for part in data)
        self.step = 0
        self.estimate = self._estimate()
        self.best_on = preflight.room(self.estimate, self.device, job.name)
        self.model = fabric.setup_module(learner, move_to_device=False)
        self.optimiser = fabric.setup_optimizers(adamw(learner, cfg))
        self.schedule = scheduler(self.optimiser.optimizer, cfg, self.plan.n_steps)
        self.average = None if cfg.ema is None else Average(learner, cfg.ema)
        self.selection = Selection.by(cfg, self.validation is not None, keeps=fabric.is_global_zero)
        self.ledger = Ledger()
        self.history: list[Row] = []
        self.order: tuple[int, Tensor] | None = None  # an epoch, and its permutation of the rows
        self.saved_at, self.resumed = time.monotonic(), 0

    @property
    def when(self) -> When:
        """Where the next step stands."""
        return When(self.step, self.plan.n_steps, self.plan.steps_per_epoch)

    @property
    def between_epochs(self) -> bool:
        """Whether the steps so far are whole epochs."""
        return self.step % self.plan.steps_per_epoch == 0

    @property
    def over(self) -> bool:
        """Whether all steps are done, or enough validations brought nothing."""
        return self.step >= self.plan.n_steps or (self.between_epochs and self.selection.exhausted)

    # A step.

    def advance(self) -> None:
        """One step of the optimiser."""
        when = self.when
        batch = self.learner.draw(self.train, self._rows(), when, seeds.drawing(self.job.seed, self.step))
        self.ledger.note(self.step, self._backward(batch, when))
        self._update()
        self.learner.updated(when)
        self.step += 1
        self.meter.samples += self.plan.batch
        if self.between_epochs or self.step % SETTLED == 0:
            self.settle()

    def _rows(self) -> Tensor:
        """Rows of the batch of all devices, (row,)."""
        epoch, index = divmod(self.step, self.plan.steps_per_epoch)
        if self.order is None or self.order[0] != epoch:
            order = torch.from_numpy(seeds.order(self.job.seed, epoch, self.train.n_rows))
            self.order = epoch, order.to(self.device)
        return self.order[1][index * self.plan.batch : (index + 1) * self.plan.batch]

    def _backward(self, batch: Batch, when: When) -> dict[str, Tensor]:
        """Leaves the gradient of the loss of `batch`; returns the parts of the loss."""
        rank, n = self.fabric.global_rank, self.plan.batch // self.fabric.world_size
        mine = chunked.cut(batch, rank * n, (rank + 1) * n)

        def forward(rows: Batch, chunk: int = 0) -> Batch:
            seeds.seed_forward(self.job.seed, when.step, rank, chunk)
            return self.model(rows)

        def loss(found: Batch) -> dict[str, Tensor]:
            everything = parallel.gather(found) if self.fabric.world_size > 1 else found
            return self.learner.loss(everything, batch, when)

        if self.cfg.chunk is not None and self.cfg.chunk < n:
            return chunked.backward(mine, self.cfg.chunk, forward, loss, self.fabric.backward, self._exchange)
        parts = loss(forward(mine))
        self.fabric.backward(parts["loss"])
        return parts

    @contextmanager
    def _exchange(self, last: bool) -> Iterator[None]:
        """Devices exchange gradients after the last chunk alone."""
        if last or self.fabric.world_size == 1:
            yield
            return
        with self.fabric.no_backward_sync(self.model):
            yield

    def _update(self) -> None:
        """Clip, change the weights, forget the gradient.

        What no loss reached has a gradient of 0, as chunks and several devices find it: it decays alike.
        """
        for parameter in trained(self.learner):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.cfg.gradient_clip is not None:
            limit = self.cfg.gradient_clip
            self.fabric.clip_gradients(self.model, self.optimiser, max_norm=limit, error_if_nonfinite=False)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.step)

    def settle(self) -> None:
        """Read the losses that are pending.

        Raises
        ------
        PerceptError : one of them is not finite
        """
        fault = self.ledger.settle()
        if fault is not None:
            raise self._lost(f"the training loss is not finite ({fault.part} is {fault.value})", fault.step)

    def check(self) -> None:
        """Read the losses that are pending, and look at all that the next step starts from.

        A gradient may be lost where the loss is not (the slope of a root at 0). The weights of its step are
        lost then, and no later loss may have told so yet.

        Raises
        ------
        PerceptError : a loss, a weight, an average of weights or a moment of the optimiser is not finite
        """
        self.settle()
        if not finite(self._carried()):
            what = "the weights or the optimiser's moments are no longer finite, because a gradient was not,"
            raise self._lost(what, self.step - 1)

    def _carried(self) -> Iterator[Tensor]:
        """What a step changes and leaves to the next one."""
        yield from trained(self.learner)
        yield from () if self.average is None else self.average.tensors
        for state in self.optimiser.optimizer.state.values():
            yield from (state["exp_avg"], state["exp_avg_sq"])

    def _lost(self, what: str, step: int) -> PerceptError:
        path = self.job.checkpoint
        kept = f"{path} keeps the last good state" if path.is_file() else "no checkpoint had been written"
        rate = learning_rate(self.cfg, self.plan.n_steps, step)
        return PerceptError(
            f"{self.job.name}: {what} at step {step} of {self.plan.n_steps} (learning rate {rate:.3g}, "
            f"precision {self.cfg.precision}), so the weights of this step are lost: training stopped, and "
            f"{kept}. Lower `training.learning_rate`, set `training.gradient_clip` (such as 1.0) or another "
            "`training.precision`, or look for values in the data that are not finite; with other settings "
            "training starts anew."
        )

    # An epoch.

    def close_epoch(self) -> Row:
        """Validate where it is due; returns the epoch's row of the history."""
        epoch = self.step // self.plan.steps_per_epoch
        self.meter.tick()
        row = {
            "epoch": epoch,
            "step": self.step,
            "learning_rate": learning_rate(self.cfg, self.plan.n_steps, self.step - 1),
            "seconds": round(self.meter.wall, 3),
            **self.ledger.means(),
        }
        due = epoch % self.cfg.validate_every == 0 or self.step == self.plan.n_steps
        if self.validation is not None and due:
            with self.meter.aside(), self._averaged():
                row |= {f"validation_{name}": score for name, score in self._validate(epoch).items()}
        self.history.append(row)
        return row

    def _validate(self, epoch: int) -> Row:
        """Scores of the present weights, which are kept if they are the best so far."""
        self.check()
        scores = self.fabric.broadcast(self._scores() if self.fabric.is_global_zero else None)
        if not math.isfinite(scores["loss"]):
            raise self._lost(f"the validation loss is {scores['loss']}", self.step - 1)
        self.selection.see(scores["loss"], epoch, self._copied)
        return scores

    @torch.no_grad()
    def _scores(self) -> Row:
        seeds.seed_validation(self.job.seed)
        when = When(self.step - 1, self.plan.n_steps, self.plan.steps_per_epoch)  # of the last step
        self.learner.eval()
        with self.fabric.autocast():
            scores = self.learner.validate(self.validation, when)
        self.learner.train()
        return {name: float(score) for name, score in scores.items()}

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averages in place of the weights, where weights are averaged."""
        if self.average is None:
            yield
            return
        with self.average.in_place():
            yield

    def _copied(self, onto: Weights | None) -> Weights:
        """A copy of the weights, in the memory of an earlier one where there is one."""
        state = self.learner.state_dict()
        if onto is None:
            return self.placed(state)
        for name, value in state.items():
            onto[name].copy_(value)
        return onto

    def placed(self, weights: Weights) -> Weights:
        """A copy of weights where the best ones are kept."""
        pinned = self.best_on != self.device  # page-locked memory is copied to at the full rate of the bus
        empty = {
            name: torch.empty_like(value, device=self.best_on, pin_memory=pinned)
            for name, value in weights.items()
        }
        return {name: empty[name].copy_(value) for name, value in weights.items()}

    def _estimate(self) -> preflight.Estimate:
        """Memory that the training will take; said in the log."""
        batch = preflight.probe(self.learner, self.train, self.when, self.job.seed)
        with self.fabric.autocast():
            kept = preflight.kept_bytes(self.learner, batch)
        rows = self.plan.batch // self.fabric.world_size
        found = preflight.estimate(self.learner, self.train, self.cfg, rows, kept)
        if self.fabric.is_global_zero:
            preflight.describe(self.learner, found, self.device, self.plan.n_steps)
        return found


def _resident(data: Data | None, device: torch.device) -> Data | None:
    """The data on the device; where they are there, the same tensors."""
    if data is None:
        return None
    return Data(data.n_rows, {name: tensor.to(device) for name, tensor in data.tensors.items()})
