"""Which responses stand for an image."""

import numpy as np
import pytest
import torch

from percept.decoders.networks import repeats
from tests.unit.decoders.networks.cases import TRIALS, data

POLICIES = ("sampled", "cycled", "averaged", "mixed")
N_TRIALS = torch.tensor([3, 1, 2, 3])


def shares(policy, step=0, seed=0, n_trials=N_TRIALS):
    return repeats.shares(policy, n_trials, 3, step, np.random.default_rng(seed))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("step", range(7))
def test_shares_are_positive_sum_to_one_and_name_no_missing_trial(policy, step):
    found = shares(policy, step, seed=step)
    there = torch.arange(3) < N_TRIALS[:, None]
    assert (found >= 0).all()
    assert (found[~there] == 0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_generator_alone_decides(policy):
    assert torch.equal(shares(policy, seed=4), shares(policy, seed=4))


def test_averaged_weighs_the_trials_that_there_are_alike():
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(shares("averaged"), expected)


@pytest.mark.parametrize(
    ("step", "of_three", "of_two"), [(0, 0, 0), (1, 1, 1), (2, 2, 0), (3, 0, 0), (4, 1, 1)]
)
def test_cycled_takes_the_same_repeat_for_the_whole_batch(step, of_three, of_two):
    assert shares("cycled", step).argmax(dim=1).tolist() == [of_three, 0, of_two, of_three]


def test_sampled_takes_one_trial_of_each_image_on_its_own_all_equally_often():
    chosen = shares("sampled", n_trials=torch.tensor([3, 2] * 3000))
    assert set(chosen.unique().tolist()) == {0.0, 1.0}
    of_three, of_two = chosen[::2].mean(dim=0), chosen[1::2].mean(dim=0)
    torch.testing.assert_close(of_three, torch.full((3,), 1 / 3), atol=0.04, rtol=0)
    torch.testing.assert_close(of_two, torch.tensor([0.5, 0.5, 0]), atol=0.04, rtol=0)
    assert (of_three != 1 / 3).any()  # drawn, not dealt


def kind(found):
    """What was done to a batch of images with three trials each."""
    if ((found == 0) | (found == 1)).all():
        return "sampled"
    return "averaged" if torch.allclose(found, torch.tensor(1 / 3)) else "combined"


def test_mixed_decides_once_per_batch_in_the_shares_told():
    threes = torch.full((5,), 3)
    kinds = [kind(shares("mixed", seed=seed, n_trials=threes)) for seed in range(2000)]
    for name, share in {"combined": 0.5, "averaged": 0.3, "sampled": 0.2}.items():
        assert abs(kinds.count(name) / 2000 - share) < 4 * np.sqrt(share * (1 - share) / 2000)


def test_combined_weights_differ_between_images_and_use_every_trial():
    threes = torch.full((5,), 3)
    found = next(
        one for seed in range(50) if kind(one := shares("mixed", seed=seed, n_trials=threes)) == "combined"
    )
    assert (found > 0).all()
    assert len(found[:, 0].unique()) == 5


def test_responses_are_the_weighted_sums_of_an_image_s_own_trials():
    own = data()
    rows = torch.tensor([2, 0, 1])
    weights = torch.tensor([[0.25, 0.75, 0], [0.1, 0.2, 0.7], [1, 0, 0]])
    voxels = own.tensors["voxels"]
    expected = torch.stack(
        [
            sum(w * voxels[trial] for w, trial in zip(weight, TRIALS[row], strict=True) if trial >= 0)
            for row, weight in zip(rows, weights, strict=True)
        ]
    )
    torch.testing.assert_close(repeats.responses(own, rows, weights), expected)


def test_averages_are_the_means_of_an_image_s_own_trials():
    own = data()
    expected = [own.tensors["voxels"][[t for t in trials if t >= 0]].mean(dim=0) for trials in TRIALS]
    torch.testing.assert_close(repeats.averages(own, torch.arange(7)), torch.stack(expected))


def test_a_sampled_response_is_one_of_the_trials_to_the_bit():
    own = data()
    found = repeats.response(own, torch.arange(7), "sampled", 0, np.random.default_rng(0))
    for response, trials in zip(found, TRIALS, strict=True):
        assert any(torch.equal(response, own.tensors["voxels"][t]) for t in trials if t >= 0)
