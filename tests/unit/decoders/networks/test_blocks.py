"""Layers of the high level: their sizes, and that each of them does something."""

import pytest
import torch
from torch import nn

from percept.decoders.networks.blocks import Backbone, Layers, Projector, evaluating, prenorm
from tests.unit.decoders.networks.cases import N_VOXELS


def n_parameters(*networks):
    return sum(one.numel() for network in networks for one in network.parameters())


def tiny(**given):
    return Backbone(N_VOXELS, 11, Layers(**{"width": 16, "blocks": 2} | given))


def voxels(n=5, seed=0):
    return torch.randn(n, N_VOXELS, generator=torch.Generator().manual_seed(seed))


def test_backbone_and_projector_have_the_published_number_of_parameters():
    with torch.device("meta"):
        backbone, projector = Backbone(15_724, 257 * 768, Layers()), Projector(768)
    assert n_parameters(backbone.stem) == 15_724 * 4096 + 3 * 4096
    assert n_parameters(backbone.blocks) == 4 * (4096**2 + 3 * 4096)
    assert n_parameters(backbone.last) == 4097 * 257 * 768
    assert n_parameters(backbone, projector) == 947_579_904


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 23 * 16 + 48 + 2 * (256 + 48) + 17 * 11),
        ({"bias": False}, 23 * 16 + 32 + 2 * (256 + 32) + 16 * 11),
        ({"stem": "linear"}, 24 * 16 + 2 * (256 + 48) + 17 * 11),
        ({"block": "prenorm"}, 23 * 16 + 48 + 2 * (32 + 2 * 272) + 17 * 11),
        ({"blocks": 0}, 23 * 16 + 48 + 17 * 11),
        ({"residual": False}, 23 * 16 + 48 + 2 * (256 + 48) + 17 * 11),
    ],
)
def test_options_have_the_parameters_that_they_name(given, expected):
    assert n_parameters(tiny(**given)) == expected


@pytest.mark.parametrize("residual", [True, False])
def test_a_block_adds_its_input_only_if_residual(residual):
    """Blocks whose gains are zero say nothing: the stem passes through the skips, or nothing does."""
    network = tiny(residual=residual).eval()
    for block in network.blocks:
        nn.init.zeros_(block[1].weight)
    x = voxels()
    through = network.stem(x) if residual else torch.zeros(5, 16)
    torch.testing.assert_close(network(x), network.last(through))


@pytest.mark.parametrize("block", ["mindeye", "prenorm"])
@pytest.mark.parametrize("residual", [True, False])
def test_every_block_is_alive(block, residual):
    """What it adds depends on its input, and its weights have a gradient (not so in MindEye2)."""
    network = tiny(block=block, residual=residual).eval()
    x, other = voxels(seed=1), voxels(seed=2)
    for one in network.blocks:
        hidden, elsewhere = network.stem(x), network.stem(other)
        assert (one(hidden) - one(elsewhere)).std() > 1e-2
    network(x).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("block", ["mindeye", "prenorm"])
def test_taking_a_block_away_changes_the_output(block):
    network = tiny(block=block).eval()
    before = network(voxels())
    network.blocks = network.blocks[:1]
    assert (network(voxels()) - before).std() > 1e-2


def test_the_linear_stem_is_linear_and_the_other_is_not():
    x, y = voxels(seed=1), voxels(seed=2)

    def bend(stem):
        return (stem(x + y) + stem(0 * x) - stem(x) - stem(y)).abs().max()

    assert bend(tiny(stem="linear").stem) < 1e-5
    assert bend(tiny().eval().stem) > 0.1


@pytest.mark.parametrize(("activation", "peer"), [("gelu", nn.functional.gelu), ("silu", nn.functional.silu)])
def test_the_norm_comes_before_the_activation(activation, peer):
    network = tiny(activation=activation, blocks=1).eval()
    stem = network.stem[0](voxels())
    hidden = peer(nn.functional.layer_norm(stem, (16,)))
    block = peer(nn.functional.layer_norm(network.blocks[0][0](hidden), (16,)))
    torch.testing.assert_close(network(voxels()), network.last(hidden + block))


@pytest.mark.parametrize(("place", "p"), [("stem", 0.5), ("block", 0.15)])
def test_dropout_is_where_and_as_strong_as_told(place, p):
    network = tiny(width=400, blocks=1).train()
    torch.manual_seed(0)
    layers = network.stem if place == "stem" else network.blocks[0]
    x = voxels(100) if place == "stem" else torch.randn(100, 400)
    assert abs((layers(x) == 0).float().mean() - p) < 0.01


def test_the_projector_sees_each_token_on_its_own():
    projector, x = Projector(8, 12), torch.randn(5, 3, 8)
    torch.testing.assert_close(projector(x)[:, 1], projector(x[:, 1]))
    torch.testing.assert_close(projector(x)[2:3], projector(x[2:3]))


def test_the_projector_is_three_times_norm_activation_linear():
    projector, x = Projector(8, 12), torch.randn(5, 3, 8)
    linear = [layer for layer in projector if isinstance(layer, nn.Linear)]
    assert [layer.weight.shape for layer in linear] == [(12, 8), (12, 12), (8, 12)]
    found = x
    for layer in linear:
        found = layer(nn.functional.gelu(nn.functional.layer_norm(found, found.shape[-1:])))
    torch.testing.assert_close(projector(x), found)


@pytest.mark.parametrize("mode", [True, False])
def test_evaluation_ends_in_the_mode_that_it_began_in(mode):
    network = tiny().train(mode)
    with evaluating(network):
        assert not network.training
    assert network.training is mode


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_a_prenorm_block_drops_out_between_its_linear_layers(p):
    block = prenorm(Layers(width=400, block_dropout=p)).train()
    torch.manual_seed(0)
    hidden = block[:4](torch.randn(100, 400))
    assert abs((hidden == 0).float().mean() - p) < 0.01
    assert isinstance(block[4], nn.Linear)
    assert len(block) == 5
