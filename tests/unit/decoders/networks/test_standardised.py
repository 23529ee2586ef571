import pytest
import torch

from percept.decoders.mindeye import MindEyeConfig
from percept.decoders.networks.prior import Prior

N, TOKENS, DIM = 600, 3, 5


def far_from_zero(seed=0):
    """Targets whose mean is far larger than what tells them apart."""
    generator = torch.Generator().manual_seed(seed)
    mean = 40 * torch.randn(TOKENS, DIM, generator=generator)
    return mean, mean + 0.5 * torch.randn(N, TOKENS, DIM, generator=generator)


def prior(**settings):
    torch.manual_seed(1)
    return Prior(DIM, TOKENS, depth=1, heads=2, head_width=4, **settings).eval()


@pytest.mark.parametrize("scale", [None, 0.1, 7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_standardised_targets_have_mean_zero_and_unit_variance(scale, dtype):
    mean, targets = far_from_zero()
    network = prior(scale=scale)
    network.standardise(targets.to(dtype))
    inner = (targets - network.offset) * (network.scale * network.unit)
    torch.testing.assert_close(inner.mean(dim=0), torch.zeros(TOKENS, DIM), atol=0.05, rtol=0)
    assert float(inner.std()) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(network.offset, mean, atol=0.1, rtol=0)


def test_a_prior_that_predicts_nothing_has_the_variance_as_its_loss():
    _, targets = far_from_zero()
    network = prior()
    network.standardise(targets)
    network.forward = lambda noisy, levels, condition: torch.zeros_like(noisy)
    assert float(network.loss(targets, targets).mean()) == pytest.approx(1, abs=0.01)


def test_samples_come_back_in_the_space_of_the_targets():
    mean, targets = far_from_zero()
    network = prior()
    network.standardise(targets)
    network.forward = lambda noisy, levels, condition: torch.zeros_like(noisy)  # the mean, without doubt
    drawn = network.sample(targets[:4], seeds=range(4), n_steps=10, sampler="ddim")
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.5, rtol=0)


def test_equal_targets_are_no_division_by_zero():
    network = prior()
    network.standardise(torch.ones(4, TOKENS, DIM))
    assert torch.isfinite(network.loss(torch.ones(4, TOKENS, DIM), torch.ones(4, TOKENS, DIM))).all()


@pytest.mark.parametrize(("scale", "changes"), [("sqrt_dim", False), ("data", True)])
def test_the_setting_decides_whether_a_decoder_adapts_its_prior(scale, changes):
    small = {"depth": 1, "heads": 2, "head_width": 4, "scale": scale}
    network = {"width": 8, "blocks": 0, "projector_width": 8}
    learner = MindEyeConfig(target="clip", network=network, prior=small).build(7, (TOKENS, DIM))
    _, targets = far_from_zero()
    learner.standardise(targets)
    assert (float(learner.prior.unit) != 1) == changes
    assert bool(learner.prior.offset.any()) == changes
    assert {"prior.offset", "prior.unit"} <= learner.state_dict().keys()  # saved with the weights


def test_without_a_prior_there_is_nothing_to_adapt():
    network = {"width": 8, "blocks": 0, "projector_width": 8}
    learner = MindEyeConfig(target="clip", network=network, prior=None).build(7, (TOKENS, DIM))
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.standardise(torch.ones(2, 15))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
