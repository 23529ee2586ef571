"""A repeat, an image, a session or a region that is lacking makes a smaller table, never another number."""

import numpy as np
import pytest

from percept.decoders.dino import DinoConfig
from percept.decoders.lowlevel import LowLevelConfig
from percept.decoders.mapper import MapperConfig
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.decoders.voxelclip import VoxelClipConfig
from percept.targets import store
from tests.unit.decoders.made_up import by_image, features, places, subject

TRAINING = {"epochs": 2, "batch_size": 16, "device": "cpu"}
SYSTEMS = {
    "mapper": (
        MapperConfig(target="t", network={"channels": 4, "blocks": 1, "hidden": 8}, training=TRAINING),
        (6,),
    ),
    "voxelclip": (
        VoxelClipConfig(
            target="t",
            variant="stride_first",
            network={"channels": (4, 8), "strides": (2, 1), "kernels": (3, 3), "padding": (1, 1), "heads": 2},
            training=TRAINING,
        ),
        (6,),
    ),
    "dino": (
        DinoConfig(
            target="t",
            network={"width": 16, "blocks": 1, "prototypes": 8, "head_width": 8, "bottleneck": 4},
            views={"local": 1},
            training=TRAINING | {"peak_epochs": 1},
        ),
        (6,),
    ),
    "voter": (
        LowLevelConfig(
            target="t",
            compat="voting",
            network={"width": 16, "blocks": 1, "map_channels": 8, "up_channels": (8, 8, 16)},
            training=TRAINING | {"peak_epochs": 1},
        ),
        (4, 8, 8),
    ),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request, tmp_path_factory):
    """Settings of a decoder, and the path of features of its target."""
    cfg, shape = SYSTEMS[request.param]
    return cfg, features(tmp_path_factory.mktemp("system"), "t", shape, 60)


@pytest.fixture(scope="module")
def whole(system, tmp_path_factory):
    """Predictions where nothing lacks."""
    return predicted(system, tmp_path_factory.mktemp("whole"), everything)


def predicted(system, folder, keep, columns=slice(None)):
    """Predictions of every unit by a decoder that is trained on the trials `keep`, of some of the voxels.

    Images are split as if nothing lacked.
    """
    cfg, path = system
    X, trials = subject(path)
    (whole,) = by_image(trials)
    rows = np.flatnonzero(keep(trials, whole))
    fold = type(whole)(*(np.flatnonzero(np.isin(rows, part)) for part in whole))
    job = Job(folder, ("average", "single"), voxels=places().iloc[columns].reset_index(drop=True))
    target = store.Features(path)
    train_and_predict(cfg, X[rows][:, columns], trials.iloc[rows].reset_index(drop=True), [fold], target, job)
    return {
        unit: read_predictions(folder / "predictions.h5", f"test/{unit}") for unit in ("average", "single")
    }


def everything(trials, fold):
    return np.ones(len(trials), bool)


def repeated(trials, part):
    """An image of some trials that has two or more of them, and its first row."""
    stimulus = trials.stimulus.to_numpy()[part]
    image = next(one for one in np.unique(stimulus) if (stimulus == one).sum() > 1)
    return image, part[np.flatnonzero(stimulus == image)[0]]


def test_a_test_image_that_lost_a_repeat_is_predicted_from_the_others(system, whole, tmp_path):
    lost = {}

    def without_a_repeat(trials, fold):
        lost["image"], row = repeated(trials, fold.test)
        return np.arange(len(trials)) != row

    fewer = predicted(system, tmp_path / "fewer", without_a_repeat)
    np.testing.assert_array_equal(whole["average"].stimulus, fewer["average"].stimulus)
    at = whole["average"].stimulus == lost["image"]
    assert (whole["average"].n_repeats[at] - fewer["average"].n_repeats[at]).tolist() == [1]
    np.testing.assert_array_equal(whole["average"].n_repeats[~at], fewer["average"].n_repeats[~at])
    expected = whole["average"].predicted[~at]  # to rounding
    np.testing.assert_allclose(fewer["average"].predicted[~at], expected, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(whole["average"].predicted[at], fewer["average"].predicted[at])
    assert len(fewer["single"].stimulus) == len(whole["single"].stimulus) - 1


def test_a_test_image_that_was_never_shown_has_no_row(system, whole, tmp_path):
    lost = {}

    def without_an_image(trials, fold):
        lost["image"] = trials.stimulus.max()
        return trials.stimulus.to_numpy() != lost["image"]

    fewer = predicted(system, tmp_path / "fewer", without_an_image)
    for unit in ("average", "single"):
        there = whole[unit].stimulus != lost["image"]
        np.testing.assert_array_equal(whole[unit].stimulus[there], fewer[unit].stimulus)
        # to rounding: how a product is rounded depends on the batch and on the processor
        expected = whole[unit].predicted[there]
        np.testing.assert_allclose(fewer[unit].predicted, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", ["repeat", "session", "region"])
def test_less_to_train_on_gives_finite_predictions_of_the_same_test_images(system, whole, tmp_path, what):
    def kept(trials, fold):
        if what == "repeat":
            return np.arange(len(trials)) != repeated(trials, fold.train)[1]
        if what == "session":  # of its trials those of test images stay, so that the same are asked for
            left_out = (trials.session.to_numpy() == 2) & ~np.isin(np.arange(len(trials)), fold.test)
            return ~left_out
        return everything(trials, fold)

    columns = np.flatnonzero(places()["streams"] == "early") if what == "region" else slice(None)
    fewer = predicted(system, tmp_path / "fewer", kept, columns)
    for unit in ("average", "single"):
        np.testing.assert_array_equal(whole[unit].stimulus, fewer[unit].stimulus)
        assert np.isfinite(fewer[unit].predicted).all()
        assert not np.array_equal(fewer[unit].predicted, whole[unit].predicted)
