"""Losses against closed forms; each bug of the public code has a test that it would fail."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from percept.backbones.gan import losses


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_undecided_scores_cost_a_bit_each():
    zeros = torch.zeros(5)
    np.testing.assert_allclose(losses.fooling(zeros), math.log(2), rtol=1e-6)
    np.testing.assert_allclose(losses.telling(zeros, zeros), 2 * math.log(2), rtol=1e-6)


def test_the_sides_want_the_opposite_of_generated_images():
    scores = torch.tensor([-4.0, 4.0])
    assert losses.fooling(scores[1:]) < losses.fooling(scores[:1])
    right, wrong = losses.telling(scores[1:], scores[:1]), losses.telling(scores[:1], scores[1:])
    np.testing.assert_allclose(right, 2 * F.softplus(torch.tensor(-4.0)), rtol=1e-5)
    assert wrong > right


@pytest.mark.parametrize("n", [1, 6])
def test_the_penalty_of_a_linear_discriminator_is_the_squared_length_of_its_weights(n):
    weights = drawn(3, 4, 5)
    images = drawn(n, 3, 4, 5, seed=1).requires_grad_()
    found = losses.gradient_penalty((images * weights).sum(dim=(1, 2, 3)) + 2, images)
    np.testing.assert_allclose(found.item(), weights.square().sum().item(), rtol=1e-5)


def test_the_penalty_trains_the_discriminator():
    weights = drawn(3, 4, 5).requires_grad_()
    images = drawn(2, 3, 4, 5, seed=1).requires_grad_()
    losses.gradient_penalty((images * weights).sum(dim=(1, 2, 3)), images).backward()
    torch.testing.assert_close(weights.grad, 2 * weights.detach())


def test_path_lengths_of_a_linear_generator_are_those_of_its_transpose():
    matrix = drawn(3 * 4 * 4, 6)
    w, directions = drawn(5, 6, seed=1).requires_grad_(), drawn(5, 3, 4, 4, seed=2)
    images = (w @ matrix.T).reshape(5, 3, 4, 4)
    expected = (directions.flatten(1) @ matrix / 4).norm(dim=1)  # 4 is the root of 16 pixels
    torch.testing.assert_close(losses.path_lengths(images, w, directions), expected)


def test_the_penalty_of_paths_is_their_squared_deviation():
    lengths = torch.tensor([1.0, 2.0, 6.0])
    assert losses.path_penalty(lengths, torch.tensor(2.0)) == pytest.approx((1 + 0 + 16) / 3)


def test_a_running_mean_follows_its_formula_and_no_gradient():
    mean, value = torch.tensor(2.0), torch.tensor(10.0, requires_grad=True)
    found = losses.running(mean, value, 0.9)
    assert not found.requires_grad and found.item() == pytest.approx(0.9 * 2 + 0.1 * 10)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 0.5])
@pytest.mark.parametrize("n", [2, 8])
def test_perfect_pairs_cost_what_the_softmax_of_their_cosines_leaves(n, temperature):
    """log(1 + (n - 1) exp(-1 / t)) for orthogonal pairs. With the exponential applied twice, as in the public
    code, it would be the softmax of exp(1 / t) against exp(0)."""
    pairs = torch.eye(n, 9, dtype=torch.float64)
    found = losses.contrastive(3 * pairs, 5 * pairs, temperature)
    expected = math.log1p((n - 1) * math.exp(-1 / temperature))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    twice = math.log1p((n - 1) * math.exp(1 - math.exp(1 / temperature)))
    assert abs(expected - twice) > 0.5 * expected


def test_pairs_that_tell_nothing_cost_the_logarithm_of_their_number():
    same = torch.ones(7, 3)
    np.testing.assert_allclose(losses.contrastive(same, same, 0.1, reverse=0.5), math.log(7), rtol=1e-6)


@pytest.mark.parametrize("reverse", [0.0, 0.3, 1.0])
def test_both_directions_are_the_loss_and_that_of_exchanged_sides(reverse):
    a, b = drawn(6, 5), drawn(6, 5, seed=1)
    one, other = losses.contrastive(a, b, 0.2), losses.contrastive(b, a, 0.2)
    found = losses.contrastive(a, b, 0.2, reverse)
    np.testing.assert_allclose(found, (1 - reverse) * one + reverse * other, rtol=1e-5)
    assert abs(one - other) > 1e-3


@pytest.mark.parametrize(("turned", "expected"), [(1, 0), (-1, 2), (0, 1)])
def test_inconsistency_is_one_less_the_cosine(turned, expected):
    c = torch.eye(2, 4)
    embedded = {1: 3 * c, -1: -c, 0: torch.eye(4)[2:]}[turned]
    np.testing.assert_allclose(losses.inconsistency(embedded, c), expected, atol=1e-6)
