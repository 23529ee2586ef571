"""VoxelCLIP as a decoder: its settings, the files that a training leaves, and what it learns."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from percept import config
from percept.config import ConfigError, DecoderConfig, SplitConfig, kinds
from percept.datasets import splits
from percept.decoders.networks.voxelclip_settings import (
    VARIANTS,
    FlatNetwork,
    VolumeNetwork,
    VoxelClipTraining,
)
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.decoders.task import Task
from percept.decoders.training import answers
from percept.decoders.training.optimiser import adamw, learning_rate, one_cycle
from percept.decoders.units import units
from percept.decoders.voxelclip import VoxelClipConfig
from percept.files import PerceptError, read_parquet
from percept.targets import store
from tests.unit.decoders.made_up import (
    N_VOXELS,
    by_image,
    contents,
    features,
    stopped_at,
    subject,
)

DIM = 6
NETWORK = {"channels": (4, 8), "strides": (2, 1), "kernels": (3, 3), "padding": (1, 1), "heads": 2}
TRAINING = {"epochs": 4, "batch_size": 16, "device": "cpu"}
TINY = {
    "volume": VoxelClipConfig(target="clip", variant="stride_first", network=NETWORK, training=TRAINING),
    "flat": VoxelClipConfig(
        target="clip",
        variant="flat_transformer",
        network={"patch": 5, "width": 8, "layers": 1, "heads": 2},
        training=TRAINING,
    ),
}
KINDS = pytest.mark.parametrize("kind", TINY)


def places(n_voxels=N_VOXELS):
    """A table of voxels that fill no box."""
    cells = np.argwhere(np.indices((3, 4, 5)).sum(axis=0) % 2 == 0)[:n_voxels]
    return pd.DataFrame(cells + 7, columns=list("ijk"), dtype=np.int16)


def trained(cfg, folder, path, folds=by_image, **job):
    X, trials = subject(path)
    job = Job(folder, ("average", "single"), voxels=places(), **job)
    train_and_predict(cfg, X, trials, folds(trials), store.Features(path), job)
    return folder


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return features(tmp_path_factory.mktemp("features"), "clip", (DIM,), 60)


@pytest.fixture(scope="module")
def fixed(path, tmp_path_factory):
    return {kind: trained(cfg, tmp_path_factory.mktemp(kind), path, seed=3) for kind, cfg in TINY.items()}


def restored(kind, folder):
    network = TINY[kind].build(N_VOXELS, (DIM,), places())
    answers.restore(network, folder / "weights.safetensors")
    return network


# Settings.


def test_voxelclip_is_registered():
    assert kinds("percept.decoders", DecoderConfig)["voxelclip"] is VoxelClipConfig


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_network_of_its_kind_and_survives_being_written(variant):
    found = VoxelClipConfig(target="clip", variant=variant)
    kind = FlatNetwork if variant == "flat_transformer" else VolumeNetwork
    assert type(found.network) is kind and found.located == (kind is VolumeNetwork)
    assert variant in found.note
    assert config.plugin("decoders", config.plain(found)) == found


def test_variants_are_all_documented_and_differ():
    description = VoxelClipConfig.model_fields["variant"].description
    assert all(name in description for name in VARIANTS)
    networks = [VoxelClipConfig(target="clip", variant=name).network for name in VARIANTS]
    assert len({repr(one) for one in networks}) == len(VARIANTS)


def test_a_setting_of_a_variant_may_be_changed_alone():
    found = VoxelClipConfig(target="clip", variant="voxelclip4", network={"padding": (0,) * 4}).network
    assert found.channels == (64, 128, 256, 64) and found.padding == (0,) * 4


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"variant": "voxelclip5"}, "voxelclip6"),
        ({"network": {"channels": (8, 8)}}, "`channels` has 2, `strides` has 6"),
        ({"variant": "stride_first", "network": {"heads": 7}}, "7 heads cannot share 64 channels"),
        ({"variant": "flat_transformer", "network": {"heads": 7}}, "7 heads cannot share a width of 512"),
        ({"variant": "flat_transformer", "network": {"channels": (8,)}}, "channels"),
        ({"variant": "voxelclip6", "network": {"kind": "flat"}}, "kind `volume`.*'flat'"),
        ({"training": {"warmup": 1.0}}, "warmup"),
    ],
)
def test_networks_that_cannot_be_are_refused(given, match):
    with pytest.raises(ValueError, match=match):
        VoxelClipConfig(target="clip", **given)


def test_tokens_of_images_are_refused_as_its_target():
    source = {
        "dataset": {"kind": "twin"},
        "targets": {"tokens": {"kind": "clip_image", "output": "tokens"}},
        "decoders": {"voxelclip": {"kind": "voxelclip", "target": "tokens"}},
    }
    with pytest.raises(ConfigError, match=r"output: pooled.*'tokens' is \{kind: clip_image"):
        config.load(source)


@pytest.mark.parametrize("section", [VolumeNetwork, FlatNetwork, VoxelClipTraining])
def test_every_setting_is_described_and_has_a_default(section):
    for name, field in section.model_fields.items():
        assert name == "kind" or (field.description and not field.is_required())


# The warm-up.


@pytest.mark.parametrize("n_steps", [40, 390 * 32])
def test_the_warm_up_is_a_share_of_the_run_however_long_that_is(n_steps):
    """open_clip's 10,000 steps would be 26 of the 32 epochs on NSD."""
    cfg = VoxelClipConfig(target="clip").training
    rates = [learning_rate(cfg, n_steps, step) for step in range(n_steps)]
    assert np.argmax(rates) == pytest.approx(0.05 * n_steps, abs=1)
    assert max(rates) == pytest.approx(5e-4) and rates[-1] < 1e-6


