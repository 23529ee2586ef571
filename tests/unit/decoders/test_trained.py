"""Decoders that are trained by steps: the files they leave, and how they go on after an interruption."""

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from percept.decoders.lowlevel import LowLevelConfig
from percept.decoders.mapper import MapperConfig
from percept.decoders.mindeye import MindEyeConfig
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.decoders.training import answers
from percept.decoders.units import units
from percept.files import read_parquet
from percept.targets import store
from tests.unit.decoders.made_up import (
    N_VOXELS,
    by_image,
    by_run,
    contents,
    features,
    stopped_at,
    subject,
    trained,
)

SHAPES = {"mindeye": (3, 8), "lowlevel": (2, 4, 6), "mapper": (8,)}
TRAINING = {"epochs": 4, "batch_size": 16, "peak_epochs": 1, "device": "cpu"}  # 40 images: 2 steps an epoch
TINY = {
    "mindeye": MindEyeConfig(
        target="tokens",
        network={"width": 32, "blocks": 1, "projector_width": 24, "dropout": 0.1},
        prior={"depth": 1, "heads": 2, "head_width": 4, "timesteps": 6, "sampling_steps": 6, "samples": 2},
        training=TRAINING,
    ),
    "lowlevel": LowLevelConfig(
        target="latents",
        network={"width": 16, "blocks": 1, "map_channels": 8, "up_channels": (8, 16), "teacher_width": 8},
        training=TRAINING,
    ),
    "mapper": MapperConfig(
        target="clip",
        network={"channels": 4, "blocks": 1, "hidden": 6},
        losses={"contrast": 0.5},
        training={**TRAINING, "learning_rate": 5e-3},
    ),
}


def read_samples(path, group="test/average"):
    with h5py.File(path) as file:
        return file[group]["samples"][:] if "samples" in file[group] else None


KINDS = pytest.mark.parametrize("kind", TINY)


def changed(kind, **given):
    """The tiny section with some settings exchanged."""
    return TINY[kind].model_copy(update=given)


