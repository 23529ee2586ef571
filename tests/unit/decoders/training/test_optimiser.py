"""Groups of weights, the cycle of the learning rate, the average of the weights."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from percept.decoders.training.optimiser import Average, adamw, finite, groups, learning_rate, scheduler
from percept.decoders.training.settings import TrainingConfig


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3), nn.Conv2d(2, 4, 3))


def rates(cfg: TrainingConfig, n_steps: int) -> tuple[list[float], list[float]]:
    """Learning rate and beta1 of each step, as torch's scheduler sets them."""
    optimiser = adamw(network(), cfg)
    schedule = scheduler(optimiser, cfg, n_steps)
    found, betas = [], []
    for _ in range(n_steps):
        found.append(optimiser.param_groups[0]["lr"])
        betas.append(optimiser.param_groups[-1]["betas"][0])
        optimiser.step()
        schedule.step()
    return found, betas


# Groups.


@pytest.mark.parametrize(
    ("decayed", "names"),
    [("matrices", {"0.weight", "2.weight"}), ("all_but_biases", {"0.weight", "1.weight", "2.weight"})],
)
def test_what_decays(decayed, names):
    module = network()
    decaying, others = groups(module, TrainingConfig(decayed=decayed, weight_decay=0.3))
    named = {id(value): name for name, value in module.named_parameters()}
    assert {named[id(value)] for value in decaying["params"]} == names
    assert {named[id(value)] for value in others["params"]} == set(named.values()) - names
    assert (decaying["weight_decay"], others["weight_decay"]) == (0.3, 0.0)


def test_frozen_weights_are_in_no_group():
    module = network()
    module[0].weight.requires_grad_(False)
    held = [value for group in groups(module, TrainingConfig()) for value in group["params"]]
    assert len(held) == 5 and all(value is not module[0].weight for value in held)


def test_without_a_gradient_of_the_loss_matrices_shrink_by_the_decay_alone():
    module = network()
    cfg = TrainingConfig(learning_rate=0.1, weight_decay=0.5, start_divisor=1)
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    for value in module.parameters():
        value.grad = torch.zeros_like(value)
    adamw(module, cfg).step()
    for name, value in module.named_parameters():
        factor = 1 - 0.1 * 0.5 if value.ndim >= 2 else 1
        torch.testing.assert_close(value.detach(), before[name] * factor)


def test_the_update_is_one_kernel():
    assert adamw(network(), TrainingConfig()).defaults["fused"] is True


# The cycle.


def test_the_cycle_is_that_of_mindeye():
    """Reference §1.7: from 1.2e-5 to 3e-4 in 2 of 240 epochs, then to 1.2e-8."""
    cfg, n_steps = TrainingConfig(), 240 * 3
    found, betas = rates(cfg, n_steps)
    assert found[0] == pytest.approx(1.2e-5)
    assert max(found) == pytest.approx(3e-4) and int(np.argmax(found)) == 2 * 3 - 1
    assert found[-1] == pytest.approx(1.2e-8)
    assert (betas[0], betas[5], betas[-1]) == pytest.approx((0.95, 0.85, 0.95))


@given(
    epochs=st.integers(1, 30),
    steps=st.integers(1, 5),
    peak=st.floats(0, 0.99),
    low=st.floats(1, 50),
    end=st.floats(1, 1e4),
)
def test_the_closed_form_is_that_of_torch(epochs, steps, peak, low, end):
    cfg = TrainingConfig(epochs=epochs, peak_epochs=peak * epochs, start_divisor=low, end_divisor=end)
    found, _ = rates(cfg, epochs * steps)
    closed = [learning_rate(cfg, epochs * steps, step) for step in range(epochs * steps)]
    np.testing.assert_allclose(found, closed, rtol=1e-9, atol=1e-18)


def test_half_way_down_the_learning_rate_is_half_way_between_its_ends():
    cfg = TrainingConfig(epochs=11, peak_epochs=1)
    up, last = 10 - 1, 110 - 1  # highest at step 9, lowest at 109
    middle = learning_rate(cfg, 110, (up + last) // 2)
    assert middle == pytest.approx((3e-4 + 3e-4 / 25 / 1000) / 2)


def test_beta1_stays_where_it_is_not_cycled():
    _, betas = rates(TrainingConfig(epochs=4, cycle_momentum=False), 12)
    assert set(betas) == {0.9}


@given(
    epochs=st.integers(1, 30), steps=st.integers(1, 5), every=st.integers(1, 12), factor=st.floats(0.1, 0.9)
)
def test_steps_are_those_of_torch(epochs, steps, every, factor):
    cfg = TrainingConfig(epochs=epochs, schedule="steps", step_epochs=every, step_factor=factor)
    found, betas = rates(cfg, epochs * steps)
    optimiser = adamw(network(), cfg)
    peer, expected = torch.optim.lr_scheduler.StepLR(optimiser, every * steps, factor), []
    for _ in range(epochs * steps):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step(), peer.step()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    closed = [learning_rate(cfg, epochs * steps, step) for step in range(epochs * steps)]
    np.testing.assert_allclose(closed, expected, rtol=1e-9)
    assert set(betas) == {0.9}


# The average.


@pytest.mark.parametrize(("decay", "n"), [(0.9, 4), (0.9, 200), (0.05, 3), (0.999, 50)])
def test_the_average_is_its_closed_form(decay, n):
    module = nn.Linear(3, 2, bias=False)
    average = Average(module, decay)
    expected = module.weight.detach().double()
    for step in range(n):
        value = math.sin(step)
        with torch.no_grad():
            module.weight.fill_(value)
        average.update(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
    torch.testing.assert_close(average.tensors[0].double(), expected, rtol=1e-5, atol=1e-6)


def test_averages_take_the_place_of_the_weights_for_a_while():
    module = nn.Linear(3, 2)
    average = Average(module, 0.5)
    with torch.no_grad():
        module.weight.add_(1.0)
    now = module.weight.detach().clone()
    with average.in_place():
        torch.testing.assert_close(module.weight.detach(), now - 1)
    assert torch.equal(module.weight.detach(), now)


def test_frozen_weights_are_not_averaged():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    assert [tuple(tensor.shape) for tensor in Average(module, 0.5).tensors] == [(2, 3)]


# What is lost.


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(3))
def test_one_number_that_is_not_finite_is_found_wherever_it_is(place, lost):
    tensors = [torch.ones(2, 3), torch.ones(()), torch.full((40,), 3e38), torch.ones(0)]  # squares overflow
    assert finite(tensors)
    tensors[place].view(-1)[-1] = lost
    assert not finite(tensors)
