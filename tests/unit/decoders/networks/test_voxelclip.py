"""VoxelCLIP's encoders and their learner: sizes of the published code, and what was wrong in it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from percept.decoders.networks import losses
from percept.decoders.networks.box import around
from percept.decoders.networks.voxelclip import Volume
from percept.decoders.networks.voxelclip_learner import FIRST_SCALE, MOST_SCALE
from percept.decoders.training.optimiser import groups
from percept.decoders.voxelclip import VoxelClipConfig
from percept.files import PerceptError
from tests.unit.decoders.networks.cases import N_VOXELS, data, when

NSDGENERAL = (42, 46, 61)  # box of the published code, 117,852 cells
WHOLE_BRAIN = (83, 104, 81)
DIM = 8
TINY = {
    "volume": {
        "variant": "stride_first",
        "network": {"channels": (4, 8), "strides": (2, 1), "kernels": (3, 3), "padding": (1, 1), "heads": 2},
    },
    "convolutional": {
        "variant": "convolutional",
        "network": {"channels": (4,), "strides": (2,), "kernels": (3,), "padding": (1,), "hidden": (6,)},
    },
    "flat": {
        "variant": "flat_transformer",
        "network": {"patch": 4, "width": 8, "layers": 1, "heads": 2, "dropout": 0.0},
    },
}
KINDS = pytest.mark.parametrize("kind", TINY)


def corners(shape):
    """A table of two voxels whose box is of this shape."""
    return pd.DataFrame([(0, 0, 0), tuple(side - 1 for side in shape)], columns=list("ijk"))


def meta(variant, dim=768, shape=NSDGENERAL, **network):
    with torch.device("meta"):
        cfg = VoxelClipConfig(target="clip", variant=variant, network=network)
        return cfg.build(2, (dim,), corners(shape))


def table():
    """Places of voxels in an L, so that half of their box is outside the mask."""
    places = [(i, j, k) for i in range(3) for j in range(4) for k in range(4) if i == 0 or j == 0]
    return pd.DataFrame(places[:N_VOXELS], columns=list("ijk"), dtype=np.int16)


def n_parameters(module):
    return sum(one.numel() for one in module.parameters())


def learner(kind="volume", seed=0, **given):
    torch.manual_seed(seed)
    cfg = VoxelClipConfig(target="clip", **{**TINY[kind], **given})
    return cfg.build(N_VOXELS, (DIM,), table())


# Sizes.


def test_the_published_encoder_has_its_sizes():
    encoder = meta("voxelclip6").encoder
    assert n_parameters(encoder.convolutions) == 5_089_984
    assert n_parameters(encoder.attention) == 99_968
    assert n_parameters(encoder.head) == 8_960 * 768 + 768
    assert n_parameters(encoder) == pytest.approx(12.1e6, abs=0.05e6)
    assert n_parameters(meta("voxelclip6", dim=1024).encoder) == pytest.approx(14.4e6, abs=0.05e6)


@pytest.mark.parametrize(
    ("variant", "padding", "shape", "grids", "features"),
    [
        (
            "voxelclip6",
            (1, 1, 1, 0, 1, 0),
            NSDGENERAL,
            [NSDGENERAL, NSDGENERAL, NSDGENERAL, (20, 22, 30), (10, 11, 15), (4, 5, 7)],
            8_960,
        ),
        ("voxelclip4", (1,) * 4, WHOLE_BRAIN, [WHOLE_BRAIN, (42, 52, 41), (14, 18, 14), (5, 6, 5)], 9_600),
        ("voxelclip4", (0,) * 4, WHOLE_BRAIN, [(81, 102, 79), (40, 50, 39), (13, 16, 13), (4, 5, 4)], 5_120),
    ],
)
def test_grids_are_those_of_the_published_code(variant, padding, shape, grids, features):
    network = VoxelClipConfig(target="clip", variant=variant, network={"padding": padding}).network
    assert network.grids(shape) == grids
    assert network.n_features(shape) == features == math.prod(grids[-1]) * 64
    assert meta(variant, shape=shape, padding=padding).encoder.head[0].in_features == features


def test_the_grids_are_what_the_convolutions_give():
    network = learner().encoder
    cfg = VoxelClipConfig(target="clip", **TINY["volume"]).network
    found = network.convolutions(network.volume(torch.zeros(2, N_VOXELS)))
    assert tuple(found.shape[2:]) == cfg.grids(network.volume.grid)[-1]


@pytest.mark.parametrize("variant", ["voxelclip4", "stride_first", "convolutional"])
def test_the_other_variants_on_volumes_differ_as_they_say(variant):
    six, other = meta("voxelclip6").encoder, meta(variant).encoder
    if variant == "stride_first":
        assert n_parameters(other.convolutions) == n_parameters(six.convolutions)
        assert other.convolutions[0].stride == (2, 2, 2)
    if variant == "convolutional":
        assert len(other.attention) == 0 and len(other.head) > 1
    if variant == "voxelclip4":
        assert sum(isinstance(one, torch.nn.Conv3d) for one in other.convolutions) == 4


def test_strides_first_cost_an_eighth():
    def products(variant):
        cfg = VoxelClipConfig(target="clip", variant=variant).network
        ends = (1, *cfg.channels)
        grids = cfg.grids(NSDGENERAL)
        return sum(math.prod(grid) * a * b * 27 for grid, a, b in zip(grids, ends, ends[1:], strict=False))

    assert 2 * products("voxelclip6") == pytest.approx(314e9, rel=0.02)
    assert products("stride_first") < products("voxelclip6") / 6


def test_a_transformer_on_the_list_has_a_token_for_every_patch():
    cfg = VoxelClipConfig(target="clip", variant="flat_transformer")
    with torch.device("meta"):
        encoder = cfg.build(15_724, (768,)).encoder
    assert encoder.n_tokens == 492 and encoder.lacking == 20


def test_a_box_that_leaves_nothing_is_refused():
    with pytest.raises(PerceptError, match=r"a box of 3x4x4 voxels is too small.*convolution 6"):
        VoxelClipConfig(target="clip", variant="voxelclip6").build(N_VOXELS, (DIM,), table())


# What was wrong in the public code.


def test_cells_outside_the_mask_stay_exactly_zero():
    """There, a mean cut to an integer was subtracted from whole volumes: zeros became constants."""
    box = around(table().to_numpy())
    responses = torch.randn(5, N_VOXELS) + 300  # raw betas are in hundreds
    volumes = Volume(box)(responses)
    outside = np.ones(box.n_cells, bool)
    outside[box.cell] = False
    assert outside.sum() > 5
    assert (volumes.flatten(1)[:, outside] == 0).all()
    np.testing.assert_array_equal(box.gather(volumes[:, 0].numpy()), responses.numpy())


def test_what_is_dropped_are_voxels_and_never_a_whole_volume():
    """Channel dropout on an input of one channel empties the volumes of some samples."""
    network = learner(voxel_dropout=0.5)
    seen = []
    network.encoder.volume.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    network.train()({"voxels": torch.ones(200, N_VOXELS)})
    kept = (seen[0] != 0).float().mean(dim=1)
    assert kept.min() > 0 and kept.max() < 1
    assert float(kept.mean()) == pytest.approx(0.5, abs=0.05)
    network.eval()({"voxels": torch.ones(3, N_VOXELS)})
    assert (seen[1] == 1).all()


@KINDS
def test_the_scale_gains_and_biases_do_not_decay(kind):
    network = learner(kind)
    decaying, still = groups(network, VoxelClipConfig(target="clip", **TINY[kind]).training)
    assert decaying["weight_decay"] == 0.2 and still["weight_decay"] == 0
    names = {id(one): name for name, one in network.named_parameters()}
    assert {"log_scale"} <= {names[id(one)] for one in still["params"]}
    assert all(one.ndim >= 2 for one in decaying["params"])
    assert all("bias" in names[id(one)] or one.ndim < 2 for one in still["params"])


# The temperature.


def test_the_temperature_begins_where_clip_does():
    network = learner()
    assert network.log_scale.exp().item() == pytest.approx(1 / 0.07)
    assert math.isclose(FIRST_SCALE, math.log(1 / 0.07)) and math.isclose(MOST_SCALE, math.log(100))


@pytest.mark.parametrize(("given", "kept"), [(9.0, MOST_SCALE), (-1.0, 0.0), (2.0, 2.0)])
def test_the_scale_stays_between_1_and_100_and_can_come_back(given, kept):
    network = learner()
    with torch.no_grad():
        network.log_scale.fill_(given)
    rows = torch.arange(7)
    batch = network.draw(data((DIM,)), rows, when(), np.random.default_rng(0))
    assert network.log_scale.item() == pytest.approx(kept)
    network.loss(network(batch), batch, when())["loss"].backward()
    assert network.log_scale.grad.abs() > 0


@KINDS
def test_the_loss_is_the_symmetric_contrast_at_its_temperature(kind):
    network = learner(kind).eval()
    batch = network.draw(data((DIM,)), torch.arange(7), when(), np.random.default_rng(0))
    found = network(batch)
    logits = losses.unit(found["embedding"]) @ losses.unit(batch["target"]).T * network.log_scale.exp()
    own = torch.arange(7)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2
    parts = network.loss(found, batch, when())
    assert float(parts["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(parts["temperature"]) == pytest.approx(0.07)


@KINDS
def test_every_weight_learns(kind):
    network = learner(kind)
    batch = network.draw(data((DIM,)), torch.arange(7), when(), np.random.default_rng(0))
    network.loss(network(batch), batch, when())["loss"].backward()
    still = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    # A bias that all keys of an attention share shifts all of its logits alike.
    assert [name for name in still if "in_proj_bias" not in name] == []


# What is predicted.


@KINDS
def test_predictions_are_of_unit_length_and_do_not_depend_on_their_batch(kind):
    network, X = learner(kind), np.random.default_rng(2).normal(size=(70, N_VOXELS)).astype(np.float32)
    found = network.predict(X)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(network.predict(X[64:]), found[64:], atol=1e-6)
    assert network.training


def test_where_a_voxel_is_matters_to_a_volume():
    """Flattened positions are ordered: the same response elsewhere is another embedding."""
    network = learner().eval()
    one, other = torch.zeros(2, 1, N_VOXELS)
    one[0, 0], other[0, 20] = 5.0, 5.0
    assert not torch.allclose(network.encoder(one), network.encoder(other), atol=1e-3)


def test_validation_is_retrieval_among_all_validation_images():
    network = learner().eval()
    held = data((DIM,))
    with torch.no_grad():
        embedding = network.encoder(torch.stack([_mean(held, row) for row in range(held.n_rows)]))
        right = type(held)(held.n_rows, {**held.tensors, "target": embedding})
        found = network.validate(right, when())
        wrong = type(held)(held.n_rows, {**held.tensors, "target": embedding.roll(1, 0)})
        shifted = network.validate(wrong, when())
    assert found["image_given_brain"] == found["brain_given_image"] == 1
    assert shifted["image_given_brain"] == shifted["brain_given_image"] == 0
    assert found["loss"] < 0.5 < shifted["loss"]


def _mean(held, row):
    trials = held.tensors["trials"][row]
    return held.tensors["voxels"][trials[trials >= 0]].mean(dim=0)
