"""Self-supervision as a decoder: settings, the files it leaves, what it may look at, and how it goes on."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from percept import config
from percept.backbones import distillation
from percept.decoders.dino import DinoConfig, averaged, regions
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.decoders.ridge import RidgeConfig, fit
from percept.decoders.task import Task
from percept.decoders.training import answers
from percept.decoders.units import units
from percept.files import PerceptError, read_parquet
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

SHAPE = (3, 8)
TINY = DinoConfig(
    target="tokens",
    network={"width": 24, "blocks": 1, "dropout": 0.1, "prototypes": 12, "head_width": 16, "bottleneck": 8},
    views={"local": 2, "noise": 0.3, "noise_rank": 3},
    probe={"alphas": (1, 100, 10_000)},
    training={"epochs": 4, "batch_size": 16, "peak_epochs": 1, "device": "cpu", "validate_every": 2},
)
UNTRAINED = TINY.model_copy(update={"training": TINY.training.model_copy(update={"epochs": 0})})
TABLE = pd.DataFrame({"i": range(6), "streams": pd.array(["early", "early", "ventral", None, "early", None])})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return features(tmp_path_factory.mktemp("features"), "tokens", SHAPE, 60)


@pytest.fixture(scope="module")
def fixed(path, tmp_path_factory):
    """Folder of an uninterrupted training."""
    return trained(TINY, tmp_path_factory.mktemp("dino"), path, seed=3)


def restored(cfg, folder, prefix=""):
    """Learner whose encoder is the saved one."""
    learner = cfg.build(N_VOXELS)
    answers.restore(learner.encoder, folder / "weights.safetensors", f"{prefix}encoder.")
    return learner


def probed(cfg, folder, X, prefix=""):
    """Predictions of responses by the saved weights."""
    saved = {
        name.removeprefix(f"{prefix}probe."): one
        for name, one in load_file(folder / "weights.safetensors").items()
        if name.startswith(f"{prefix}probe.")
    }
    seen = (cfg.embed(restored(cfg, folder, prefix), X) - saved["feature_mean"]) / saved["feature_scale"]
    return seen @ saved["weights"].T + saved["intercept"]


# Settings.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"views": {"dropout": (0.7, 0.3)}}, r"goes from 0.7 to 0.3.*smaller share first"),
        ({"views": {"teacher": "averaged", "local": 0}}, r"nothing would be compared: set `local`"),
        ({"training": {"ema": 0.9}}, r"already is an average.*set `ema` to null"),
        ({"training": {"epochs": 5, "peak_epochs": 5}}, r"cannot be highest after 5 of 5 epochs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        DinoConfig(target="tokens", **given)


@pytest.mark.parametrize(("epochs", "said"), [(0, "never trained"), (3, "self-supervised encoder")])
def test_the_table_says_whether_the_encoder_was_trained(epochs, said):
    made = DinoConfig(target="tokens", training={"epochs": epochs, "peak_epochs": 1})
    assert said in made.note and config.plugin("decoders", config.plain(made)) == made


# Files.


@pytest.mark.parametrize("cfg", [TINY, UNTRAINED], ids=["trained", "untrained"])
@pytest.mark.parametrize(
    ("group", "part", "unit"),
    [("validation", 1, "average"), ("test/average", 2, "average"), ("test/single", 2, "single")],
)
def test_saved_weights_reproduce_the_predictions(path, tmp_path, cfg, group, part, unit):
    folder = trained(cfg, tmp_path, path, seed=3)
    X, trials = subject(path)
    responses, frame = units(X, trials, by_image(trials)[0][part], unit)
    found = read_predictions(folder / "predictions.h5", group)
    np.testing.assert_array_equal(found.stimulus, frame.stimulus)
    np.testing.assert_allclose(found.predicted, probed(cfg, folder, responses), rtol=1e-3, atol=1e-4)
    assert found.predicted.std(axis=0).min() > 0


@pytest.mark.parametrize("at_once", [5, 24])
def test_the_probe_may_be_solved_a_few_columns_at_a_time(path, fixed, tmp_path, monkeypatch, at_once):
    """24 columns at once, as many as features: a tensor of the features is none of the columns."""
    probe = DinoConfig._ridge.fget
    monkeypatch.setattr(
        DinoConfig, "_ridge", property(lambda cfg: probe(cfg).model_copy(update={"n_targets_batch": at_once}))
    )
    trained(TINY, tmp_path, path, seed=3)
    for name, saved in load_file(fixed / "weights.safetensors").items():
        again = load_file(tmp_path / "weights.safetensors")[name]
        np.testing.assert_allclose(again, saved, rtol=1e-5, atol=1e-6, err_msg=name)


def test_history_and_record_hold_the_training_and_the_probe(fixed):
    history = read_parquet(fixed / "history.parquet")
    trained_rows, solved = history[history.epoch.notna()], history[history.epoch.isna()]
    assert trained_rows.epoch.tolist() == [1, 2, 3, 4] and trained_rows.loss.notna().all()
    looked = trained_rows[trained_rows.epoch % 2 == 0]
    for name in ("loss", "entropy", "divergence", "neighbours"):
        assert looked[f"validation_{name}"].between(0, 20).all()
    assert solved.alpha.tolist() == [10_000, 100, 1] and solved.n_best.sum() == 24
    (record,) = history.attrs["training"]
    assert record["chosen_epoch"] == record["epochs"] == 4 and "note" not in record


def test_training_images_are_not_predicted_because_the_encoder_saw_their_responses(fixed):
    assert read_predictions(fixed / "predictions.h5", "train", missing_ok=True) is None


# Going on.


@pytest.mark.parametrize("n_draws", [2, 5, 9])
def test_an_interrupted_training_goes_on_to_the_same_files(path, fixed, tmp_path, n_draws):
    """Teacher and centre are part of what is resumed: the files are equal, byte for byte."""
    learner = type(TINY.build(N_VOXELS))
    with stopped_at(learner, n_draws), pytest.raises(KeyboardInterrupt):
        trained(TINY, tmp_path, path, seed=3)
    assert [one.name for one in tmp_path.iterdir()] == ["work"]
    trained(TINY, tmp_path, path, seed=3)
    found, expected = contents(tmp_path), contents(fixed)
    histories = [pd.DataFrame(each.pop("history")) for each in (found, expected)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)  # where nothing is said, both say nothing
    assert found == expected
    assert read_parquet(tmp_path / "history.parquet").attrs["training"][0]["resumed"] > 0


def test_another_seed_is_another_encoder(path, fixed, tmp_path):
    trained(TINY, tmp_path, path, seed=4)
    other, own = (load_file(folder / "weights.safetensors") for folder in (tmp_path, fixed))
    assert not np.array_equal(other["encoder.stem.0.weight"], own["encoder.stem.0.weight"])


# What it looks at.


def encoder_of(folder):
    return {name: one for name, one in load_file(folder / "weights.safetensors").items() if "encoder" in name}


def altered(path, folder, *parts):
    """The encoder trained on a subject whose responses in some parts of the split are others."""
    X, trials = subject(path)
    (fold,) = by_image(trials)
    for part in parts:
        X[fold[part]] = np.random.default_rng(5).standard_normal((len(fold[part]), N_VOXELS)) * 10
    job = Job(folder, ("average",), seed=3, attributes={"decoder": "dino", "subject": "subj01"})
    train_and_predict(TINY, X, trials, [fold], store.Features(path), job)
    return encoder_of(folder)


def test_responses_to_validation_and_test_images_are_never_trained_on(path, fixed, tmp_path):
    found = altered(path, tmp_path, 1, 2)
    assert all(np.array_equal(found[name], one) for name, one in encoder_of(fixed).items())


def test_responses_to_training_images_are(path, fixed, tmp_path):
    found = altered(path, tmp_path, 0)
    name = "encoder.stem.0.weight"
    assert not np.array_equal(found[name], encoder_of(fixed)[name])


def test_targets_are_never_trained_on(path, fixed, tmp_path):
    other = features(tmp_path, "others", SHAPE, 60, seed=7)
    X, trials = subject(path)
    job = Job(tmp_path / "run", ("average",), seed=3)
    train_and_predict(TINY, X, trials, by_image(trials), store.Features(other), job)
    found = encoder_of(tmp_path / "run")
    assert all(np.array_equal(found[name], one) for name, one in encoder_of(fixed).items())


# The probe.


@pytest.mark.parametrize("folds", [by_image, lambda trials: by_run(trials, 2)], ids=["image", "run"])
def test_the_probe_has_the_rows_of_ridge_on_raw_voxels(path, folds):
    """Whatever the split: the mean responses that a decoder of averages is trained on."""
    from percept.decoders import predict

    X, trials = subject(path)
    fold = folds(trials)[0]
    job, number = Job(path.parent), -1 if folds is by_image else 0
    plan, ridge = (predict._plan(trials, fold, cfg, job, number) for cfg in (TINY, RidgeConfig(target="t")))
    found = averaged(plan.task(X, trials, store.Features(path), job))
    wanted = ridge.task(X, trials, store.Features(path), job)
    np.testing.assert_allclose(found[0], wanted.X, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[1], wanted.stimulus)
    assert len(set(zip(found[2], wanted.groups, strict=True))) == len(set(wanted.groups))


def test_of_an_untrained_linear_encoder_the_probe_is_ridge_on_its_features(path, tmp_path):
    network = {"width": 64, "blocks": 0, "stem": "linear"}
    cfg = UNTRAINED.model_copy(update={"network": TINY.network.model_copy(update=network)})
    trained(cfg, tmp_path, path, seed=3)
    X, trials = subject(path)
    train, test = by_image(trials)[0].train, by_image(trials)[0].test
    rows, frame = units(X, trials, train, "average")
    learner = restored(cfg, tmp_path)
    Y = store.read(path, frame.stimulus).reshape(len(frame), -1)
    ridge = fit(cfg._ridge, learner.embed(rows), Y, frame.stimulus.to_numpy(), seed=3)
    expected = ridge.predict(learner.embed(units(X, trials, test, "average")[0]))
    found = read_predictions(tmp_path / "predictions.h5", "test/average").predicted
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_where_runs_are_left_out_each_fold_has_its_own_encoder(path, tmp_path):
    trained(TINY, tmp_path, path, lambda trials: by_run(trials, 2))
    saved = load_file(tmp_path / "weights.safetensors")
    first, second = (saved[f"fold-{number}/encoder.stem.0.weight"] for number in range(2))
    assert not np.array_equal(first, second)


# Regions.


def task(table):
    X = np.ones((2, len(table)), np.float32)
    return Task(X, np.arange(2), np.arange(2), targets=None, voxels=table)


def test_regions_of_which_a_mask_leaves_nothing_are_no_regions():
    masked = task(TABLE)
    masked.X[:, 2] = 0  # all of the ventral stream
    assert regions(masked, ("streams",)).astype(int).tolist() == [[1, 1, 0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), []),
        (("streams",), [[1, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0]]),
        (("streams:ventral",), [[0, 0, 1, 0, 0, 0]]),
        (("streams:ventral", "streams"), [[0, 0, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0]]),
    ],
    ids=str,
)
def test_regions_are_the_voxels_with_their_label(labels, expected):
    assert regions(task(TABLE), labels).astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [(("floc",), "has no atlas 'floc'"), (("streams:lateral",), r"none of the 6 voxels.*`views.regions`")],
)
def test_regions_that_no_voxel_has_are_refused(labels, message):
    with pytest.raises(PerceptError, match=message):
        regions(task(TABLE), labels)


def test_other_regions_are_another_training(path):
    """A checkpoint of views that lacked other voxels is not continued."""
    X, trials = subject(path)
    cfg = TINY.model_copy(update={"views": TINY.views.model_copy(update={"regions": ("streams",)})})
    seen = []
    for first in (5, 9):
        table = pd.DataFrame({"streams": pd.array(["early"] * first + ["ventral"] * (N_VOXELS - first))})
        learner = cfg.build(N_VOXELS, replace(task(table), X=X, stimulus=trials.stimulus.to_numpy()))
        seen.append(cfg.job(learner, replace(task(table), targets=store.Features(path)), 3).identity)
    assert seen[0] != seen[1]


# A collapse.


def test_a_collapse_is_said_in_the_log_and_in_the_record(path, tmp_path, monkeypatch, caplog):
    uniform = {"entropy": 1.0, "divergence": 0.0}
    monkeypatch.setattr(distillation, "spread", lambda taught: uniform)
    with caplog.at_level(logging.WARNING):
        trained(TINY, tmp_path, path, seed=3)
    assert "self-supervised training collapsed (uniform: entropy 1.000" in caplog.text
    (record,) = read_parquet(tmp_path / "history.parquet").attrs["training"]
    assert record["note"] == "collapsed: all responses get the same answer (uniform)"


def test_an_encoder_of_full_size_has_mindeyes_hidden_layers_and_no_head_is_saved():
    shapes = DinoConfig(target="clip").tensors(15_724, (768,))
    numbers = sum(int(np.prod(shape)) for name, (shape, _) in shapes.items() if name.startswith("encoder."))
    assert numbers == (15_724 + 3) * 4096 + 4 * (4096 + 3) * 4096
    assert shapes["probe.weights"] == ((768, 4096), "float32")
    assert not any("prototypes" in name for name in shapes)
