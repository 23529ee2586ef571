"""Training: the same weights however often it is interrupted, the best ones kept, no failure unnoticed."""

import logging
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import pytest
import torch

from percept.decoders.training import fit as engine
from percept.decoders.training.fit import Job, Outcome, fit
from percept.decoders.training.learner import Data, When
from percept.decoders.training.optimiser import learning_rate
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError
from tests.unit.decoders.training.learners import Contrastive, data, learner, same, weights

Module = TypeVar("Module", bound=Contrastive)
STEPS = 5  # in an epoch of 43 rows
CHANGES = {"seconds"}  # columns of the history that differ from run to run


def settings(**changes: object) -> TrainingConfig:
    base = {"epochs": 6, "batch_size": 8, "device": "cpu", "learning_rate": 3e-3}
    return TrainingConfig(**{**base, **changes})


def job(folder: Path, **changes: object) -> Job:
    return Job(**{"folder": folder, "seed": 3, "identity": "these data", "name": "toy", **changes})


def trained(
    folder: Path, module: Contrastive | None = None, **changes: object
) -> tuple[Contrastive, Outcome]:
    module = learner() if module is None else module
    return module, fit(module, data(43), data(9, seed=1), settings(**changes), job(folder))


def first(kind: type[Module]) -> Module:
    """A network of some kind with the weights of `learner()`."""
    module = kind()
    module.load_state_dict(learner().state_dict())
    return module


class Interrupted(Exception):  # noqa: N818 (what a signal raises here, not an error)
    pass


class Signalled(Contrastive):
    """Sends its process a signal while it draws the batch of a step, or of several."""

    at: tuple[int, ...] = ()
    number = signal.SIGUSR1

    def draw(self, data: Data, rows: torch.Tensor, when: When, rng: np.random.Generator) -> dict:
        if when.step in self.at:
            signal.raise_signal(self.number)
        return super().draw(data, rows, when, rng)


@contextmanager
def raising(number: int) -> Iterator[None]:
    """A signal raises `Interrupted` where nobody else listens."""

    def interrupt(number, frame):
        raise Interrupted

    before = signal.signal(number, interrupt)
    yield
    signal.signal(number, before)


def interrupted(
    folder: Path, steps: list[int], number: int = signal.SIGUSR1, **changes: object
) -> tuple[Contrastive, Outcome]:
    """Train, stopped by a signal during each of `steps`, in a new network each time."""
    for step in steps:
        module = first(Signalled)
        module.at, module.number = (step,), number
        with raising(number), pytest.raises(Interrupted):
            trained(folder, module, **changes)
    return trained(folder, learner(seed=17), **changes)


# Resuming.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.8, "gradient_clip": 0.5},
        {"precision": "float16"},
        {"precision": "bfloat16", "chunk": 3},
        {"patience": 1, "learning_rate": 0.1},
        {"select": "last", "validate_every": 4},
    ],
    ids=str,
)
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, changes):
    whole, outcome = trained(tmp_path / "whole", **changes)
    parts, again = interrupted(tmp_path / "parts", [0, 3, STEPS - 1, STEPS, 2 * STEPS + 2], **changes)
    assert same(weights(whole), weights(parts))
    pd.testing.assert_frame_equal(
        outcome.history.drop(columns=CHANGES), again.history.drop(columns=CHANGES), check_exact=True
    )
    assert again.record["resumed"] == 2 * STEPS + 3 and outcome.record["resumed"] == 0
    changing = {"resumed", "seconds", "samples_per_s", "peak_memory_mb", "energy_j"}
    assert {k: v for k, v in outcome.record.items() if k not in changing} == {
        k: v for k, v in again.record.items() if k not in changing
    }


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_saves_the_training_and_is_then_obeyed(tmp_path, number):
    whole, _ = trained(tmp_path / "whole")
    parts, outcome = interrupted(tmp_path / "parts", [7], number)
    assert same(weights(whole), weights(parts)) and outcome.record["resumed"] == 8