def retrained(kind, **given):
    return changed(kind, training=TINY[kind].training.model_copy(update=given))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    return {kind: features(folder, kind, shape, 60) for kind, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def fixed(paths, tmp_path_factory):
    """Folder of an uninterrupted training of each kind, seed 3, on a split by image."""
    return {
        kind: trained(TINY[kind], tmp_path_factory.mktemp(kind), path, seed=3) for kind, path in paths.items()
    }


def restored(kind, folder, prefix=""):
    network = TINY[kind].build(N_VOXELS, SHAPES[kind])
    answers.restore(network, folder / "weights.safetensors", prefix)
    return network.eval()


@KINDS
@pytest.mark.parametrize(
    ("group", "part", "unit"),
    [("validation", 1, "average"), ("test/average", 2, "average"), ("test/single", 2, "single")],
)
def test_saved_weights_reproduce_the_predictions_of_every_group(paths, fixed, kind, group, part, unit):
    X, trials = subject(paths[kind])
    responses, frame = units(X, trials, by_image(trials)[0][part], unit)
    found = read_predictions(fixed[kind] / "predictions.h5", group)
    np.testing.assert_array_equal(found.stimulus, frame.stimulus)
    again = TINY[kind].predict(restored(kind, fixed[kind]), responses)
    np.testing.assert_allclose(found.predicted, again, rtol=1e-4, atol=1e-5)
    assert found.predicted.shape == (len(frame), np.prod(SHAPES[kind]))
    assert found.predicted.std(axis=0).min() > 0


@KINDS
def test_training_images_are_not_predicted(fixed, kind):
    assert read_predictions(fixed[kind] / "predictions.h5", "train", missing_ok=True) is None


@KINDS
def test_the_history_has_a_row_per_epoch_and_the_record_beside_it(fixed, kind):
    history = read_parquet(fixed[kind] / "history.parquet")
    assert history.epoch.tolist() == [1, 2, 3, 4] and history.step.tolist() == [2, 4, 6, 8]
    assert {"loss", "validation_loss", "learning_rate", "seconds", "fold"} <= set(history.columns)
    assert np.isfinite(history.select_dtypes("number")).all().all()
    (record,) = history.attrs["training"]
    saved = load_file(fixed[kind] / "weights.safetensors")
    parameters = dict(restored(kind, fixed[kind]).named_parameters())
    assert record["parameters"] == sum(saved[name].size for name in parameters)
    assert record["chosen_epoch"] == 1 + history.validation_loss.argmin()


@KINDS
def test_nothing_but_the_files_remains(fixed, kind):
    names = {"predictions.h5", "weights.safetensors", "history.parquet"}
    assert {path.name for path in fixed[kind].iterdir()} == names


@KINDS
@pytest.mark.parametrize("n_draws", [2, 5, 9])
def test_an_interrupted_training_goes_on_to_the_same_files(paths, fixed, tmp_path, kind, n_draws):
    learner = type(TINY[kind].build(N_VOXELS, SHAPES[kind]))
    with stopped_at(learner, n_draws), pytest.raises(KeyboardInterrupt):
        trained(TINY[kind], tmp_path, paths[kind], seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    trained(TINY[kind], tmp_path, paths[kind], seed=3)
    assert contents(tmp_path) == contents(fixed[kind])
    (record,) = read_parquet(tmp_path / "history.parquet").attrs["training"]
    assert record["resumed"] == n_draws - 1  # one batch is drawn before the first step, to measure it


@KINDS
def test_what_was_interrupted_under_other_settings_is_not_continued(paths, tmp_path, kind, caplog):
    learner = type(TINY[kind].build(N_VOXELS, SHAPES[kind]))
    with stopped_at(learner, 3), pytest.raises(KeyboardInterrupt):
        trained(changed(kind, repeats="averaged"), tmp_path, paths[kind], seed=3)
    with caplog.at_level(logging.WARNING):
        trained(TINY[kind], tmp_path, paths[kind], seed=3)
    assert read_parquet(tmp_path / "history.parquet").attrs["training"][0]["resumed"] == 0


@KINDS
def test_another_seed_is_another_network(paths, fixed, tmp_path, kind):
    trained(TINY[kind], tmp_path, paths[kind], seed=4)
    other, own = (load_file(folder / "weights.safetensors") for folder in (tmp_path, fixed[kind]))
    differing = [name for name in own if not np.array_equal(own[name], other[name])]
    assert len(differing) > len(own) / 2


@KINDS
def test_runs_left_out_are_predicted_by_networks_of_their_own(paths, tmp_path, kind):
    X, _ = subject(paths[kind])
    folder = trained(retrained(kind, epochs=2), tmp_path, paths[kind], folds=lambda trials: by_run(trials, 2))
    found = read_predictions(folder / "predictions.h5", "test/single")
    assert found.fold.tolist() == [0] * 24 + [1] * 24
    for fold in (0, 1):
        again = TINY[kind].predict(restored(kind, folder, f"fold-{fold}/"), X[24 * fold : 24 * fold + 24])
        np.testing.assert_allclose(found.predicted[found.fold == fold], again, rtol=1e-4, atol=1e-5)
    assert read_parquet(folder / "history.parquet").fold.tolist() == [0, 0, 1, 1]


@KINDS
def test_without_validation_images_the_last_weights_are_kept(paths, tmp_path, kind, caplog):
    with caplog.at_level(logging.WARNING):
        trained(TINY[kind], tmp_path, paths[kind], folds=lambda trials: by_image(trials, validation=0))
    history = read_parquet(tmp_path / "history.parquet")
    assert not [name for name in history.columns if name.startswith("validation")]
    assert history.attrs["training"][0]["chosen_epoch"] == 4
    assert "no validation images" in caplog.text
    assert read_predictions(tmp_path / "predictions.h5", "validation", missing_ok=True) is None


@KINDS
def test_weights_in_half_precision_are_those_of_full_precision_rounded(paths, fixed, tmp_path, kind):
    trained(changed(kind, weights="float16"), tmp_path, paths[kind], seed=3)
    half, full = (load_file(folder / "weights.safetensors") for folder in (tmp_path, fixed[kind]))
    assert half.keys() == full.keys()
    for name, one in half.items():
        assert one.dtype == np.float16
        np.testing.assert_array_equal(one, full[name].astype(np.float16))


@KINDS
@pytest.mark.parametrize("policy", ["sampled", "cycled", "averaged", "mixed"])
def test_every_policy_for_repeats_trains(paths, tmp_path, kind, policy):
    folder = trained(changed(kind, repeats=policy), tmp_path, paths[kind])
    assert np.isfinite(read_parquet(folder / "history.parquet").loss).all()


@KINDS
def test_a_network_trained_in_half_precision_predicts_in_it(paths, fixed, tmp_path, kind):
    folder = trained(retrained(kind, precision="bfloat16"), tmp_path, paths[kind], seed=3)
    ours, full = (
        read_predictions(one / "predictions.h5", "test/average").predicted for one in (folder, fixed[kind])
    )
    assert ours.dtype == np.float32
    assert 0 < np.abs(ours - full).max() < 0.1 * np.abs(full).max()


# Only some have these.


def test_samples_of_the_prior_lie_beside_the_predictions_of_test_images(fixed):
    path = fixed["mindeye"] / "predictions.h5"
    samples = read_samples(path)
    assert samples.shape == (12, 2, 24) and samples.dtype == np.float16
    assert read_samples(path, "test/single") is None
    assert np.abs(samples[:, 0] - samples[:, 1]).max() > 0.1


def test_a_sample_depends_on_its_image_and_number_and_not_on_its_batch(paths, fixed):
    cfg, network = TINY["mindeye"], restored("mindeye", fixed["mindeye"])
    X, trials = subject(paths["mindeye"])
    responses, frame = units(X, trials, by_image(trials)[0].test, "average")
    stimulus, saved = frame.stimulus.to_numpy(), read_samples(fixed["mindeye"] / "predictions.h5")
    some = [7, 2, 2]
    found = cfg.draw(network, 3, responses[some], stimulus[some])
    np.testing.assert_allclose(found.astype(float), saved[some].astype(float), rtol=0.01, atol=0.01)
    more = changed("mindeye", prior=cfg.prior.model_copy(update={"samples": 5}))
    found = more.draw(network, 3, responses[:2], stimulus[:2])
    np.testing.assert_allclose(found[:, :2].astype(float), saved[:2].astype(float), rtol=0.01, atol=0.01)
    other_image = cfg.draw(network, 3, responses[:1], stimulus[1:2])
    assert np.abs(other_image.astype(float) - saved[:1]).max() > 0.1


@pytest.mark.parametrize(
    "given",
    [
        {"prior": None},
        {"losses": {"prior": 0}},
        {"network": {"projector": False}},
        {"losses": {"first": "none", "second": "none"}},
        {"losses": {"first": "none", "second": "none", "mse": 1.0}, "prior": None},
        {"losses": {"first": "infonce", "second": "infonce"}, "prior": None, "network": {"projector": False}},
        {"network": {"stem": "linear", "block": "prenorm"}},
        {"network": {"residual": False, "blocks": 2}},
        {"compat": "mindeye1"},
    ],
)
def test_ablations_train_and_say_what_they_lack(paths, tmp_path, given):
    small = {
        "network": {"width": 16, "blocks": 1, "projector_width": 8},
        "training": {**TRAINING, "epochs": 3},
    }
    prior = {"depth": 1, "heads": 1, "head_width": 8, "timesteps": 4, "sampling_steps": 4}
    merged = {name: {**part, **(given.get(name) or {})} for name, part in {**small, "prior": prior}.items()}
    cfg = MindEyeConfig(
        target="tokens", **(given | merged | {key: None for key in given if given[key] is None})
    )
    folder = trained(cfg, tmp_path, paths["mindeye"])
    found = read_predictions(folder / "predictions.h5", "test/average").predicted
    assert found.std(axis=0).min() > 0
    samples = read_samples(folder / "predictions.h5")
    saved = load_file(folder / "weights.safetensors")
    assert (samples is None) == (cfg.samples == 0) == (not any(name.startswith("prior") for name in saved))
    network = cfg.build(N_VOXELS, SHAPES["mindeye"])
    answers.restore(network, folder / "weights.safetensors")
    X, trials = subject(paths["mindeye"])
    responses, _ = units(X, trials, by_image(trials)[0].test, "average")
    np.testing.assert_allclose(cfg.predict(network.eval(), responses), found, rtol=1e-4, atol=1e-5)
    if not any(name.startswith("projector") for name in saved):
        backbone = network.embed(responses)["backbone"].numpy()
        np.testing.assert_allclose(backbone, found, rtol=1e-4, atol=1e-5)


def test_a_pooled_target_is_one_token(tmp_path):
    path = features(tmp_path, "pooled", (10,), 60)
    folder = trained(retrained("mindeye", epochs=2), tmp_path / "out", path)
    assert read_predictions(folder / "predictions.h5", "test/average").predicted.shape == (12, 10)
    assert read_samples(folder / "predictions.h5").shape == (12, 2, 10)


@pytest.mark.parametrize("with_view", [False, True])
def test_a_teacher_shapes_the_training_and_is_no_part_of_the_weights(paths, fixed, tmp_path, with_view):
    extra = {"dense": features(tmp_path, "dense", (5, 7), 60, seed=1)}  # a class token, then 2 x 2 positions
    given = {"teacher": "dense"}
    if with_view:
        extra["view"] = features(tmp_path, "view", (5, 7), 60, seed=2)
        given["teacher_view"] = "view"
    folder = trained(changed("lowlevel", **given), tmp_path / "out", paths["lowlevel"], extra=extra, seed=3)
    ours, without = (load_file(one / "weights.safetensors") for one in (folder, fixed["lowlevel"]))
    assert {name: one.shape for name, one in ours.items()} == {
        name: one.shape for name, one in without.items()
    }
    assert any(not np.array_equal(ours[name], without[name]) for name in ours)
    assert "auxiliary" in read_parquet(folder / "history.parquet")
    assert "auxiliary" not in read_parquet(fixed["lowlevel"] / "history.parquet")
    restored("lowlevel", folder)


def test_the_view_of_a_teacher_is_what_its_labels_come_from(paths, tmp_path):
    dense = features(tmp_path, "dense", (4, 7), 60, seed=1)
    view = features(tmp_path, "view", (4, 7), 60, seed=2)
    losses = []
    for name, extra in {
        "same": {"dense": dense, "view": dense},
        "other": {"dense": dense, "view": view},
    }.items():
        cfg = changed("lowlevel", teacher="dense", teacher_view="view")
        folder = trained(cfg, tmp_path / name, paths["lowlevel"], extra=extra)
        losses.append(read_parquet(folder / "history.parquet").auxiliary.iloc[0])
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("cfg", "shape", "n"),
    [
        (MindEyeConfig(target="tokens"), (257, 768), 947_579_904 + 56_055_184),
        (MindEyeConfig(target="tokens", prior=None), (257, 768), 947_579_904),
        (LowLevelConfig(target="latents"), (4, 64, 64), 206_065_604 - 559_616),
    ],
)
def test_what_is_saved_at_full_size_has_the_numbers_of_the_paper(cfg, shape, n):
    """Of the low level without the head that met the teacher: 64 x 512 + 512 x 512 + 512 x 513 + 4 x 512."""
    saved = cfg.tensors(15_724, shape)
    with torch.device("meta"):
        parameters = dict(cfg.build(15_724, shape).named_parameters())
    assert sum(np.prod(saved[name][0]) for name in parameters) == n


def test_weights_of_another_network_are_not_loaded(fixed):
    network = TINY["lowlevel"].build(N_VOXELS, SHAPES["lowlevel"])
    with pytest.raises(RuntimeError, match="Missing key"):
        answers.restore(network, Path(fixed["mindeye"]) / "weights.safetensors")


def test_the_fixture_has_images_with_several_responses_and_features_of_its_own_shape(paths):
    _, trials = subject(paths["mindeye"])
    assert trials.stimulus.value_counts().max() >= 3
    assert store.Features(paths["lowlevel"]).shape == SHAPES["lowlevel"]


# What they learn: responses are a saturating, noisy, linear view of 400 images; chance is 1 of 60.


def learnt(cfg, tmp_path, shape):
    """Predicted and true targets (image, dim) of 60 test images."""
    path = features(tmp_path, "seen", shape, 400)
    X, trials = subject(path, n_images=400, n_trials=1200, noise=1.0, n_voxels=60)
    folds = by_image(trials, validation=40, test=60)
    train_and_predict(
        cfg, np.tanh(X), trials, folds, store.Features(path), Job(tmp_path / "out", ("average",))
    )
    found = read_predictions(tmp_path / "out" / "predictions.h5", "test/average")
    return found.predicted, store.read(path, found.stimulus).reshape(60, -1)


def test_mindeye_finds_images_it_never_saw_among_sixty_in_both_directions(tmp_path):
    training = {**TRAINING, "epochs": 20, "batch_size": 32, "learning_rate": 5e-3, "validate_every": 10}
    network = {"width": 256, "blocks": 1, "projector_width": 64, "dropout": 0.2}
    cfg = MindEyeConfig(target="tokens", network=network, prior=None, training=training)
    predicted, true = (
        one / np.linalg.norm(one, axis=1, keepdims=True) for one in learnt(cfg, tmp_path, (3, 8))
    )
    cosines = predicted @ true.T
    assert (cosines.argmax(axis=1) == np.arange(60)).mean() > 0.4
    assert (cosines.argmax(axis=0) == np.arange(60)).mean() > 0.4


def test_the_low_level_predicts_latents_of_images_it_never_saw(tmp_path):
    training = {**TRAINING, "epochs": 15, "batch_size": 32, "learning_rate": 5e-3, "validate_every": 5}
    network = {"width": 128, "blocks": 1, "map_channels": 8, "up_channels": (8, 16), "dropout": 0.1}
    cfg = LowLevelConfig(target="latents", network=network, training=training)
    predicted, true = learnt(cfg, tmp_path, (2, 4, 6))
    own = np.corrcoef(predicted.ravel(), true.ravel())[0, 1]
    others = np.corrcoef(predicted.ravel(), np.roll(true, 1, axis=0).ravel())[0, 1]
    assert own > 0.2 and abs(others) < 0.1
