"""The same score on training, validation and test images, with what it takes no brain to reach."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.config import EvaluationConfig
from percept.decoders.predictions import Predictions, write_predictions
from percept.evaluation import splits
from percept.evaluation.controls import derangement, mean_image
from percept.evaluation.table import Label
from percept.generators import store as images
from percept.targets import store

SETTINGS = EvaluationConfig(bootstrap=60, permutations=60)
LABEL = Label("twin", "shared1000", "subj01", "decoder", "voter", "latents", "nsdgeneral", 3, "average")
TRAIN, VALIDATION, TEST = np.arange(40), np.arange(40, 55), np.arange(60, 83)
DIMS = 11


@given(n=st.integers(2, 60), seed=st.integers(0, 99))
def test_a_derangement_gives_every_row_another_one(n, seed):
    partner = derangement(n, seed)
    assert sorted(partner) == list(range(n)) and (partner != np.arange(n)).all()


def predictions(folder, error, groups=("fitted", "validation", "test/average")):
    """Files of true targets and of predictions that are off by `error` times 1, 2 or 3 in every number."""
    rng = np.random.default_rng(0)
    targets = rng.normal(1, 2, (83, DIMS)).astype(np.float32)
    store.write(folder / "index.json", targets, np.arange(83), {"kind": "made up"}, "latents")
    parts = {"fitted": TRAIN, "validation": VALIDATION, "test/average": TEST}
    made = {}
    for factor, name in enumerate(groups, start=1):
        rows = parts[name]
        sign = rng.choice([-1, 1], (len(rows), DIMS))
        blank = np.full(len(rows), -1)
        made[name] = Predictions(targets[rows] + factor * error * sign, rows, blank * -1, blank, blank)
    write_predictions(folder / "predictions.h5", made, {})
    return targets


def scored(folder):
    return splits.score_predictions(
        folder / "predictions.h5", folder / "index.json", TRAIN, LABEL, SETTINGS
    ).set_index(["split", "control"])


@pytest.mark.parametrize(("split", "factor"), [("train", 1), ("validation", 2), ("test", 3)])
def test_the_error_of_every_split_is_its_own(tmp_path, split, factor):
    predictions(tmp_path, 0.25)
    row = scored(tmp_path).loc[(split, np.nan)].squeeze()
    assert row["value"] == pytest.approx(0.25 * factor, rel=1e-5)
    assert row["n"] == len({"train": TRAIN, "validation": VALIDATION, "test": TEST}[split])
    assert (row["metric"], row["what"], row["name"], row["seed"]) == ("mae", "decoder", "voter", 3)


def test_the_mean_target_is_that_of_the_training_images_alone(tmp_path):
    targets = predictions(tmp_path, 0.25)
    mean = targets[TRAIN].mean(axis=0)
    found = scored(tmp_path)["value"]
    for split, rows in {"train": TRAIN, "validation": VALIDATION, "test": TEST}.items():
        expected = np.abs(targets[rows] - mean).mean()
        assert found[split, "mean_target"] == pytest.approx(expected, rel=1e-5)


def test_mismatched_pairs_are_of_other_images_of_the_same_split(tmp_path):
    targets = predictions(tmp_path, 0.0)
    found = scored(tmp_path)["value"]
    for split, rows in {"train": TRAIN, "validation": VALIDATION, "test": TEST}.items():
        other = rows[derangement(len(rows), SETTINGS.seed)]
        expected = np.abs(targets[rows] - targets[other]).mean()
        assert found[split, "shuffled"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("groups", [("fitted", "test/average"), ("validation", "test/average")])
def test_a_split_without_predictions_has_no_row(tmp_path, groups):
    predictions(tmp_path, 0.1, groups)
    there = {splits.GROUPS[name] for name in scored(tmp_path).index.get_level_values("split")}
    assert there == set(groups)


class Source:
    """Images of one colour each: the encoder below reads the colour."""

    colours = np.random.default_rng(1).integers(1, 255, (83, 3), dtype=np.uint8)

    def images(self, stimuli):
        return np.broadcast_to(self.colours[np.asarray(stimuli)][:, None, None], (len(stimuli), 4, 5, 3))


def encode(batch):
    return batch.mean(axis=(1, 2), dtype=np.float32)


def made_images(folder, made):
    paths = {}
    for split, rows in {"train": TRAIN[:9], "validation": VALIDATION}.items():
        colours = np.broadcast_to(made(rows)[:, None, None], (len(rows), 4, 5, 3)).astype(np.uint8)
        paths[split] = folder / f"{split}.h5"
        images.write_images(paths[split], colours, rows)
    average = mean_image(Source().images([one])[0] for one in TRAIN)
    found = splits.score_images(paths, Source(), average, encode, LABEL, SETTINGS)
    return found.set_index(["split", "control"])["value"]


def cosine(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize(("split", "rows"), [("train", TRAIN[:9]), ("validation", VALIDATION)])
def test_images_are_compared_with_what_was_seen_beside_the_mean_image_and_mismatched_pairs(
    tmp_path, split, rows
):
    colours = Source.colours
    perfect = made_images(tmp_path, lambda shown: colours[shown])
    mean = np.rint(colours[TRAIN].mean(axis=0))
    every = cosine(colours[rows][:, None], colours[rows][None])
    assert perfect[split, np.nan] == pytest.approx(1, abs=1e-6)
    assert perfect[split, "mean_image"] == pytest.approx(cosine(mean, colours[rows]).mean(), rel=1e-5)
    mismatched = (every.sum() - len(rows)) / (len(rows) * (len(rows) - 1))
    assert perfect[split, "shuffled"] == pytest.approx(mismatched, abs=0.03)  # a mean over drawn permutations


def test_an_image_that_ignores_the_brain_is_no_better_than_mismatched_pairs(tmp_path):
    """Its cosine is far above 0 all the same: why no such number may stand alone."""
    found = made_images(tmp_path, lambda shown: np.full((len(shown), 3), 100))
    assert found["validation", np.nan] > 0.6
    assert found["validation", np.nan] == pytest.approx(found["validation", "shuffled"], abs=1e-9)


@pytest.mark.parametrize("scale", [1, 1e-3, 1e4])
def test_cosines_do_not_depend_on_length_and_a_row_of_zeros_has_none(scale):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    a[1] = 0
    found = splits.cosines(scale * a, b)
    np.testing.assert_allclose(found[[0, 2]], cosine(a[[0, 2]][:, None], b[None]), rtol=1e-12)
    assert found.shape == (3, 4) and (found[1] == 0).all()
