"""Networks that begin with the encoder of another decoder: which may, what is loaded, and what is refused."""

import logging

import numpy as np
import pytest
import torch

from percept import config
from percept.config import ConfigError
from percept.decoders.dino import DinoConfig
from percept.decoders.initial import InitialisedConfig
from percept.decoders.lowlevel import LowLevelConfig
from percept.decoders.mindeye import MindEyeConfig
from percept.decoders.networks.blocks import Backbone, Encoder, Layers
from percept.decoders.networks.initial import fill, parts
from percept.decoders.task import Task
from percept.decoders.training import answers
from percept.decoders.weights import create, encoder
from percept.files import PerceptError
from percept.targets import store
from tests.unit.decoders.made_up import N_VOXELS, features, trained

LAYERS = Layers(width=8, blocks=2)
SHAPES = {"mindeye": (3, 8), "lowlevel": (2, 4, 6)}
NETWORK = {"width": 16, "blocks": 1}
TRAINING = {"epochs": 2, "batch_size": 16, "peak_epochs": 1, "device": "cpu"}
SILU = {"activation": "silu", "bias": False}  # as the low level's layers


def dino(**network):
    network = {"prototypes": 6, "head_width": 8, "bottleneck": 4, **NETWORK, **network}
    return DinoConfig(target="tokens", network=network, training=TRAINING)


PAIRS = {
    "mindeye": (
        dino(),
        MindEyeConfig(target="tokens", network=NETWORK, prior=None, training=TRAINING, init="dino"),
    ),
    "lowlevel": (
        dino(**SILU),
        LowLevelConfig(
            target="tokens",
            network={**NETWORK, "map_channels": 8, "up_channels": (8, 16)},
            training=TRAINING,
            init="dino",
        ),
    ),
}  # fmt: skip


def weights(seed=0, layers=LAYERS, n_voxels=5):
    torch.manual_seed(seed)
    return {name: one.numpy() for name, one in Encoder(n_voxels, layers).state_dict().items()}


# All of the hidden layers, or nothing.


def test_hidden_layers_take_the_weights_and_the_last_layer_keeps_its_own():
    backbone, given = Backbone(5, 3, LAYERS), weights(1)
    last = backbone.last.weight.clone()
    fill(backbone, given, "dino")
    assert parts(backbone, backbone) == ["last"]
    state = backbone.state_dict()
    assert all(np.array_equal(state[name].numpy(), one) for name, one in given.items())
    assert torch.equal(backbone.last.weight, last)


@pytest.mark.parametrize(
    ("layers", "n_voxels", "message"),
    [
        (Layers(width=8, blocks=1), 5, r"blocks.1.0.weight is missing"),
        (Layers(width=8, blocks=3), 5, r"blocks.2.0.weight has no place"),
        (Layers(width=9, blocks=2), 5, r"stem.0.weight is 9 x 5 instead of 8 x 5"),
        (LAYERS, 6, r"stem.0.weight is 8 x 6 instead of 8 x 5"),
        (Layers(width=8, blocks=2, bias=False), 5, r"stem.0.bias is missing"),
        (Layers(width=8, blocks=2, block="prenorm"), 5, r"blocks.0.0.weight is 8 instead of 8 x 8"),
    ],
    ids=["fewer blocks", "more blocks", "width", "voxels", "bias", "kind of block"],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(layers, n_voxels, message):
    network = Encoder(5, LAYERS)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    with pytest.raises(
        PerceptError, match=rf"(?s)encoder of dino does not fit.*{message}.*set the `network`"
    ):
        fill(network, weights(0, layers, n_voxels), "dino")
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())


@pytest.mark.parametrize("prefix", ["", "fold-1/"])
def test_the_encoder_of_a_fold_is_read_under_its_own_names(tmp_path, prefix):
    named = {f"{prefix}encoder.stem.0.weight": ((2, 3), "float32"), f"{prefix}probe.alpha": ((2,), "float32"),
             "fold-7/encoder.stem.0.weight": ((2, 3), "float32")}  # fmt: skip
    with create(tmp_path / "w.safetensors", named, {}) as tensors:
        tensors[f"{prefix}encoder.stem.0.weight"][:] = 5
    found = encoder(tmp_path / "w.safetensors", prefix)
    assert list(found) == ["stem.0.weight"] and np.all(found["stem.0.weight"] == 5)


# From one training to the next.


