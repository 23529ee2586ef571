import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from percept.backbones.tiny import data, origin, trainer
from percept.files import PerceptError

RECIPE = trainer.Recipe(steps=12, learning_rate=0.05, batch_size=4, warmup=3, ema=0.9, seed=7)


class Toy(torch.nn.Module):
    """Dropout and batch statistics: all that a resumed training can get wrong."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(
                torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Dropout(0.3), torch.nn.Linear(7, 2)
            )

    def forward(self, x):
        return self.layers(x)


def toy_loss(module, step, generator):
    x = torch.randn(4, 5, generator=generator)
    return {"loss": (module(x) - x[:, :2]).square().mean(), "twice": torch.tensor(2.0 * step)}


def trained(folder, recipe=RECIPE, loss=toy_loss, identity=""):
    module = Toy()
    history = trainer.fit(module, loss, recipe, folder, identity)
    return module, history


def assert_same(one, other):
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name].numpy(), states[1][name].numpy(), err_msg=name)


def interrupted(at, how):
    """The toy's loss, but something happens at a step the first time it is reached."""
    happened = []

    def loss(module, step, generator):
        if step == at and not happened:
            happened.append(step)
            how()
        return toy_loss(module, step, generator)

    return loss


# Resuming.


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("at", [1, 5, 11])
def test_after_a_crash_the_weights_are_those_of_an_uninterrupted_training(tmp_path, monkeypatch, at, ema):
    recipe = replace(RECIPE, ema=ema)
    whole, history = trained(tmp_path / "whole", recipe)
    monkeypatch.setattr(trainer, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(trainer, "REPORTED", 3)

    def crash():
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        trained(tmp_path / "parts", recipe, interrupted(at, crash))
    resumed, again = trained(tmp_path / "parts", recipe)
    assert_same(whole, resumed)
    assert list(again["step"]) == [3, 6, 9, 12]
    np.testing.assert_allclose(again["loss"].mean(), history["loss"].mean(), rtol=1e-6)


def test_sigterm_saves_the_step_and_is_then_obeyed(tmp_path):
    whole, _ = trained(tmp_path / "whole")
    obeyed = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: obeyed.append(number))
    try:
        trained(tmp_path / "parts", loss=interrupted(5, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    finally:
        signal.signal(signal.SIGTERM, before)
    stored = torch.load(tmp_path / "parts" / trainer.CHECKPOINT, weights_only=True)
    assert (obeyed, stored["step"]) == ([signal.SIGTERM], 6)
    assert_same(whole, trained(tmp_path / "parts")[0])


KILLED = """
import time
from pathlib import Path
from percept.backbones.tiny import trainer
from tests.unit.backbones import test_tiny_trainer as toy
trainer.CHECKPOINT_S = 0.0
def slowly(module, step, generator):
    time.sleep(0.05)
    return toy.toy_loss(module, step, generator)
toy.trained(Path({folder!r}), loss=slowly)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_is_continued_to_the_same_weights(tmp_path, number):
    whole, _ = trained(tmp_path / "whole")
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(folder=str(tmp_path / "parts"))])
    stored = tmp_path / "parts" / trainer.CHECKPOINT
    while not stored.is_file():
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == -number
    assert torch.load(stored, weights_only=True)["step"] < RECIPE.steps
    assert_same(whole, trained(tmp_path / "parts")[0])


def test_a_finished_training_is_not_repeated(tmp_path):
    done, history = trained(tmp_path)

    def never(module, step, generator):
        raise AssertionError(step)

    again, same = trained(tmp_path, loss=never)
    assert_same(done, again)
    assert history.equals(same)


def origin_of(images, code="percept.backbones.tiny.data"):
    scenes = data.Scenes(images, (("A dog.",) * 5,) * 2, (("dog",),) * 2, ("park",) * 2)
    return origin.origin(trainer.Job(scenes, scenes, Path("network"), Path("work")), code)


IMAGES = np.zeros((2, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": replace(RECIPE, learning_rate=0.01)},
        {"identity": origin_of(IMAGES, "percept.backbones.tiny.vae")},
        {"identity": origin_of(IMAGES + np.uint8(1))},
    ],
    ids=["recipe", "code", "data"],
)
def test_a_checkpoint_of_another_recipe_or_code_is_not_continued(tmp_path, other, caplog):
    same = {"identity": origin_of(IMAGES)}
    trained(tmp_path / "here", **same)
    trained(tmp_path / "here", **{"identity": origin_of(IMAGES.copy())})
    assert not caplog.text
    anew, _ = trained(tmp_path / "here", **{**same, **other})
    assert "starts anew" in caplog.text
    assert_same(anew, trained(tmp_path / "elsewhere", **{**same, **other})[0])


def test_the_random_state_of_the_caller_is_left_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trained(tmp_path)
    assert torch.equal(torch.rand(2), expected)


# Errors.


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path, monkeypatch, value):
    monkeypatch.setattr(trainer, "CHECKPOINT_S", 0.0)

    def diverging(module, step, generator):
        losses = toy_loss(module, step, generator)
        return losses if step < 4 else {"loss": losses["loss"] * value}

    with pytest.raises(PerceptError, match=r"loss is (nan|inf) at step 4.*Lower the learning rate \(0.05\)"):
        trained(tmp_path, loss=diverging)
    stored = torch.load(tmp_path / trainer.CHECKPOINT, weights_only=True)
    assert stored["step"] == 4
    assert all(torch.isfinite(value).all() for value in stored["module"].values())


# What it computes.


@given(warmup=st.integers(1, 50), more=st.integers(1, 500), peak=st.floats(1e-5, 1))
def test_the_rate_rises_in_a_line_and_falls_in_a_cosine(warmup, more, peak):
    recipe = trainer.Recipe(steps=warmup + more, learning_rate=peak, batch_size=1, warmup=warmup)
    rates = np.array([trainer.learning_rate(recipe, step) for step in range(recipe.steps)])
    np.testing.assert_allclose(rates[:warmup], peak * np.arange(1, warmup + 1) / warmup)
    falling = rates[warmup:]
    np.testing.assert_allclose(falling, peak * np.cos(np.pi * np.arange(more) / more / 2) ** 2, atol=1e-12)


def test_matrices_decay_and_vectors_do_not():
    decaying, free = trainer.groups(Toy(), 0.3)
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert [p.ndim for p in decaying["params"]] == [2, 2]
    assert {p.ndim for p in free["params"]} == {1}


def test_frozen_weights_stay(tmp_path):
    module = Toy()
    module.layers[0].requires_grad_(False)
    before = module.layers[0].weight.clone()
    trainer.fit(module, toy_loss, RECIPE, tmp_path)
    assert torch.equal(module.layers[0].weight, before)


def test_least_squares_are_solved(tmp_path):
    rng = torch.Generator().manual_seed(0)
    x, true = torch.randn(64, 3, generator=rng), torch.tensor([[1.0, -2.0, 0.5]])
    module = torch.nn.Linear(3, 1)
    recipe = trainer.Recipe(steps=300, learning_rate=0.1, batch_size=64, weight_decay=0.0, warmup=10)

    def loss(module, step, generator):
        return {"loss": (module(x) - x @ true.T - 3).square().mean()}

    trainer.fit(module, loss, recipe, tmp_path)
    np.testing.assert_allclose(module.weight.detach(), true, atol=1e-3)
    np.testing.assert_allclose(module.bias.detach(), [3], atol=1e-3)


def test_the_average_follows_its_formula(tmp_path):
    seen = []

    def watched(module, step, generator):
        seen.append(module.layers[3].bias.detach().clone())
        return toy_loss(module, step, generator)

    averaged, _ = trained(tmp_path / "average", loss=watched)
    last, _ = trained(tmp_path / "last", replace(RECIPE, ema=None))
    seen = [*seen[1:], last.layers[3].bias.detach()]  # after each step
    expected = Toy().layers[3].bias.detach()
    for step, value in enumerate(seen, start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    np.testing.assert_allclose(averaged.layers[3].bias.detach(), expected, rtol=1e-5)


def test_the_history_holds_means_over_the_steps_of_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "REPORTED", 5)
    module, history = trained(tmp_path)
    assert list(history["step"]) == [5, 10, 12]
    np.testing.assert_allclose(history["twice"], [2 * 2.0, 2 * 7.0, 2 * 10.5])
    np.testing.assert_allclose(history["learning_rate"].iloc[0], trainer.learning_rate(RECIPE, 4))
    assert not module.training
