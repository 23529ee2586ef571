"""The files that one training leaves, for fixed splits and for runs left out."""

import h5py
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from percept.datasets.splits import Fold
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.decoders.ridge import RidgeConfig, fit
from percept.decoders.units import units
from percept.files import PerceptError, read_parquet
from percept.targets import store

N_IMAGES, N_VOXELS, DIMS = 60, 13, (3, 4)
CFG = RidgeConfig(target="pixels", alphas=(1.0, 10.0, 100.0), n_targets_batch=5, device="cpu")
UNITS = ("average", "single", "run")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(X, trials, features file): two sessions of three runs of 24 trials, some images several times."""
    rng = np.random.default_rng(0)
    stimulus = 100 + np.concatenate([np.arange(N_IMAGES), rng.integers(0, N_IMAGES, 84)])
    stimulus = rng.permutation(stimulus)
    runs = {"session": np.repeat([1, 2], 72), "run": np.tile(np.repeat([1, 2, 3], 24), 2)}
    trials = pd.DataFrame({**runs, "stimulus": stimulus.astype(np.int32)})
    features = rng.standard_normal((N_IMAGES, *DIMS)).astype(np.float32)
    path = tmp_path_factory.mktemp("features") / "features.h5"
    store.write(path, features, np.arange(100, 100 + N_IMAGES), {"kind": "pixels"}, "pixels")
    mix = rng.standard_normal((12, N_VOXELS))
    X = features.reshape(N_IMAGES, 12)[stimulus - 100] @ mix + rng.standard_normal((144, N_VOXELS))
    return X.astype(np.float32), trials, path


def by_image(trials):
    part = np.where(trials.stimulus < 140, 0, np.where(trials.stimulus < 148, 1, 2))
    return [Fold(*(np.flatnonzero(part == number) for number in range(3)))]


def by_run(trials, validation=True):
    run = trials.groupby(["session", "run"]).ngroup().to_numpy()
    after = np.where(validation, (np.arange(6) + 1) % 6, -1)
    return [
        Fold(*map(np.flatnonzero, ((run != left) & (run != after[left]), run == after[left], run == left)))
        for left in range(6)
    ]


def train(world, folder, folds, cfg=CFG, **job):
    X, trials, path = world
    with store.open_features(path) as features:
        train_and_predict(cfg, X, trials, folds, features, Job(folder, UNITS, **job))
    return folder / "predictions.h5"


@pytest.fixture(scope="module")
def fixed(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixed")
    names = {"decoder": "ridge", "subject": "subj01", "target": "pixels"}
    return train(world, folder, by_image(world[1]), seed=3, attributes=names)


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    return train(world, tmp_path_factory.mktemp("runs"), by_run(world[1]))


@pytest.fixture(scope="module")
def direct(world):
    """The same decoder, fitted on whole arrays."""
    X, trials, path = world
    averaged, frame = units(X, trials, by_image(trials)[0].train, "average")
    Y = store.read(path, frame.stimulus).reshape(len(frame), -1)
    return fit(CFG, averaged, Y, frame.stimulus.to_numpy(), seed=3), frame


@pytest.mark.parametrize(
    ("group", "part", "unit"),
    [
        ("validation", 1, "average"),
        ("test/average", 2, "average"),
        ("test/single", 2, "single"),
        ("test/run", 2, "run"),
    ],
)
def test_predictions_are_those_of_the_decoder_for_these_units(world, fixed, direct, group, part, unit):
    X, trials, _ = world
    averaged, frame = units(X, trials, by_image(trials)[0][part], unit)
    found = read_predictions(fixed, group)
    np.testing.assert_allclose(found.predicted, direct[0].predict(averaged), rtol=1e-3, atol=1e-4)
    for column in ("stimulus", "n_repeats", "run"):
        np.testing.assert_array_equal(getattr(found, column), frame[column])
    assert (found.fold == -1).all()


def test_training_images_are_predicted_by_models_that_did_not_see_them(fixed, direct):
    found = read_predictions(fixed, "train")
    np.testing.assert_array_equal(found.stimulus, np.arange(100, 140))
    np.testing.assert_allclose(found.predicted, direct[0].out_of_fold, rtol=1e-3, atol=1e-4)


def test_the_file_says_what_it_is(fixed):
    with h5py.File(fixed) as file:
        assert dict(file.attrs) == {
            "decoder": "ridge", "subject": "subj01", "target": "pixels", "seed": 3,
            "fingerprint": '{"kind": "pixels"}',
        }  # fmt: skip
        assert file["test/single/predicted"].dtype == np.float32


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({"decoder": "mindeye", "subject": "subj01", "target": "clip"}, "mindeye of subj01, seed 3"),
        ({"subject": "subj01"}, "subj01, seed 3"),
        ({}, "seed 3"),
    ],
)
def test_a_training_is_called_by_its_decoder_its_subject_and_its_seed(tmp_path, attributes, name):
    assert Job(tmp_path, seed=3, attributes=attributes).name == name


class Named:
    """Ridge, which notes what its trainings are called."""

    def __init__(self):
        self.called = []

    def __getattr__(self, name):
        return getattr(CFG, name)

    def train(self, task, seed):
        self.called.append(task.name)
        return CFG.train(task, seed)


@pytest.mark.parametrize(
    ("folds", "ends"), [(by_image, ["seed 0"]), (by_run, [f"seed 0, fold {n}" for n in range(6)])]
)
def test_every_decoder_is_told_what_it_is_called(world, tmp_path, folds, ends):
    cfg = Named()
    train(world, tmp_path, folds(world[1]), cfg, attributes={"decoder": "one", "subject": "subj02"})
    assert [f"one of subj02, {end}" for end in ends] == cfg.called


def test_saved_weights_reproduce_the_test_predictions(world, fixed):
    X, trials, _ = world
    averaged, _ = units(X, trials, by_image(trials)[0].test, "average")
    saved = load_file(fixed.parent / "weights.safetensors")
    standardised = (averaged - saved["voxel_mean"]) / saved["voxel_scale"]
    assert saved["weights"].shape == (12, N_VOXELS)
    predicted = standardised @ saved["weights"].T + saved["intercept"]
    np.testing.assert_allclose(
        predicted, read_predictions(fixed, "test/average").predicted, rtol=1e-3, atol=1e-4
    )


def test_the_history_covers_every_target_once(fixed):
    history = read_parquet(fixed.parent / "history.parquet")
    assert set(history.columns) == {"alpha", "r2", "n_best", "first_dim", "n_dims", "fold"}
    assert history.n_best.sum() == 12 and sorted(history.first_dim.unique()) == [0, 5, 10]
    assert sorted(history.alpha.unique()) == [1.0, 10.0, 100.0]


def test_single_trial_training_is_another_model_whose_predictions_of_repeats_are_averaged(
    world, fixed, tmp_path
):
    X, trials, path = world
    rows = by_image(trials)[0].train
    single = train(world, tmp_path, by_image(trials), seed=3, train_repeats="single")
    stimulus = trials.stimulus.to_numpy()[rows]
    peer = fit(CFG, X[rows], store.read(path, stimulus).reshape(len(rows), -1), stimulus, seed=3)
    found, averaged = read_predictions(single, "train"), read_predictions(fixed, "train")
    for image, predicted in zip(found.stimulus, found.predicted, strict=True):
        expected = peer.out_of_fold[stimulus == image].mean(axis=0)
        np.testing.assert_allclose(predicted, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(found.n_repeats, averaged.n_repeats)
    assert np.abs(found.predicted - averaged.predicted).max() > 0.01


def test_every_trial_is_predicted_once_by_the_model_that_left_its_run_out(world, runs):
    X, trials, path = world
    found = read_predictions(runs, "test/single")
    folds = by_run(trials)
    np.testing.assert_array_equal(np.bincount(found.fold), [24] * 6)
    for number in (0, 5):
        rows, frame = units(X, trials, folds[number].train, "run")
        groups = frame.groupby(["session", "run"]).ngroup().to_numpy()
        peer = fit(CFG, rows, store.read(path, frame.stimulus).reshape(len(frame), -1), groups)
        expected = peer.predict(X[folds[number].test])
        np.testing.assert_allclose(found.predicted[found.fold == number], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(
            found.stimulus[found.fold == number], trials.stimulus[folds[number].test]
        )
    assert set(load_file(runs.parent / "weights.safetensors")) >= {"fold-0/weights", "fold-5/weights"}


@pytest.mark.parametrize(("group", "shared"), [("test/run", True), ("test/average", False)])
def test_means_within_a_run_know_their_run(runs, group, shared):
    found = read_predictions(runs, group)
    assert (found.run > 0).all() if shared else (found.run == -1).all()
    assert found.n_repeats.sum() == 144


def test_without_validation_rows_there_is_no_validation_group(world, tmp_path):
    path = train(world, tmp_path, by_run(world[1], validation=False)[:2])
    assert read_predictions(path, "validation", missing_ok=True) is None
    assert len(read_predictions(path, "test/single").fold) == 48


def test_a_second_training_with_the_same_seed_gives_the_same_predictions(world, fixed, tmp_path):
    again = train(world, tmp_path, by_image(world[1]), seed=3)
    for group in ("train", "test/single"):
        np.testing.assert_array_equal(
            read_predictions(again, group).predicted, read_predictions(fixed, group).predicted
        )


@pytest.mark.parametrize(("part", "word"), [("train", "training"), ("test", "testing")])
def test_a_split_without_rows_is_refused_by_name(world, tmp_path, part, word):
    fold = by_image(world[1])[0]._replace(**{part: np.array([], dtype=int)})
    with pytest.raises(PerceptError, match=f"no rows for {word} the decoder"):
        train(world, tmp_path, [fold])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_responses_that_are_not_finite_are_named_and_leave_no_files(world, tmp_path, value):
    X, trials, path = world
    broken = X.copy()
    broken[75, 2] = value
    with pytest.raises(PerceptError, match=f"1 trials .* session 2, run 1, stimulus {trials.stimulus[75]}"):
        train((broken, trials, path), tmp_path, by_image(trials))
    assert list(tmp_path.iterdir()) == []


def test_stimuli_without_features_are_named(world, tmp_path):
    X, trials, path = world
    with pytest.raises(PerceptError, match=r"no features of 1 of the stimuli asked for \(999\)"):
        train(
            (X, trials.assign(stimulus=trials.stimulus.replace(101, 999)), path), tmp_path, by_image(trials)
        )
    assert not list(tmp_path.glob("*.*"))
