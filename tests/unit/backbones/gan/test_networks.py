"""Generator and discriminator: sizes, what their outputs depend on, the bugs of the public code."""

from itertools import pairwise

import pytest
import torch

from percept.backbones.gan import loading
from percept.backbones.gan.discriminator import Discriminator, Judged
from percept.backbones.gan.generator import Generator, Size, Style
from percept.backbones.gan.layers import with_spread
from percept.backbones.tiny import gan

SMALL = Size((12, 8, 6), (5,), latent=7, style=9, mapping=2, rate=1.0)
FULL = (512, 512, 512, 512, 256, 128, 64)  # at 4 .. 256 pixels: StyleGAN2's at half capacity


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    network = Generator(SMALL).eval()
    with torch.no_grad():
        for layer in network.layers:
            layer.strength.fill_(0.3)  # learned; zero at first
    return network


def conditions(n, width=5, seed=1):
    drawn = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


def noise(n, seed=2):
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(seed))


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def styled(n_in, size):
    """Parameters of one layer's style: two layers for each condition, one for all with w."""
    views = sum((n + 1 + size.style + 1) * size.style for n in size.conditions)
    return views + (size.style * (1 + len(size.conditions)) + 1) * n_in


def generator_count(size):
    total = (size.latent + 1 + (size.mapping - 1) * (size.style + 1)) * size.style + 16 * size.channels[0]
    for number, n in enumerate(size.channels):
        before = size.channels[max(0, number - 1)]
        for n_in in (before, n) if number else (n,):
            total += styled(n_in, size) + 9 * n_in * n + n + 1
        total += styled(n, size) + 3 * n + 3
    return total


def discriminator_count(channels, widths):
    large, n = channels[::-1], channels[0]
    total = 4 * large[0]
    for n_in, n_out in pairwise(large):
        total += 9 * n_in**2 + n_in + 9 * n_in * n_out + n_out + n_in * n_out
    total += 9 * (n + 1) * n + n + (16 * n + 1) * n
    return total + (n + 1) * (1 + sum(widths))


@pytest.mark.parametrize("widths", [(512,), (768,), (768, 768)])
@pytest.mark.parametrize("n_sides", [5, 7])
def test_the_full_size_has_the_parameters_of_its_layers(n_sides, widths):
    size = Size(FULL[:n_sides], widths)
    with torch.device("meta"):
        made, judge = Generator(size), Discriminator(size.channels, widths)
        assert n_parameters(made) == generator_count(size)
        assert n_parameters(judge) == discriminator_count(size.channels, widths)
        images = made(torch.zeros(4, 512), torch.zeros(4, sum(widths)))
        judged = judge(images)
    assert size.side == {5: 64, 7: 256}[n_sides]
    assert images.shape == (4, 3, size.side, size.side)
    assert judged.logit.shape == (4,) and judged.seen.shape == (4, sum(widths))


def test_the_tiny_size_is_small():
    networks = gan.build(gan.RECIPE, torch.eye(64)[:9].numpy())
    size = networks.generator.size
    assert size.side == 64 and 1e6 < n_parameters(networks.generator) == generator_count(size) < 2e6
    assert n_parameters(networks.discriminator) == discriminator_count(gan.JUDGING, (64,))


# The generator.


def test_the_same_inputs_give_the_same_image_and_each_input_matters(generator):
    z, c = noise(3), conditions(3)
    image = generator(z, c)
    torch.testing.assert_close(generator(z, c), image, rtol=0, atol=0)  # noise is a buffer when it is used
    assert (generator(noise(3, seed=8), c) - image).abs().max() > 1e-3
    assert (generator(z, conditions(3, seed=8)) - image).abs().max() > 1e-3


def test_in_training_the_noise_is_drawn_anew(generator):
    z, c = noise(3), conditions(3)
    try:
        generator.train()
        assert (generator(z, c) - generator(z, c)).abs().max() > 1e-3
    finally:
        generator.eval()


