"""Mind Reader's mapper: its size, its layers, what it is trained towards, and its losses in closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from percept.decoders.mapper import MapperConfig
from percept.decoders.networks.mapper import STRIDE, MapperLayers, Residual, padding
from percept.decoders.networks.mapper_learner import Mapper
from percept.decoders.networks.mapper_settings import MapperNetwork
from percept.decoders.training.learner import Data, When

SMALL = MapperNetwork(channels=3, blocks=2, hidden=5, multiple=4)
NOW = When(0, 1, 1)


def learner(n_voxels=10, dim=6, **given):
    torch.manual_seed(0)
    return Mapper(n_voxels, dim, MapperConfig(target="clip", network=SMALL, **given))


def data(targets, n_repeats=2, n_voxels=10):
    n = len(targets)
    trials = torch.arange(n * n_repeats).reshape(n, n_repeats)
    voxels = torch.randn(n * n_repeats, n_voxels)
    counts = torch.full((n,), n_repeats)
    return Data(n, {"voxels": voxels, "trials": trials, "n_trials": counts, "target": targets})


# Size and layers.


def n_parameters(n_voxels, dim, network):
    """Parameters of `MapperLayers`, in closed form."""
    c, positions = network.channels, (n_voxels + sum(padding(n_voxels, network.multiple))) // STRIDE
    convolutions = (4 * c + c) + network.blocks * (2 * (3 * c * c + c) + (c * c + c)) + (c * dim + dim)
    return convolutions + (positions + 1) * network.hidden + network.hidden + 1


def test_at_full_size_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        layers = MapperLayers(15_724, 512, MapperNetwork())
    found = sum(one.numel() for one in layers.parameters())
    assert found == n_parameters(15_724, 512, MapperNetwork()) == 1_156_929
    assert layers(torch.empty(2, 15_724, device="meta")).shape == (2, 512)
    assert layers.reader[1].in_features == 7_872  # positions have become features


@pytest.mark.parametrize(("n_voxels", "dim", "network"), [(10, 6, SMALL), (819, 64, MapperNetwork(blocks=0))])
def test_the_closed_form_counts_any_size(n_voxels, dim, network):
    layers = MapperLayers(n_voxels, dim, network)
    assert sum(one.numel() for one in layers.parameters()) == n_parameters(n_voxels, dim, network)


def test_subject_one_is_padded_as_published():
    assert padding(15_724, 32) == (10, 10)


@given(n_voxels=st.integers(1, 40_000), multiple=st.integers(1, 200))
def test_padding_is_as_little_as_makes_an_even_multiple(n_voxels, multiple):
    before, after = padding(n_voxels, multiple)
    total = n_voxels + before + after
    assert total % multiple == 0 and total % 2 == 0 and after - before in (0, 1)
    assert before + after < 2 * multiple


def test_voxels_keep_their_order_and_the_margin_is_zero():
    layers = MapperLayers(10, 6, SMALL)  # one zero on either side
    with torch.no_grad():
        first = layers.encoder[0]
        first.weight.zero_(), first.bias.zero_()
        first.weight[0, 0, 1] = 1  # position p of the signal is input 2p
        signal = first(torch.nn.functional.pad(torch.arange(1.0, 11), layers.padding)[None, None])
    assert signal[0, 0].tolist() == [0, 2, 4, 6, 8, 10]


def test_one_reader_serves_all_dimensions():
    layers, voxels = MapperLayers(10, 6, SMALL), torch.randn(4, 10)
    before, order = layers(voxels), torch.tensor([5, 0, 3, 1, 4, 2])
    last = layers.encoder[-1]
    with torch.no_grad():
        last.weight.copy_(last.weight[order]), last.bias.copy_(last.bias[order])
    torch.testing.assert_close(layers(voxels), before[:, order])


def test_a_block_without_weights_passes_its_input_through_relu():
    block, signal = Residual(3), torch.randn(2, 3, 7)
    for one in block.parameters():
        torch.nn.init.zeros_(one)
    torch.testing.assert_close(block(signal), signal.clamp(min=0))


# What is learned.


def test_embeddings_are_clipped_before_they_are_normalised():
    """Reference facts: raw values from -9.97 to 5.13, clipped to 1.5 either way, then of length 1."""
    targets = torch.tensor([[-9.97, 5.13, 0.3, 0.4, 0.0, -0.2], [0.1, 0.2, 0.1, -0.3, 0.2, 0.2]])
    own = learner(embedding={"clip": 1.5, "clip_unit": "absolute"})
    own.standardise(targets)
    clipped = targets.numpy().clip(-1.5, 1.5)
    lengths = np.linalg.norm(clipped, axis=1, keepdims=True)
    np.testing.assert_allclose(own.prepared(targets).numpy(), clipped / lengths, rtol=1e-6)
    assert float(own.length) == pytest.approx(lengths.mean())


@pytest.mark.parametrize("scale", [0.45, 1.7, 300.0])
def test_the_default_threshold_follows_the_scale_of_the_embeddings(scale):
    targets = torch.randn(500, 6) * scale
    own = learner()
    own.standardise(targets)
    assert own.limit == pytest.approx(3.3 * float(targets.square().mean().sqrt()), rel=1e-5)
    assert 0 < float((targets.abs() > own.limit).double().mean()) < 0.01  # spikes alone


def test_raw_embeddings_can_be_learned_as_they_are():
    own, targets = learner(embedding={"clip": None, "normalise": False}), torch.randn(5, 6) * 20
    own.standardise(targets)
    torch.testing.assert_close(own.prepared(targets), targets)


def test_predictions_have_the_length_of_true_embeddings():
    own = learner(embedding={"clip": None})
    own.standardise(torch.randn(40, 6) * 4)
    found = own.predict(np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), float(own.length), rtol=1e-5)


def test_training_rows_are_single_trials_and_validation_rows_images():
    """Known bug of the field: means of repeats in training, or repeats of an image across the split."""
    own, of = learner(repeats="sampled"), data(torch.randn(9, 6), n_repeats=3)
    batch = own.draw(of, torch.arange(9), NOW, np.random.default_rng(0))
    trials, places = of.tensors["voxels"], of.tensors["trials"]
    for row, voxels in enumerate(batch["voxels"]):
        assert any(torch.equal(voxels, trials[trial]) for trial in places[row])
    seen = []
    own.forward = lambda batch: seen.append(len(batch["voxels"])) or Mapper.forward(own, batch)
    with torch.no_grad():
        own.validate(of, NOW)
    assert sum(seen) == 9


# Losses.


def expected_info_nce(cosines, temperature):
    """One softmax over cosines / temperature, both directions, in numpy."""
    logits = cosines / temperature
    rows = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    columns = logits - np.log(np.exp(logits).sum(axis=0, keepdims=True))
    return -(np.diag(rows) + np.diag(columns)).mean() / 2


@pytest.mark.parametrize("contrast", [0.0, 0.5, 1.0])
def test_the_loss_is_its_closed_form(contrast):
    own, rng = learner(losses={"contrast": contrast}), np.random.default_rng(1)
    predicted, target = rng.normal(size=(2, 7, 6)).astype(np.float32)
    found = {"predicted": torch.from_numpy(predicted)}
    batch = {"voxels": torch.zeros(7, 10), "target": torch.from_numpy(target)}
    own.layers.forward = lambda voxels: found["predicted"]
    value = own.loss(own.forward(batch), batch, NOW)["loss"]
    units = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (predicted, target)]
    cosines = units[0] @ units[1].T
    regression = 0.4 * np.square(predicted - target).mean() + 0.6 * (1 - np.diag(cosines).mean())
    expected = (1 - contrast) * regression + contrast * expected_info_nce(cosines, 0.5)
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_the_softmax_is_taken_of_cosines_and_not_of_their_exponentials():
    """LAFITE's public code exponentiates before the softmax; of orthonormal rows both have closed forms."""
    own = learner(losses={"contrast": 1.0}, dim=8, n_voxels=10)
    rows = torch.eye(8)
    found = {"predicted": rows, "mse": torch.zeros(8), "cosine": torch.zeros(8)}
    value = float(own.loss(found, {"target": rows}, NOW)["loss"])
    assert value == pytest.approx(math.log(1 + 7 * math.exp(-2)), rel=1e-5)
    twice = math.log(1 + 7 * math.exp(1 - math.exp(2)))
    assert abs(value - twice) > 0.3


@pytest.mark.parametrize(("contrast", "name"), [(0.0, "regression"), (0.5, "info_nce")])
def test_weights_are_chosen_by_what_is_minimised(contrast, name):
    own, of = learner(losses={"contrast": contrast}), data(torch.randn(70, 6))  # more than one batch
    with torch.no_grad():
        scores = own.eval().validate(of, NOW)
    scores["regression"] = 0.4 * scores["mse"] + 0.6 * scores["cosine"]
    assert scores["loss"] == pytest.approx(scores[name])