def test_a_crash_costs_the_steps_since_the_last_checkpoint(tmp_path):
    class Crashing(Contrastive):
        def draw(self, data, rows, when, rng):
            if when.step == 13:
                raise ValueError("no batch")
            return super().draw(data, rows, when, rng)

    whole, _ = trained(tmp_path / "whole")
    with pytest.raises(ValueError, match="no batch"):
        trained(tmp_path / "parts", first(Crashing), checkpoint_minutes=1e-9)
    parts, outcome = trained(tmp_path / "parts", learner(seed=17))
    assert same(weights(whole), weights(parts)) and outcome.record["resumed"] == 13


def test_weights_do_not_depend_on_torchs_own_generators_nor_change_them(tmp_path):
    torch.manual_seed(1)
    first, _ = trained(tmp_path / "first")
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second, _ = trained(tmp_path / "second")
    assert same(weights(first), weights(second))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_seed_changes_the_weights(tmp_path):
    found = []
    for seed in (0, 1):
        module = learner()
        fit(module, data(43), None, settings(select="last"), job(tmp_path / str(seed), seed=seed))
        found.append(weights(module))
    assert not same(*found)


def test_a_finished_training_returns_at_once(tmp_path):
    first, outcome = trained(tmp_path)
    module = Signalled()
    module.at = tuple(range(1000))  # would be interrupted at any step
    again, repeated = trained(tmp_path, module)
    assert same(weights(first), weights(again)) and not again.training
    pd.testing.assert_frame_equal(outcome.history, repeated.history)
    assert outcome.record == repeated.record


@pytest.mark.parametrize(
    ("changes", "changed"),
    [({"learning_rate": 1e-3}, {}), ({}, {"identity": "other data"}), ({}, {"seed": 4})],
    ids=["settings", "identity", "seed"],
)
def test_a_checkpoint_of_another_training_is_void(tmp_path, changes, changed, caplog):
    trained(tmp_path / "used")
    fresh, stale = learner(), learner()
    fit(fresh, data(43), data(9, seed=1), settings(**changes), job(tmp_path / "fresh", **changed))
    fit(stale, data(43), data(9, seed=1), settings(**changes), job(tmp_path / "used", **changed))
    assert same(weights(fresh), weights(stale))
    assert "the training starts anew" in caplog.text


