"""The prior has MindEye's parameters, learns what a condition implies, and samples it row by row."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from percept.decoders.networks import prior as module
from percept.decoders.networks.prior import LevelToken, Prior
from percept.files import PerceptError

DIM, TOKENS = 6, 3


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(dim=DIM, n_tokens=TOKENS, **choices):
    return Prior(dim, n_tokens, **{"depth": 2, "heads": 2, "head_width": 8, "timesteps": 20, **choices})


def embeddings(n_rows, dim=DIM, n_tokens=TOKENS):
    return torch.randn(n_rows, n_tokens, dim)


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def parts(dim, n_tokens, depth, heads, head_width):
    """Parameters of each part, written out: matrices as inputs x outputs, plus biases where there are any."""
    inner = heads * head_width
    attention = {
        "norm": dim,
        "queries": dim * inner,
        "one key and value": dim * 2 * head_width,
        "null key and value": 2 * head_width,
        "out": inner * dim,
        "norm of the output": dim,
    }
    feed_forward = {"norm": dim, "value and gate": dim * 8 * dim, "out": 4 * dim * dim}
    return {
        "level": (dim * 2 * dim + 2 * dim) + (2 * dim * 2 * dim + 2 * dim) + (2 * dim * dim + dim),
        "positions": n_tokens * dim,
        "null_condition": n_tokens * dim,
        "null_image": n_tokens * dim,
        "transformer.bias": 32 * heads,
        "transformer.rotary": 16,
        "transformer.attention": depth * sum(attention.values()),
        "transformer.feed_forward": depth * sum(feed_forward.values()),
        "transformer.norm": dim,
        "transformer.out": dim * dim,
    }


@pytest.mark.parametrize(
    ("sizes", "total"),
    [
        ({"dim": 768, "n_tokens": 257, "depth": 6, "heads": 12, "head_width": 64}, 56_055_184),  # MindEye
        ({"dim": 1664, "n_tokens": 256, "depth": 6, "heads": 32, "head_width": 52}, 259_865_216),  # MindEye2
        ({"dim": 64, "n_tokens": 1, "depth": 4, "heads": 12, "head_width": 64}, 661_712),
    ],
)
def test_the_number_of_parameters_is_the_published_one_part_by_part(sizes, total):
    with torch.device("meta"):
        prior = Prior(**sizes)
    named = dict(prior.named_parameters())
    for part, expected in parts(**sizes).items():
        found = count(p for name, p in named.items() if name == part or name.startswith(f"{part}."))
        assert found == expected, part
    assert sum(parts(**sizes).values()) == count(named.values()) == total


def test_the_default_is_mindeyes_size():
    with torch.device("meta"):
        prior = Prior(768, 257)
    assert count(prior.parameters()) == 56_055_184
    assert count(p for p in prior.parameters() if not p.requires_grad) == 16
    assert prior.timesteps == 100 and prior.scale == math.sqrt(768)


def test_learned_positions_begin_small_and_null_tokens_at_unit_variance():
    prior = Prior(64, 50, depth=1)
    assert prior.positions.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert prior.null_condition.std().item() == pytest.approx(1, rel=0.05)
    assert prior.null_image.std().item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("dim", [1, 2, 7, 64])
def test_the_level_is_told_by_sines_and_cosines(dim):
    token = LevelToken(dim)
    token.layers = nn.Identity()
    found = token(torch.tensor([0, 3, 99])).squeeze(1)
    half = (dim + 1) // 2
    rates = [10_000 ** (-wave / max(half - 1, 1)) for wave in range(half)]
    for row, level in zip(found, (0, 3, 99), strict=True):
        waves = [math.sin(level * rate) for rate in rates] + [math.cos(level * rate) for rate in rates]
        torch.testing.assert_close(row, torch.tensor(waves[:dim]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("relative_bias", ["causal", "symmetric"])
def test_every_predicted_token_depends_on_every_token_and_on_the_level(relative_bias):
    prior = small(relative_bias=relative_bias).eval()
    noisy, condition = embeddings(1).requires_grad_(), embeddings(1).requires_grad_()
    found = prior(noisy, torch.tensor([7]), condition)
    assert found.shape == (1, TOKENS, DIM)
    for token in range(TOKENS):
        for gradient in torch.autograd.grad(found[0, token].sum(), (noisy, condition), retain_graph=True):
            assert (gradient.abs().amax(dim=-1) > 0).all()  # of the first and of the last token alike
    assert not torch.allclose(prior(noisy, torch.tensor([8]), condition), found)


def test_positions_belong_to_the_noisy_tokens_alone():
    prior = small().eval()
    noisy, condition, shift = embeddings(2), embeddings(2), embeddings(1)[0]
    levels = torch.tensor([7])
    expected = prior(noisy, levels, condition)
    prior.positions.data += shift
    torch.testing.assert_close(prior(noisy - shift, levels, condition), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [None, 1.0, 2.5])
def test_a_prior_that_predicts_zero_has_the_squared_scaled_target_as_its_loss(scale):
    prior, target = small(scale=scale), embeddings(5)
    prior.transformer.out.weight.data.zero_()
    expected = (DIM if scale is None else scale**2) * target.square().mean(dim=(1, 2))
    found = prior.loss(embeddings(5), target)
    assert found.shape == (5,)
    torch.testing.assert_close(found, expected)


def test_the_loss_noises_scaled_targets_by_the_published_levels():
    prior = small().eval()
    condition, target, noise = embeddings(4), embeddings(4), embeddings(4)
    levels = torch.tensor([0, 5, 18, 19])
    share = torch.from_numpy(module.signal_shares(20)).float()[levels, None, None]
    noisy = share.sqrt() * math.sqrt(DIM) * target + (1 - share).sqrt() * noise
    error = prior(noisy, levels, condition) - math.sqrt(DIM) * target
    found = prior.loss(condition, target, levels, noise)
    torch.testing.assert_close(found, error.square().mean(dim=(1, 2)), rtol=1e-4, atol=1e-5)


def test_the_loss_draws_every_level_equally_often(monkeypatch):
    prior, drawn = small(timesteps=5), []
    monkeypatch.setattr(Prior, "forward", lambda self, noisy, levels, _: drawn.append(levels) or noisy)
    prior.loss(embeddings(5000), embeddings(5000))
    counts = torch.bincount(drawn[0], minlength=5)
    assert len(counts) == 5 and ((counts - 1000).abs() < 5 * 1000**0.5).all()


def test_the_loss_of_a_row_is_its_own_and_its_gradient_reaches_the_condition():
    prior = small().eval()
    condition, target, noise = embeddings(4).requires_grad_(), embeddings(4), embeddings(4)
    levels = torch.tensor([1, 4, 9, 16])
    found = prior.loss(condition, target, levels, noise)
    alone = prior.loss(condition[2:3], target[2:3], levels[2:3], noise[2:3])
    torch.testing.assert_close(found[2:3], alone, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(found[2], condition)
    assert (gradient.abs().amax(dim=(1, 2)) > 0).tolist() == [False, False, True, False]


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.7])
@pytest.mark.parametrize("dropped", ["condition", "image"])
def test_in_training_a_row_loses_its_condition_or_its_image_as_often_as_asked(dropped, probability):
    rates = {"condition_dropout": 0.0, "image_dropout": 0.0, f"{dropped}_dropout": probability}
    prior, n_rows = small(depth=1, **rates), 2000
    noisy, condition = embeddings(n_rows).requires_grad_(), embeddings(n_rows).requires_grad_()
    found = prior(noisy, torch.tensor([3]), condition).square().sum()
    lost = [(g.abs().amax(dim=(1, 2)) == 0) for g in torch.autograd.grad(found, (condition, noisy))]
    gone, stayed = lost if dropped == "condition" else lost[::-1]
    assert abs(gone.float().mean() - probability) <= 4 * (probability * (1 - probability) / n_rows) ** 0.5
    assert not stayed.any()


def test_condition_and_image_are_lost_independently():
    prior, n_rows = small(depth=1, condition_dropout=0.5, image_dropout=0.5), 2000
    noisy, condition = embeddings(n_rows).requires_grad_(), embeddings(n_rows).requires_grad_()
    found = prior(noisy, torch.tensor([3]), condition).square().sum()
    lost = [(g.abs().amax(dim=(1, 2)) == 0) for g in torch.autograd.grad(found, (condition, noisy))]
    assert abs((lost[0] & lost[1]).float().mean() - 0.25) < 4 * (0.25 * 0.75 / n_rows) ** 0.5


def test_nothing_is_lost_in_evaluation_and_a_lost_condition_is_the_learned_one():
    prior = small(condition_dropout=0.99, image_dropout=0.99).eval()
    noisy, condition, levels = embeddings(9), embeddings(9), torch.tensor([3])
    assert torch.equal(prior(noisy, levels, condition), prior(noisy, levels, condition))
    null = prior.null_condition.expand_as(noisy)
    assert torch.equal(prior(noisy, levels, None), prior(noisy, levels, null))


def test_every_trained_parameter_has_a_gradient_in_every_batch():
    prior = small(condition_dropout=0.0, image_dropout=0.0)  # otherwise a device would wait for others
    prior.loss(embeddings(2), embeddings(2)).sum().backward()
    assert [name for name, p in prior.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_the_loss_in_half_precision_is_near_that_in_single_precision(precision):
    prior = small().eval()
    condition, target, noise = embeddings(8), embeddings(8), embeddings(8)
    levels = torch.arange(0, 16, 2)
    expected = prior.loss(condition, target, levels, noise)
    with torch.autocast("cpu", dtype=precision):
        found = prior.loss(condition.to(precision), target.to(precision), levels, noise)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


def trained(prior, batch_of, steps, learning_rate=1e-2):
    optimiser = torch.optim.AdamW(prior.parameters(), learning_rate, weight_decay=0.0, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = prior.loss(*batch_of()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return prior.eval()


def test_it_learns_a_batch_by_heart_and_samples_it_again():
    condition, target = embeddings(4, 24), embeddings(4, 24) / 24**0.5  # tokens of about unit length
    prior = small(24, condition_dropout=0.0)
    before = prior.loss(condition, target).mean()
    trained(prior, lambda: (condition.repeat(4, 1, 1), target.repeat(4, 1, 1)), 250)
    repeated = condition.repeat(20, 1, 1), target.repeat(20, 1, 1)
    assert prior.loss(*repeated).mean() < 0.03 * before
    found = prior.sample(condition, seeds=range(4))
    assert (found - target).square().mean() < 0.02 * target.square().mean()


WIDTH = 16  # features of the targets that follow a known distribution
DIRECTIONS = torch.linalg.qr(torch.randn(WIDTH, 4, generator=torch.Generator().manual_seed(0)))[0].T


def told(c):
    """The condition, (row, 1, feature), that tells c, (row, 1)."""
    return (2 * c * DIRECTIONS[3] + DIRECTIONS[2])[:, None]


def normal_targets(c, factor):
    """Targets of a known distribution, (row, 1, feature): N((c, -c), factor factor') in two directions.

    What is constant in a third one gives layer norms something to weigh the others against.
    """
    values = torch.cat((c, -c), dim=1) + torch.randn(len(c), 2) @ factor.T
    return (values @ DIRECTIONS[:2] + 3 * DIRECTIONS[2])[:, None]


def trained_on(factor, steps, n_rows, **choices):
    """A pooled prior of `normal_targets` under conditions c between -1 and 1."""

    def batch():
        c = torch.empty(n_rows, 1).uniform_(-1, 1)
        return told(c), normal_targets(c, factor)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        rates = {"condition_dropout": 0.1, "image_dropout": 0.1}
        prior = Prior(WIDTH, 1, depth=1, scale=1.0, **rates, **choices)
        return trained(prior, batch, steps)


def moments(prior, c, **choices):
    """Mean and covariance of samples along the two directions, and the largest variance in any other."""
    n_rows = 1000
    found = prior.sample(told(torch.full((n_rows, 1), c)), range(n_rows), **choices)[:, 0]
    values = (found @ DIRECTIONS[:2].T).numpy()
    rest = found - found @ DIRECTIONS[:2].T @ DIRECTIONS[:2]
    return values.mean(axis=0), np.cov(values.T), rest.var(dim=0).max().item()


@pytest.fixture(scope="module")
def quickly_trained():
    """A prior of targets that vary along one direction, with unit variance."""
    factor = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    return trained_on(factor, steps=800, n_rows=64, heads=2, head_width=8, timesteps=20)


@pytest.mark.parametrize(("sampler", "n_steps"), [("ddpm", None), ("ddim", 15)])
@pytest.mark.parametrize("c", [-1.0, 0.0, 1.0])
def test_a_trained_prior_samples_about_what_a_condition_implies(quickly_trained, c, sampler, n_steps):
    mean, covariance, rest = moments(quickly_trained, c, n_steps=n_steps, sampler=sampler)
    np.testing.assert_allclose(mean, [c, -c], atol=0.25)
    assert 0.25 < covariance[0, 0] < 1.0  # 20 levels narrow even perfect samples, to 0.8
    assert covariance[1, 1] < 0.02 and rest < 0.02  # what never varies


@pytest.mark.slow
def test_a_well_trained_prior_samples_the_covariance_that_a_condition_implies():
    spread = np.array([[1.0, 0.5], [0.5, 1.0]])
    factor = torch.from_numpy(np.linalg.cholesky(spread)).float()
    prior = trained_on(factor, steps=6000, n_rows=128, heads=4, head_width=16, timesteps=50)
    for c in (-1.0, 0.0, 1.0):
        mean, covariance, rest = moments(prior, c)
        np.testing.assert_allclose(mean, [c, -c], atol=0.2)
        share = np.linalg.eigvals(np.linalg.solve(spread, covariance)).real
        assert 0.4 < share.min() and share.max() < 1.3
        assert covariance[0, 1] > 0.2 and rest < 0.02


def test_without_its_condition_a_trained_prior_samples_the_mean_over_conditions(quickly_trained):
    mean, _, _ = moments(quickly_trained, 1.0, guidance=0.0)
    np.testing.assert_allclose(mean, [0, 0], atol=0.3)


@pytest.mark.parametrize("n_tokens", [1, 3])
@pytest.mark.parametrize(("sampler", "n_steps"), [("ddpm", None), ("ddpm", 20), ("ddim", 5)])
def test_a_row_is_the_same_in_any_batch(monkeypatch, n_tokens, sampler, n_steps):
    prior = small(n_tokens=n_tokens)
    condition, seeds = embeddings(7, n_tokens=n_tokens), [3, 1, 4, 1, 5, 9, 2]
    found = prior.sample(condition, seeds, n_steps, sampler)
    assert found.shape == (7, n_tokens, DIM) and found.dtype == torch.float32
    alone = prior.sample(condition[4:5], seeds[4:5], n_steps, sampler)
    torch.testing.assert_close(alone, found[4:5], rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(module, "TOKENS_AT_ONCE_CPU", 3 * (2 * n_tokens + 1))  # three parts
    torch.testing.assert_close(prior.sample(condition, seeds, n_steps, sampler), found, rtol=1e-4, atol=1e-5)


def test_seeds_make_the_samples():
    prior, condition = small(), embeddings(1).expand(3, -1, -1)
    found = prior.sample(condition, [8, 8, 9])
    torch.testing.assert_close(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 1e-2
    assert torch.equal(prior.sample(condition, [8, 8, 9]), found)


def test_sampling_keeps_the_mode_and_the_global_generator_and_drops_nothing():
    prior, condition = small(condition_dropout=0.9, image_dropout=0.9), embeddings(2)
    before = torch.get_rng_state()
    found = prior.train().sample(condition, [0, 1])
    assert prior.training and not found.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(prior.eval().sample(condition, [0, 1]), found)
    assert not prior.training


def test_a_guidance_of_one_is_none_and_others_extrapolate_from_the_null_condition():
    prior = small()
    condition, other = embeddings(2), embeddings(2)
    noisy, levels = embeddings(2), torch.tensor([3])
    plain = prior.sample(condition, [0, 1])
    assert torch.equal(prior.sample(condition, [0, 1], guidance=1.0), plain)
    unguided = prior.sample(condition, [0, 1], guidance=0.0)
    torch.testing.assert_close(unguided, prior.sample(other, [0, 1], guidance=0.0))
    prior.eval()
    known, null = prior(noisy, levels, condition), prior(noisy, levels, None)
    found = module._Guided(prior, condition, 3.0)(noisy, levels)
    torch.testing.assert_close(found, null + 3 * (known - null), rtol=1e-4, atol=1e-5)


def test_samples_are_in_the_space_of_the_targets():
    prior = small(scale=4.0)
    prior.transformer.norm.weight.data.zero_()
    prior.transformer.norm.weight.data[0] = 1  # predictions follow one feature of the normed tokens
    seen = []
    prior.transformer.register_forward_hook(lambda *args: seen.append(args[-1]))
    found = prior.sample(embeddings(2), [0, 1])
    torch.testing.assert_close(found, seen[-1] / 4)  # the last step returns the last prediction


def test_guidance_needs_a_prior_that_was_trained_with_dropout():
    with pytest.raises(PerceptError, match=r"guidance of 2 needs.*condition_dropout"):
        small(condition_dropout=0.0).sample(embeddings(1), [0], guidance=2.0)


def test_ddpm_with_fewer_steps_is_refused_by_name():
    with pytest.raises(PerceptError, match=r"all 20 noise levels.*not 5.*sampler: ddim"):
        small().sample(embeddings(1), [0], n_steps=5)


def test_each_row_needs_a_seed():
    with pytest.raises(ValueError, match="2 rows need as many seeds, not 3"):
        small().sample(embeddings(2), [0, 1, 2])


def test_weights_survive_a_state_dict_without_tables_that_follow_from_the_settings():
    prior, twin = small(), small()
    state = prior.state_dict()
    assert not any("factors" in name or "buckets" in name for name in state)
    twin.load_state_dict(state)
    condition = embeddings(2)
    assert torch.equal(twin.sample(condition, [0, 1]), prior.sample(condition, [0, 1]))