def test_the_closed_form_of_the_warm_up_is_what_the_optimiser_does():
    cfg = VoxelClipConfig(target="clip", training={"warmup": 0.25}).training
    optimiser = adamw(torch.nn.Linear(3, 2), cfg)
    schedule = one_cycle(optimiser, cfg, 40)
    for step in range(39):
        assert schedule.get_last_lr()[0] == pytest.approx(learning_rate(cfg, 40, step), rel=1e-6)
        optimiser.step()
        schedule.step()


# The files.


@KINDS
@pytest.mark.parametrize(
    ("group", "part", "unit"), [("validation", 1, "average"), ("test/single", 2, "single")]
)
def test_saved_weights_reproduce_the_predictions(path, fixed, kind, group, part, unit):
    X, trials = subject(path)
    responses, frame = units(X, trials, by_image(trials)[0][part], unit)
    found = read_predictions(fixed[kind] / "predictions.h5", group)
    np.testing.assert_array_equal(found.stimulus, frame.stimulus)
    again = TINY[kind].predict(restored(kind, fixed[kind]), responses)
    np.testing.assert_allclose(found.predicted, again, rtol=1e-4, atol=1e-5)


def test_where_the_voxels_are_lies_with_the_weights(fixed):
    saved = load_file(fixed["volume"] / "weights.safetensors")
    cells = places().to_numpy() - 7
    assert saved["encoder.volume.cell"].dtype == np.int64
    np.testing.assert_array_equal(
        saved["encoder.volume.cell"], np.ravel_multi_index(tuple(cells.T), tuple(cells.max(axis=0) + 1))
    )
    np.testing.assert_array_equal(saved["encoder.volume.origin"], [7, 7, 7])
    np.testing.assert_array_equal(saved["encoder.volume.shape"], cells.max(axis=0) + 1)


def test_in_half_precision_the_places_stay_whole(path, fixed, tmp_path):
    trained(TINY["volume"].model_copy(update={"weights": "float16"}), tmp_path, path, seed=3)
    half = load_file(tmp_path / "weights.safetensors")
    full = load_file(fixed["volume"] / "weights.safetensors")
    np.testing.assert_array_equal(half["encoder.volume.cell"], full["encoder.volume.cell"])
    assert half["encoder.head.0.weight"].dtype == np.float16


def test_weights_that_lack_some_are_refused(fixed, tmp_path):
    """The public code loads without being strict whatever it is told, and goes on with random weights."""
    saved = load_file(fixed["volume"] / "weights.safetensors")
    saved.pop("encoder.convolutions.0.weight")
    save_file(saved, tmp_path / "weights.safetensors")
    with pytest.raises(RuntimeError, match=r"Missing key.*encoder\.convolutions\.0\.weight"):
        restored("volume", tmp_path)


@pytest.mark.parametrize("n_draws", [2, 9])
def test_an_interrupted_training_goes_on_to_the_same_files(path, fixed, tmp_path, n_draws):
    learner = type(TINY["volume"].build(N_VOXELS, (DIM,), places()))
    with stopped_at(learner, n_draws), pytest.raises(KeyboardInterrupt):
        trained(TINY["volume"], tmp_path, path, seed=3)
    trained(TINY["volume"], tmp_path, path, seed=3)
    assert contents(tmp_path) == contents(fixed["volume"])