def test_a_checkpoint_of_another_kind_of_device_is_void(tmp_path, monkeypatch):
    def mark(device: str) -> str:
        return engine.checkpoint.mark(learner(), 43, settings(device=device), "", 3)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert mark("auto") == mark("cuda") == mark("cuda:1") != mark("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mark("auto") == mark("cpu")


def test_what_does_not_change_the_weights_does_not_void_a_checkpoint(tmp_path, caplog):
    trained(tmp_path)
    trained(tmp_path, checkpoint_minutes=1.0)
    assert "anew" not in caplog.text


DAMAGES = {
    "empty": lambda whole: b"",
    "a tenth": lambda whole: whole[: len(whole) // 10],
    "nearly whole": lambda whole: whole[: 9 * len(whole) // 10],
    "text": lambda whole: b"disk quota exceeded",
    "zeros": lambda whole: bytes(len(whole)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_moved_aside_and_the_training_starts_anew(tmp_path, damage, caplog):
    expected, _ = trained(tmp_path)
    path = job(tmp_path).checkpoint
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    found, outcome = trained(tmp_path)
    assert same(weights(found), weights(expected)) and outcome.record["resumed"] == 0
    assert path.with_name("checkpoint.pt.damaged").read_bytes() == damaged
    assert "is damaged" in caplog.text and "starts anew" in caplog.text
    caplog.clear()
    trained(tmp_path)  # what was written instead is whole
    assert "anew" not in caplog.text


# What is kept.


class Scripted(Contrastive):
    """Validates as it is told, and notes its weights at each validation."""

    losses: tuple[float, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.validated: list[dict[str, np.ndarray]] = []

    def validate(self, data: Data, when: When) -> dict[str, float]:
        assert not self.training and not torch.is_grad_enabled()
        self.validated.append(weights(self))
        return {"loss": self.losses[len(self.validated) - 1], "epoch": when.epoch, "of": when.n_epochs}


def scripted(folder: Path, losses: list[float], **changes: object) -> tuple[Scripted, Outcome]:
    module = first(Scripted)
    module.losses = tuple(losses)
    return trained(folder, module, **changes)


@pytest.mark.parametrize("ema", [None, 0.7])
def test_the_weights_that_validate_best_are_kept(tmp_path, ema):
    module, outcome = scripted(tmp_path, [5, 4, 2, 3, 2, 6], ema=ema)
    assert same(weights(module), module.validated[2])
    assert (outcome.record["chosen_epoch"], outcome.record["epochs"]) == (3, 6)
    assert outcome.history.validation_epoch.tolist() == [0, 1, 2, 3, 4, 5]
    assert set(outcome.history.validation_of) == {6}


@pytest.mark.parametrize("ema", [None, 0.7])
def test_the_last_weights_are_kept_where_asked_for(tmp_path, ema):
    module, outcome = scripted(tmp_path, [1, 2, 3, 4, 5, 6], select="last", ema=ema)
    assert same(weights(module), module.validated[-1])
    assert outcome.record["chosen_epoch"] == 6


def test_averaging_changes_what_is_validated_but_not_what_is_learned(tmp_path):
    plain, with_plain = scripted(tmp_path / "plain", [6, 5, 4, 3, 2, 1])
    averaged, with_average = scripted(tmp_path / "averaged", [6, 5, 4, 3, 2, 1], ema=0.9)
    assert with_plain.history.loss.tolist() == with_average.history.loss.tolist()
    assert not same(plain.validated[-1], averaged.validated[-1])


@pytest.mark.parametrize(
    ("patience", "losses", "epochs"),
    [(1, [3, 4], 2), (2, [3, 4, 2, 5, 5], 5), (None, [1, 2, 3, 4, 5, 6], 6), (5, [1, 2, 3, 4, 5, 6], 6)],
)
def test_training_stops_when_validation_has_waited_long_enough(tmp_path, patience, losses, epochs):
    _, outcome = scripted(tmp_path, losses, patience=patience)
    assert outcome.record["epochs"] == epochs == len(outcome.history)
    assert outcome.record["stopped_early"] is (epochs < 6)


def test_validation_happens_when_it_is_due_and_at_the_end(tmp_path):
    _, outcome = scripted(tmp_path, [3, 2, 1], validate_every=4)
    assert outcome.history.epoch[outcome.history.validation_loss.notna()].tolist() == [4, 6]


def test_without_validation_the_last_weights_are_kept_and_a_warning_says_so(tmp_path, caplog):
    outcome = fit(learner(), data(43), None, settings(), job(tmp_path))
    assert "the last weights are kept" in caplog.text
    assert outcome.record["chosen_epoch"] == 6 and "validation_loss" not in outcome.history


def test_noise_of_validations_is_the_same_each_time(tmp_path):
    _, outcome = trained(tmp_path)
    assert outcome.history.validation_noise.nunique() == 1


# Learning.


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_it_learns(tmp_path, precision):
    module = learner(dropout=0.0, width=64)
    cfg = settings(epochs=30, learning_rate=1e-2, precision=precision)
    history = fit(module, data(64), data(20, seed=1), cfg, job(tmp_path)).history
    assert history.error.iloc[-1] < 0.5 * history.error.iloc[0]
    assert all(value.dtype == torch.float32 for value in module.parameters())


def test_one_step_is_that_of_plain_torch(tmp_path):
    module, plain = learner(dropout=0.0), learner(dropout=0.0)
    cfg = settings(
        epochs=1, peak_epochs=0.5, batch_size=43, gradient_clip=0.01, select="last", weight_decay=1e4
    )
    fit(module, data(43), None, cfg, job(tmp_path))
    rows = torch.from_numpy(engine.seeds.order(3, 0, 43))
    when = When(0, 1, 1)
    batch = plain.draw(data(43), rows, when, np.random.default_rng([3, 0]))
    plain.loss(plain(batch), batch, when)["loss"].backward()
    plain.unused.weight.grad, plain.unused.bias.grad = torch.zeros(2, 13), torch.zeros(2)
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.01)
    groups = [
        {"params": [p for p in plain.parameters() if p.ndim > 1], "weight_decay": 1e4},
        {"params": [p for p in plain.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=cfg.learning_rate / 25 / 1000, betas=(0.95, 0.999))
    optimiser.step()
    for name, value in plain.named_parameters():
        torch.testing.assert_close(dict(module.named_parameters())[name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("chunk", [None, 3])
def test_what_no_loss_reaches_decays_by_each_step_s_learning_rate(tmp_path, chunk):
    module, _ = trained(tmp_path, select="last", weight_decay=0.1, chunk=chunk)
    rates = [learning_rate(settings(), 30, step) for step in range(30)]
    expected = learner().unused.weight * math.prod(1 - 0.1 * rate for rate in rates)
    torch.testing.assert_close(module.unused.weight, expected, rtol=1e-5, atol=0)


def test_each_row_is_seen_once_an_epoch_but_for_the_last_incomplete_batch(tmp_path):
    seen = []

    class Seeing(Contrastive):
        def draw(self, data, rows, when, rng):
            seen.append((when.epoch, rows.tolist()))
            return super().draw(data, rows, when, rng)

    trained(tmp_path, Seeing())
    del seen[0]  # the look ahead
    assert len(seen) == 6 * STEPS
    orders = {epoch: [row for at, rows in seen if at == epoch for row in rows] for epoch in range(6)}
    assert all(len(order) == len(set(order)) == 40 for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 6


# Failing.


class Failing(Contrastive):
    """A part of the loss is not finite from some step on."""

    def loss(self, found: dict, batch: dict, when: When) -> dict[str, torch.Tensor]:
        parts = super().loss(found, batch, when)
        if when.step >= 12:
            broken = parts["error"] * math.inf
            return {**parts, "error": broken, "loss": parts["loss"] + broken}
        return parts


def test_a_loss_that_is_not_finite_stops_the_training_and_keeps_the_last_good_state(tmp_path):
    match = r"toy: .*\(error is inf\) at step 12 of 30 \(learning rate .*keeps the last good state"
    with pytest.raises(PerceptError, match=match):
        trained(tmp_path, Failing(), checkpoint_minutes=1e-9)
    stored = torch.load(job(tmp_path).checkpoint, weights_only=True)
    assert stored["step"] == 12
    assert all(value.isfinite().all() for value in stored["weights"].values())


def test_a_loss_that_is_not_finite_is_found_where_nothing_was_saved(tmp_path):
    with pytest.raises(PerceptError, match="no checkpoint had been written"):
        trained(tmp_path, Failing())
    assert not job(tmp_path).checkpoint.exists()


class Root(Contrastive):
    """At one step its loss is finite while the gradient is not: a root has no slope at 0."""

    at = 12

    def loss(self, found: dict, batch: dict, when: When) -> dict[str, torch.Tensor]:
        parts = super().loss(found, batch, when)
        if when.step != self.at:
            return parts
        return {**parts, "loss": parts["loss"] + (found["out"].float().sum() * 0).abs().sqrt()}


LOST = r"toy: the weights .* because a gradient was not, at step {} of 30 \(learning rate [0-9.e-]+, .*{}"


@pytest.mark.parametrize(
    "changes", [{}, {"ema": 0.8}, {"chunk": 3}, {"precision": "bfloat16"}, {"gradient_clip": 1.0}], ids=str
)
def test_a_gradient_that_is_not_finite_stops_the_training_and_keeps_the_last_good_state(tmp_path, changes):
    with pytest.raises(PerceptError, match=LOST.format(12, "keeps the last good state")):
        trained(tmp_path, first(Root), checkpoint_minutes=1e-9, **changes)
    stored = torch.load(job(tmp_path).checkpoint, weights_only=True)
    assert stored["step"] == 12
    parts, _ = trained(tmp_path, learner(seed=17), **changes)  # goes on, without the fault
    assert same(weights(parts), weights(trained(tmp_path / "whole", **changes)[0]))


@pytest.mark.parametrize("at", [2 * STEPS - 1, 6 * STEPS - 1])
def test_weights_that_a_gradient_has_lost_are_not_validated(tmp_path, at):
    class Validating(Root):
        def validate(self, data: Data, when: When) -> dict[str, float]:
            assert when.step < at
            return {"loss": 1.0}  # of any weights

    Validating.at = at
    with pytest.raises(PerceptError, match=LOST.format(at, "no checkpoint had been written")):
        trained(tmp_path, Validating())


def test_weights_that_the_last_gradient_has_lost_are_not_kept(tmp_path):
    module = Root()
    module.at = 6 * STEPS - 1
    with pytest.raises(PerceptError, match=LOST.format(29, "no checkpoint had been written")):
        fit(module, data(43), None, settings(select="last"), job(tmp_path))
    assert not job(tmp_path).checkpoint.exists()


def test_a_gradient_that_is_not_finite_in_half_precision_is_skipped(tmp_path):
    """Its scaler leaves weights and moments as they were: only the step is missing."""
    module, outcome = trained(tmp_path, first(Root), precision="float16", checkpoint_minutes=1e-9)
    assert outcome.record["steps"] == 30
    assert all(np.isfinite(value).all() for value in weights(module).values())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_validation_that_is_not_finite_stops_the_training(tmp_path, value):
    with pytest.raises(PerceptError, match=r"the validation loss is (nan|inf)"):
        scripted(tmp_path, [1.0, value])


def test_gradients_that_overflow_in_half_precision_are_skipped(tmp_path):
    class Steep(Contrastive):
        def loss(self, found, batch, when):
            parts = super().loss(found, batch, when)
            return {**parts, "loss": parts["loss"] * 1e3}  # times the first scale, 65536, it overflows

    module, _ = trained(tmp_path, Steep(), precision="float16")
    assert all(np.isfinite(value).all() for value in weights(module).values())


def test_memory_that_does_not_suffice_is_said_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(engine.preflight, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:       1 kB\n")
    with pytest.raises(PerceptError, match=r"needs about .* kB are free.*training.chunk.*network.width"):
        trained(tmp_path)


def test_memory_that_runs_out_on_the_way_names_the_settings(tmp_path):
    class Full(Contrastive):
        def draw(self, data, rows, when, rng):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    with pytest.raises(PerceptError, match=r"while training toy.*training.batch_size"):
        trained(tmp_path, Full())


def test_tensorboard_is_asked_for_before_anything_else(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(PerceptError, match="pip install tensorboard"):
        trained(tmp_path, tensorboard=True)


# What is said.


def test_the_record_is_complete(tmp_path):
    module, outcome = trained(tmp_path)
    assert outcome.record.keys() == {
        "parameters", "steps", "epochs", "chosen_epoch", "stopped_early", "resumed", "batch_size", "device",
        "devices", "precision", "memory_estimate_mb", "peak_memory_mb", "samples_per_s", "seconds",
        "energy_j",
    }  # fmt: skip
    assert outcome.record["parameters"] == sum(value.numel() for value in module.parameters())
    assert outcome.record["samples_per_s"] > 0 and outcome.record["peak_memory_mb"] > 0
    assert not module.training


def test_the_history_has_a_row_per_epoch(tmp_path):
    _, outcome = trained(tmp_path)
    history = outcome.history
    assert history.epoch.tolist() == [1, 2, 3, 4, 5, 6]
    assert history.step.tolist() == [5, 10, 15, 20, 25, 30]
    assert history.seconds.is_monotonic_increasing
    assert history.early.notna().tolist() == [True] * 2 + [False] * 4  # a part of the first phase alone


def test_a_log_says_what_is_trained(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    module, _ = trained(tmp_path)
    n = sum(value.numel() for value in module.parameters())
    assert f"{n:,} parameters" in caplog.text and "optimiser" in caplog.text
    assert "toy: epoch 6, step 30 of 30: loss" in caplog.text
