"""Layers of the low level, its loss and its learner."""

import dataclasses

import numpy as np
import pytest
import torch

from percept.decoders.networks.losses import dense_soft_clip
from percept.decoders.networks.lowlevel import (
    LowLevelBackbone,
    Upsampler,
    map_size,
    n_grid_positions,
    on_grid,
    teaching_head,
)
from percept.decoders.networks.lowlevel_learner import LowLevel
from percept.decoders.networks.settings import LowLevelLosses, LowLevelNetwork
from percept.files import PerceptError
from tests.unit.decoders.networks.cases import LATENT, N_VOXELS, data, lowlevel, when

TEACHER = (6, 5)  # on the map's own grid of 2 x 3


def tiny(teacher=None, **losses):
    torch.manual_seed(0)
    return LowLevel(N_VOXELS, LATENT, lowlevel(**losses), teacher)


def batch_of(learner, teacher=TEACHER, seed=3, **named):
    own = data(LATENT, teacher=teacher, teacher_view=teacher)
    return learner.draw(own, torch.arange(7), when(), np.random.default_rng(seed))


def n_parameters(network):
    return sum(one.numel() for one in network.parameters())


# Layers.


def test_the_low_level_has_the_published_number_of_parameters():
    settings = lowlevel()
    settings.network = LowLevelNetwork()
    with torch.device("meta"):
        learner = LowLevel(15_724, (4, 64, 64), settings, (256, 512))
        alone = LowLevel(15_724, (4, 64, 64), settings)
    assert n_parameters(learner) == 206_065_604
    assert n_parameters(learner.upsampler) == 6_841_668
    assert n_parameters(learner.head) == 64 * 512 + 2 * 512**2 + 5 * 512
    assert n_parameters(alone) == n_parameters(learner) - n_parameters(learner.head)


@pytest.mark.parametrize(
    ("latent", "up_channels", "size"),
    [((4, 64, 64), (64, 128, 256), (16, 16)), ((4, 8, 8), (8, 8, 8), (2, 2)), ((3, 6, 10), (4, 8), (3, 5))],
)
def test_the_map_is_upsampled_to_the_latent(latent, up_channels, size):
    network = LowLevelNetwork(width=8, blocks=1, map_channels=6, up_channels=up_channels)
    assert map_size(latent, network) == size
    with torch.device("meta"):
        features = LowLevelBackbone(N_VOXELS, size, network)(torch.empty(5, N_VOXELS))
        found = Upsampler(latent[0], up_channels, 6)(features)
    assert features.shape == (5, 6, *size)
    assert found.shape == (5, *latent)


@pytest.mark.parametrize("shape", [(4, 8, 9), (4, 6, 8), (257, 768), (512,)])
def test_a_target_that_is_no_latent_is_refused(shape):
    with pytest.raises(PerceptError, match=r"low level cannot predict.*Set `target` to the latents"):
        map_size(shape, LowLevelNetwork())


def test_no_linear_layer_has_a_bias_and_the_map_is_normalised():
    backbone = tiny().backbone.eval()
    linear = [one for one in backbone.modules() if isinstance(one, torch.nn.Linear)]
    assert len(linear) == 3
    assert all(one.bias is None for one in linear)
    features = backbone(torch.randn(5, N_VOXELS)).flatten(1)
    torch.testing.assert_close(features.mean(dim=1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.std(dim=1, correction=0), torch.ones(5), atol=1e-2, rtol=0)


def test_the_head_sees_each_position_with_shared_weights():
    """A map that is the same everywhere stays the same everywhere."""
    found = teaching_head(8, 6, 5)(torch.randn(2, 8, 1, 1).expand(2, 8, 2, 3))
    assert found.shape == (2, 5, 2, 3)
    torch.testing.assert_close(found, found[:, :, :1, :1].expand_as(found))


def test_positions_go_row_by_row():
    features = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert on_grid(features, 6)[0].tolist() == [[k, k + 6] for k in range(6)]


def test_a_grid_of_another_size_is_interpolated():
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    torch.testing.assert_close(
        on_grid(ramp, 4)[0, :, 0], torch.tensor([0.7143, 2.2857] * 2), atol=1e-3, rtol=0
    )
    assert on_grid(ramp, 64).shape == (1, 64, 1)


@pytest.mark.parametrize(
    ("n_tokens", "size", "n"),
    [(256, (16, 16), 256), (257, (16, 16), 256), (49, (16, 16), 49), (50, (2, 2), 49), (6, (2, 3), 6)],
)
def test_a_class_token_is_no_position(n_tokens, size, n):
    assert n_grid_positions(n_tokens, size) == n


def test_a_class_token_is_left_out_of_the_loss():
    learner = tiny((10, 5))
    tokens = torch.randn(2, 10, 5)
    assert torch.equal(learner._positions(tokens), tokens[:, 1:])


@pytest.mark.parametrize("n_tokens", [1, 8, 12, 77])
def test_tokens_without_a_grid_are_refused(n_tokens):
    size = (3, 5)
    if n_tokens == 1:
        assert n_grid_positions(1, size) == 1
        return
    with pytest.raises(PerceptError, match=f"has {n_tokens} tokens, which form no square grid"):
        n_grid_positions(n_tokens, size)


def test_a_teacher_without_tokens_is_refused():
    with pytest.raises(PerceptError, match=r"tokens \(position, dim\), not of shape 512"):
        tiny((512,))


# The learner.


def test_the_loss_is_the_weighted_error_of_the_latent_and_the_dense_contrast():
    learner = tiny(TEACHER).eval()
    batch = batch_of(learner)
    features = learner.backbone(batch["voxels"])
    l1 = (learner.upsampler(features) - batch["target"].float()).abs().mean()
    student = learner.head(features).flatten(2).mT
    dense = dense_soft_clip(student, batch["teacher"], batch["teacher_view"], 0.075)
    found = learner.loss(learner(batch), batch, when())
    torch.testing.assert_close(found["l1"], l1)
    torch.testing.assert_close(found["auxiliary"], dense)
    torch.testing.assert_close(found["loss"], l1 / 0.18215 + 0.1 * dense)


def test_without_a_view_the_clean_teacher_is_its_own_view():
    learner = tiny(TEACHER).eval()
    batch = batch_of(learner)
    found = learner(batch)
    del batch["teacher_view"]
    same = batch | {"teacher_view": batch["teacher"]}
    assert learner.loss(found, batch, when())["loss"] == learner.loss(found, same, when())["loss"]


@pytest.mark.parametrize(("teacher", "auxiliary"), [(None, 0.1), (TEACHER, 0.0)])
def test_without_a_teacher_that_counts_there_is_no_head(teacher, auxiliary):
    learner = tiny(teacher, auxiliary=auxiliary).eval()
    assert learner.head is None
    batch = batch_of(learner)
    assert batch.keys() == {"voxels", "target"}
    found = learner.loss(learner(batch), batch, when())
    assert found.keys() == {"loss", "l1"}


@pytest.mark.parametrize("sizes", [[3, 3, 1], [1] * 7])
def test_rows_do_not_depend_on_each_other(sizes):
    learner = tiny(TEACHER).eval()
    batch = batch_of(learner)
    whole = learner(batch)
    parts = [
        learner(dict(zip(batch, part, strict=True)))
        for part in zip(*(x.split(sizes) for x in batch.values()), strict=True)
    ]
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_every_weight_has_a_gradient():
    learner = tiny(TEACHER).eval()
    batch = batch_of(learner)
    learner.loss(learner(batch), batch, when())["loss"].backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in learner.backbone.parameters())
    assert all(one.grad is not None for one in learner.parameters())


