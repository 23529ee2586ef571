"""Mixing of responses: its distribution, and labels that say what was mixed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from percept.decoders.networks.mixing import Mixing, draw_mixing, mix


@st.composite
def mixings(draw, least=1):
    n = draw(st.integers(least, 9))
    partner = draw(st.permutations(range(n)))
    weight = draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n))
    return Mixing(torch.tensor(partner), torch.tensor(weight))


@settings(deadline=None)
@given(mixings())
def test_added_labels_are_the_matrix_that_mixes(mixing):
    x = torch.eye(len(mixing.partner)).flip(1) * 3 - 1
    torch.testing.assert_close(mixing.labels("added") @ x, mix(x, mixing))


@settings(deadline=None)
@given(mixings())
def test_every_row_of_added_labels_sums_to_one(mixing):
    torch.testing.assert_close(mixing.labels("added").sum(dim=1), torch.ones(len(mixing.partner)))


@settings(deadline=None)
@given(mixings())
def test_the_two_kinds_of_labels_differ_at_fixed_points_alone(mixing):
    n = len(mixing.partner)
    lost = mixing.labels("added") - mixing.labels("assigned")
    fixed = mixing.partner == torch.arange(n)
    torch.testing.assert_close(lost, torch.diag(mixing.weight * fixed))


@pytest.mark.parametrize(("weight", "left"), [(1.0, 0.0), (0.25, 0.75), (0.0, 1.0)])
def test_assigned_labels_take_the_weight_from_a_fixed_point(weight, left):
    mixing = Mixing(torch.tensor([0, 2, 1]), torch.tensor([weight, 1.0, 0.5]))
    expected = torch.tensor([[left, 0, 0], [0, 1, 0], [0, 0.5, 0.5]])
    torch.testing.assert_close(mixing.labels("assigned"), expected)


@pytest.mark.parametrize("fixed_points", ["added", "assigned"])
def test_labels_without_a_fixed_point_are_both_weights(fixed_points):
    mixing = Mixing(torch.tensor([1, 2, 0]), torch.tensor([0.25, 1.0, 0.0]))
    expected = torch.tensor([[0.25, 0.75, 0], [0, 1, 0], [1, 0, 0]])
    torch.testing.assert_close(mixing.labels(fixed_points), expected)


def test_mixed_rows_have_a_partner_that_is_another_and_a_weight_below_one():
    mixing = Mixing(torch.tensor([0, 2, 1, 4, 3]), torch.tensor([0.5, 0.5, 1.0, 0.0, 1.0]))
    assert mixing.mixed.tolist() == [False, True, False, True, False]


@settings(deadline=None)
@given(mixings(), st.integers(1, 3))
def test_rows_that_are_not_mixed_stay_as_they_are(mixing, n_axes):
    x = torch.randn(len(mixing.partner), *range(2, 2 + n_axes))
    torch.testing.assert_close(mix(x, mixing)[~mixing.mixed], x[~mixing.mixed])


@pytest.mark.parametrize(("beta", "share"), [(0.15, 0.5), (2.0, 0.9)])
def test_weights_follow_the_beta_law_in_the_share_of_rows_that_is_mixed(beta, share):
    weight = draw_mixing(20_000, np.random.default_rng(3), beta, share).weight.double().numpy()
    # the law rounds to 1 in float32 now and then, so that it is compared below the mass at 1
    for at in (0.001, 0.1, 0.5, 0.9, 0.999):
        expected = share * stats.beta(beta, beta).cdf(at)
        assert abs((weight <= at).mean() - expected) < 4 * np.sqrt(0.25 / len(weight))


@pytest.mark.parametrize(("share", "mixed"), [(0.0, False), (1.0, True)])
def test_all_rows_or_none_are_mixed_at_the_ends_of_the_share(share, mixed):
    weight = draw_mixing(50, np.random.default_rng(0), 5.0, share).weight
    assert ((weight < 1) == mixed).all()


def test_half_of_the_rows_are_mixed_by_default_and_weights_pile_up_at_the_ends():
    weight = draw_mixing(20_000, np.random.default_rng(1)).weight.double().numpy()
    found, _ = np.histogram(weight[weight < 1], bins=[0, 0.05, 0.95, 1])
    law = np.diff(0.5 * stats.beta(0.15, 0.15).cdf([0, 0.05, 0.95, 1 - 3e-8]))
    np.testing.assert_allclose(found / len(weight), law, atol=0.015)


@pytest.mark.parametrize("n", [1, 2, 31])
def test_partners_are_a_permutation_that_the_generator_alone_decides(n):
    first, again = (draw_mixing(n, np.random.default_rng(7)) for _ in range(2))
    assert sorted(first.partner.tolist()) == list(range(n))
    assert torch.equal(first.partner, again.partner)
    assert torch.equal(first.weight, again.weight)


def test_a_permutation_has_one_fixed_point_on_average():
    rng = np.random.default_rng(5)
    fixed = [(draw_mixing(32, rng).partner == torch.arange(32)).sum().item() for _ in range(2000)]
    assert abs(np.mean(fixed) - 1) < 4 / np.sqrt(2000)