def test_an_image_does_not_depend_on_its_batch(generator):
    z, c = noise(4), conditions(4)
    alone = torch.cat([generator(z[k : k + 1], c[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(alone, generator(z, c), rtol=1e-4, atol=1e-5)


def test_z_of_zero_is_one_w_without_noise(generator):
    w = generator.mapped(torch.zeros(2, 7))
    assert torch.equal(w[0], w[1]) and torch.isfinite(w).all()


def test_the_condition_enters_every_layer_by_a_view_of_its_own(generator):
    styles = [part for part in generator.modules() if isinstance(part, Style)]
    assert len(styles) == len(generator.layers) + len(generator.colours) == 8
    generator.zero_grad()
    generator(noise(2), conditions(2)).square().sum().backward()
    for style in styles:
        assert all(layer.weight.grad.abs().max() > 0 for view in style.views for layer in view)
    assert len({id(style.views[0][0].weight) for style in styles}) == len(styles)


def test_styles_start_around_one(generator):
    torch.manual_seed(0)
    style = Style(Size((4,), (64,), style=64, rate=0.01), 500)
    found = style(torch.zeros(1, 64), torch.zeros(1, 64))
    torch.testing.assert_close(found, torch.ones_like(found))


def test_two_conditions_are_seen_apart():
    torch.manual_seed(0)
    network = Generator(Size((6, 4), (5, 3), latent=7, style=9, mapping=1)).eval()
    c = torch.cat([conditions(2), conditions(2, width=3)], dim=1)
    image = network(noise(2), c)
    for change in (slice(0, 5), slice(5, 8)):
        other = c.clone()
        other[:, change] = -other[:, change]
        assert (network(noise(2), other) - image).abs().max() > 1e-4


def test_conditions_are_standardised_and_of_unit_length_each():
    network = Generator(Size((4,), (5, 3), latent=2, style=4, mapping=1))
    embeddings = 3 + 2 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    network.mean.copy_(embeddings.mean(dim=0))
    network.spread.copy_(embeddings.std(dim=0))
    c = network.prepared(embeddings)
    torch.testing.assert_close(c[:, :5].norm(dim=1), torch.ones(50))
    torch.testing.assert_close(c[:, 5:].norm(dim=1), torch.ones(50))
    shrunken = network.mean + 0.2 * (embeddings - network.mean)  # as a regression predicts
    torch.testing.assert_close(network.prepared(shrunken), c, rtol=1e-4, atol=1e-5)


def test_a_folder_gives_the_generator_back_but_for_half_precision(tmp_path, generator):
    loading.save(generator, tmp_path)
    again = loading.load(tmp_path)
    assert again.size == SMALL and not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    torch.testing.assert_close(
        again(noise(2), conditions(2)), generator(noise(2), conditions(2)).detach(), rtol=0.02, atol=0.02
    )


# The discriminator.


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Discriminator((12, 8, 6), (5,))


def test_the_inner_product_is_of_each_image_with_its_own_condition():
    """In the public code it was summed over the batch as well, so that every image got the same number."""
    judged = Judged(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    found = judged.score(torch.tensor([[2.0, 5.0], [7.0, 1.0]]))
    assert found.tolist() == [1 + 2, 2 + 3]


def test_a_wrong_condition_of_one_image_changes_the_score_of_that_image_alone(judge):
    judged, c = judge(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))), conditions(4)
    other = c.clone()
    other[2] = -other[2]
    changed = (judged.score(other) - judged.score(c)).abs() > 1e-6
    assert changed.tolist() == [False, False, True, False]


def test_it_sees_the_spread_of_the_batch(judge):
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    same = images[:1].repeat(4, 1, 1, 1)
    assert (judge(same).logit[0] - judge(images).logit[0]).abs() > 1e-4
    assert with_spread(same).shape == (4, 4, 16, 16)