def test_the_batch_depends_on_the_generator_alone():
    first, again, other = (batch_of(tiny(TEACHER), seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["voxels"], other["voxels"])


def test_targets_belong_to_the_rows_asked_for():
    own, rows = data(LATENT), torch.tensor([4, 1])
    batch = tiny().draw(own, rows, when(), np.random.default_rng(0))
    assert torch.equal(batch["target"], own.tensors["target"][rows])
    assert torch.equal(batch["voxels"][1], own.tensors["voxels"][3])  # the one trial of image 1


def test_validation_is_the_error_and_the_correlation_of_mean_responses():
    learner, own = tiny().eval(), data(LATENT)
    voxels = own.tensors["voxels"].numpy()
    means = np.stack(
        [voxels[[t for t in trials if t >= 0]].mean(0) for trials in own.tensors["trials"].numpy()]
    )
    predicted, true = learner.predict(means), own.tensors["target"].flatten(1).float().numpy()
    assert predicted.shape == (7, 4 * 8 * 12)
    with torch.no_grad():
        found = learner.validate(own, when())
    assert found["loss"] == pytest.approx(np.abs(predicted - true).mean(), rel=1e-5)
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted, true, strict=True)]
    assert found["correlation"] == pytest.approx(np.mean(correlations), abs=1e-5)


@pytest.mark.parametrize("mode", [True, False])
def test_predicting_switches_dropout_off_and_leaves_the_mode(mode):
    learner = tiny().train(mode)
    voxels = np.random.default_rng(0).standard_normal((70, N_VOXELS), dtype=np.float32)
    first = learner.predict(voxels)
    np.testing.assert_array_equal(first, learner.predict(voxels))
    np.testing.assert_allclose(learner.predict(voxels[64:]), first[64:], atol=1e-5)
    assert learner.training is mode


def test_a_tiny_low_level_learns_a_small_batch_by_heart():
    settings = lowlevel("averaged")
    settings.network = settings.network.model_copy(update={"dropout": 0.0, "block_dropout": 0.0, "width": 64})
    torch.manual_seed(0)
    learner = LowLevel(N_VOXELS, (2, 8, 8), settings, (4, 5))
    smooth = torch.nn.functional.interpolate(torch.randn(7, 2, 2, 2), (8, 8), mode="bilinear")
    own = data((2, 8, 8), teacher=(4, 5))
    own = dataclasses.replace(own, tensors=own.tensors | {"target": smooth})
    optimiser = torch.optim.AdamW(learner.parameters(), 1e-2)
    batch = learner.draw(own, torch.arange(7), when(), np.random.default_rng(0))
    first = learner.loss(learner(batch), batch, when())
    for _ in range(60):
        optimiser.zero_grad()
        found = learner.loss(learner(batch), batch, when())
        found["loss"].backward()
        optimiser.step()
    assert found["l1"] < 0.3 * first["l1"]
    entropy = dense_soft_clip(batch["teacher"], batch["teacher"])
    assert found["auxiliary"] - entropy < 0.3 * (first["auxiliary"] - entropy)
    with torch.no_grad():
        assert learner.eval().validate(own, when())["correlation"] > 0.9


def test_the_weights_of_the_losses_are_those_of_the_paper():
    assert LowLevelLosses() == LowLevelLosses(l1=1 / 0.18215, auxiliary=0.1, temperature=0.075)