@KINDS
def test_a_batch_in_pieces_has_the_same_gradient_that_of_the_temperature_too(path, tmp_path, kind):
    still = TINY[kind].network.model_copy(update={"dropout": 0.0})
    found = []
    for chunk in (None, 5):
        training = TINY[kind].training.model_copy(update={"chunk": chunk, "epochs": 2})
        cfg = TINY[kind].model_copy(update={"network": still, "voxel_dropout": 0.0, "training": training})
        folder = trained(cfg, tmp_path / str(chunk), path)
        found.append(load_file(folder / "weights.safetensors"))
    for name, whole in found[0].items():
        if "in_proj_bias" not in name:  # that of keys changes nothing: its gradient is rounding alone
            np.testing.assert_allclose(found[1][name], whole, rtol=1e-3, atol=5e-5)
    assert found[0]["log_scale"] != pytest.approx(np.log(1 / 0.07), abs=1e-6)


def test_a_training_belongs_to_the_places_of_its_voxels():
    rest = dict(
        X=np.zeros((2, 3), np.float32),
        stimulus=np.arange(2),
        groups=np.arange(2),
        targets=type("Fixed", (), {"shape": (4,)}),
    )
    nowhere, here, there = (
        Task(voxels=one, **rest).identity for one in (None, places(3), places(3).assign(k=[9, 11, 13]))
    )
    assert len({nowhere, here, there}) == 3


def test_a_data_set_without_places_is_refused_before_training(path, tmp_path):
    X, trials = subject(path)
    with pytest.raises(PerceptError, match="does not say where its voxels are"):
        train_and_predict(
            TINY["volume"], X, trials, by_image(trials), store.Features(path), Job(tmp_path, ("average",))
        )
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_voxels_needs_no_places(path, tmp_path):
    X, trials = subject(path)
    job = Job(tmp_path, ("average",))
    train_and_predict(TINY["flat"], X, trials, by_image(trials), store.Features(path), job)
    assert read_predictions(tmp_path / "predictions.h5", "test/average").predicted.shape == (12, DIM)


# What it learns.


def test_no_trial_of_a_tested_or_validating_image_trains(path, tmp_path, monkeypatch):
    """It trains on single trials. Split by trial, repeats would be on both sides."""
    X, trials = subject(path, n_images=60, n_trials=180)
    frozen = splits.freeze(
        trials.assign(shared=False), SplitConfig(protocol="random", test_fraction=0.2), "a"
    )
    seen = []
    monkeypatch.setattr(VoxelClipConfig, "train", lambda self, task, seed: seen.append(task) or iter(()))
    job = Job(tmp_path, ("average", "single"), voxels=places())
    train_and_predict(TINY["volume"], X, frozen, splits.folds(frozen), store.Features(path), job)
    (task,) = seen
    assert len(task.X) > len(set(task.stimulus))  # single trials
    for name in ("validation", "test/average", "test/single"):
        assert len(task.shown[name]) and not set(task.stimulus) & set(task.shown[name])


@KINDS
def test_it_finds_images_that_it_never_saw(tmp_path, kind):
    """300 images are learned from, 20 are looked for; chance is 1 of 20."""
    path = features(tmp_path, "clip", (DIM,), 340)
    X, trials = subject(path, n_images=340, n_trials=480)
    faster = {"epochs": 16, "batch_size": 32, "learning_rate": 2e-2}
    training = TINY[kind].training.model_copy(update=faster)
    cfg = TINY[kind].model_copy(update={"training": training, "voxel_dropout": 0.0})
    job = Job(tmp_path / "made", ("average",), voxels=places())
    folds = by_image(trials, validation=20, test=20)
    train_and_predict(cfg, X, trials, folds, store.Features(path), job)
    history = read_parquet(job.folder / "history.parquet")
    assert history.validation_loss.min() < np.log(20) - 0.5
    found = read_predictions(job.folder / "predictions.h5", "test/average")
    true = store.read(path, found.stimulus)
    cosines = found.predicted @ (true / np.linalg.norm(true, axis=1, keepdims=True)).T
    assert (cosines.argmax(axis=1) == np.arange(20)).mean() > 0.25