@pytest.mark.parametrize("kind", PAIRS)
def test_a_network_begins_with_what_the_other_decoder_saved(tmp_path, kind, caplog, monkeypatch):
    first, second = PAIRS[kind]
    path = features(tmp_path, "tokens", SHAPES[kind], 60)
    saved = trained(first, tmp_path / "dino", path, seed=3) / "weights.safetensors"
    begun = []
    begin = InitialisedConfig.begin

    def noted(self, network, hidden, task):
        begin(self, network, hidden, task)
        begun.append({name: one.clone().numpy() for name, one in hidden.state_dict().items()})

    monkeypatch.setattr(InitialisedConfig, "begin", noted)
    with caplog.at_level(logging.INFO):
        trained(second, tmp_path / kind, path, seed=3, initial=saved)
    assert all(np.array_equal(begun[0][name], one) for name, one in encoder(saved).items())
    (said,) = [one for one in caplog.messages if "begins with the encoder of dino" in one]
    left = {
        "mindeye": ("backbone.last", "projector.0"),
        "lowlevel": ("backbone.layers.last", "upsampler.conv_in"),
    }
    assert all(name in said.split("drawn at random")[1] for name in left[kind])
    assert "stem" not in said and "blocks" not in said.replace("up_blocks", "")


def test_without_init_a_network_is_drawn_as_ever(tmp_path):
    """The weights before training are those of the seed alone."""
    plain = PAIRS["mindeye"][1].model_copy(update={"init": None})
    network = answers.initialised(lambda: plain.build(N_VOXELS, SHAPES["mindeye"]), 3)
    before = {name: one.clone() for name, one in network.state_dict().items()}
    plain.begin(network, network.backbone, Task(np.zeros((1, N_VOXELS)), np.zeros(1), np.zeros(1), None))
    assert all(torch.equal(one, before[name]) for name, one in network.state_dict().items())


def test_a_training_that_began_with_other_weights_is_another_training(tmp_path):
    path = features(tmp_path, "tokens", (3, 8), 60)
    targets = store.Features(path)
    tasks = [
        Task(np.zeros((2, 5), np.float32), np.arange(2), np.arange(2), targets, initial=initial)
        for initial in ({}, weights(0), weights(1))
    ]
    assert len({task.identity for task in tasks}) == 3


# What the configuration refuses.


def loaded(**decoders):
    known = {
        "ridge": {"kind": "ridge", "target": "clip"},
        "dino": {"kind": "dino", "target": "clip", "network": dict(NETWORK), "seeds": [0, 1]},
        "net": {
            "kind": "mindeye",
            "target": "clip",
            "network": dict(NETWORK),
            "seeds": [0, 1],
            "init": "dino",
        },
    }
    for name, changes in decoders.items():
        known[name] = known[name] | changes
    return config.load(
        {
            "dataset": {"kind": "twin"},
            "targets": {"clip": {"kind": "clip_image", "backbone": "tiny_clip"}},
            "decoders": known,
        }
    )


def test_a_network_that_fits_may_begin_with_another():
    found = loaded().decoders
    assert found["net"].starts_from == "dino" and found["dino"].starts_from is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"net": {"init": "dinno"}}, r"`decoders.net.init` names 'dinno'.*did you mean 'dino'"),
        ({"net": {"init": "ridge"}}, r"of kind `ridge`, which trains no encoder.*kind `dino` \(dino\)"),
        ({"net": {"mask": "set1"}}, r"input is masked by None, and that of 'net' by 'set1'"),
        ({"net": {"roi": "early"}}, r"reads the voxels of 'nsdgeneral', but 'net' reads those of 'early'"),
        ({"net": {"network": {"width": 8, "blocks": 2}}}, r"width 16 instead of 8, blocks 1 instead of 2"),
        ({"dino": {"network": NETWORK | {"activation": "silu"}}}, r"activation 'silu' instead of 'gelu'"),
        (
            {"dino": {"seeds": [0]}},
            r"not trained with the seeds 1 of 'net'.*Add them to `decoders.dino.seeds`",
        ),
    ],
    ids=[
        "unknown",
        "no encoder",
        "other mask",
        "other voxels",
        "other layers",
        "other activation",
        "other seeds",
    ],
)
def test_a_network_that_does_not_fit_is_refused_when_it_is_planned(changes, message):
    with pytest.raises(ConfigError, match=rf"(?s){message}"):
        loaded(**changes)


@pytest.mark.parametrize("kind", PAIRS)
def test_both_kinds_say_the_same_of_the_same_layers(kind):
    first, second = PAIRS[kind]
    assert first.encoder == second.encoder
    hidden = {name: one for name, one in second.encoder.items() if name in ("width", "blocks")}
    assert hidden == NETWORK
