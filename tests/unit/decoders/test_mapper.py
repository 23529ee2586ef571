"""Mind Reader's mapper as a decoder: its settings, what it refuses, and what it learns."""

import numpy as np
import pytest

from percept import config
from percept.config import ConfigError, DecoderConfig, kinds
from percept.decoders.mapper import MapperConfig
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.files import PerceptError
from percept.targets import store
from tests.unit.decoders.made_up import by_image, features, subject


def test_the_mapper_is_registered():
    assert kinds("percept.decoders", DecoderConfig)["mapper"] is MapperConfig


def test_the_defaults_are_those_of_the_paper():
    found = MapperConfig(target="clip")
    network, training = found.network, found.training
    assert (network.channels, network.blocks, network.hidden) == (64, 4, 128)
    assert (found.losses.mse, found.losses.cosine, found.losses.temperature) == (0.4, 0.6, 0.5)
    assert (training.epochs, training.batch_size, training.learning_rate) == (40, 32, 2e-4)
    assert (training.schedule, training.step_epochs, training.step_factor) == ("steps", 10, 0.8)
    assert training.weight_decay == 1e-5 and found.repeats == "sampled" and found.unit == "single"


def test_a_loss_without_any_weight_is_refused():
    with pytest.raises(ValueError, match=r"nothing to learn: `losses\.mse`, `losses\.cosine` and"):
        MapperConfig(target="clip", losses={"mse": 0, "cosine": 0})


def test_tokens_are_refused_when_the_network_is_built():
    with pytest.raises(PerceptError, match=r"one vector per image, not a target of shape 3x8.*pooled"):
        MapperConfig(target="clip").build(10, (3, 8))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ({"kind": "clip_image", "backbone": "tiny_clip", "output": "tokens"}, "takes a target"),
        ({"kind": "pixels"}, "takes a target"),
        ({"kind": "clip_text", "backbone": "tiny_text", "output": "pooled"}, None),
    ],
)
def test_a_target_that_is_no_embedding_is_refused_before_any_job(target, problem):
    source = {
        "dataset": {"kind": "twin"},
        "targets": {"seen": target},
        "decoders": {"mapper": {"kind": "mapper", "target": "seen"}},
    }
    if problem is None:
        assert config.load(source).decoders["mapper"].target == "seen"
    else:
        with pytest.raises(ConfigError, match=rf"decoders\.mapper\.target.*{problem}"):
            config.load(source)


def test_it_finds_images_it_never_saw_among_sixty(tmp_path):
    path = features(tmp_path, "seen", (8,), 400)
    X, trials = subject(path, n_images=400, n_trials=1200, noise=0.5, n_voxels=60)
    cfg = MapperConfig(
        target="clip",
        network={"channels": 8, "blocks": 1, "hidden": 32},
        losses={"contrast": 0.5, "temperature": 0.1},
        training={"epochs": 8, "learning_rate": 8e-3, "validate_every": 4, "device": "cpu"},
    )
    folds = by_image(trials, validation=40, test=60)
    train_and_predict(cfg, X, trials, folds, store.Features(path), Job(tmp_path / "out", ("average",)))
    found = read_predictions(tmp_path / "out" / "predictions.h5", "test/average")
    true = store.read(path, found.stimulus)
    cosines = found.predicted @ (true / np.linalg.norm(true, axis=1, keepdims=True)).T
    assert (cosines.argmax(axis=1) == np.arange(60)).mean() > 0.2  # chance: 1 of 60
