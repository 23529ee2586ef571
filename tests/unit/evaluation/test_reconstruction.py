"""Rows of a reconstruction and of its controls."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from percept.evaluation import controls, images, table
from percept.evaluation.reconstruction import score_reconstruction

from .test_images import scenes


@pytest.fixture
def pictures():
    """True images and noisy reconstructions of them."""
    true = scenes(12)
    noise = np.random.default_rng(5).normal(0, 40, true.shape)
    return np.clip(true + noise, 0, 255).astype(np.uint8), true, np.arange(100, 112)


@pytest.fixture
def reconstruction(label):
    return replace(label, what="reconstruction", name="pixels", scoring=None)


def value(scores, metric, control=None):
    rows = scores.rows[scores.rows["metric"] == metric]
    rows = (
        rows[rows["control"].isna()] if control is None else rows[(rows["control"] == control).fillna(False)]
    )
    assert len(rows) == 1, f"{len(rows)} rows of {metric} {control}"
    return rows.iloc[0]


def test_the_rows_are_the_means_of_the_metrics(pictures, reconstruction, settings):
    made, true, stimulus = pictures
    scores = score_reconstruction(made, true, stimulus, reconstruction, settings)
    expected = np.diag(images.pixel_correlations(made, true)).mean()
    assert value(scores, "pixcorr")["value"] == pytest.approx(expected)
    assert value(scores, "ssim")["value"] == pytest.approx(images.ssim(made, true).mean())
    assert value(scores, "pixel_two_way")["value"] == 1
    assert value(scores, "pixel_two_way", "chance")["value"] == 0.5
    assert value(scores, "pixcorr")["n"] == 12


def test_the_floors_are_shuffled_pairings(pictures, reconstruction, settings):
    scores = score_reconstruction(*pictures, reconstruction, settings)
    for metric in ("pixcorr", "ssim", "pixel_two_way"):
        assert value(scores, metric, "shuffled")["value"] < value(scores, metric)["value"]
    assert value(scores, "pixel_two_way", "shuffled")["value"] == pytest.approx(0.5, abs=0.03)
    assert value(scores, "pixcorr")["p_value"] == pytest.approx(1 / 201)
    assert value(scores, "ssim", "shuffled")["note"] == "one shuffled pairing"


def test_controls_are_scored_in_the_same_way(pictures, reconstruction, settings):
    made, true, stimulus = pictures
    others = {
        "recovery": true,
        "mean_image": controls.repeated(controls.mean_image(true), 12),
        "random_image": scenes(12, seed=9),
    }
    scores = score_reconstruction(made, true, stimulus, reconstruction, settings, others)
    assert value(scores, "ssim", "recovery")["value"] == pytest.approx(1)
    assert value(scores, "pixcorr", "recovery")["value"] == pytest.approx(1)
    assert value(scores, "pixel_two_way", "mean_image")["value"] == pytest.approx(0.5)
    assert value(scores, "pixcorr", "random_image")["value"] < value(scores, "pixcorr")["value"]
    assert set(scores.items["control"].dropna()) == {*others, "shuffled"}


def test_every_image_keeps_its_values(pictures, reconstruction, settings):
    made, true, stimulus = pictures
    items = score_reconstruction(made, true, stimulus, reconstruction, settings).items
    own = items[items["control"].isna() & (items["metric"] == "ssim")]
    assert own["stimulus"].tolist() == stimulus.tolist()
    assert_allclose(own["value"], images.ssim(made, true))
    assert items.dtypes.astype(str).to_dict() == table.ITEM_SCHEMA


def test_no_image_is_its_own_partner_in_the_shuffled_pairing(reconstruction, settings):
    true = scenes(2)
    scores = score_reconstruction(true, true, np.arange(2), reconstruction, settings)
    assert value(scores, "ssim", "shuffled")["value"] < 1


def test_a_single_image_has_no_pairing(reconstruction, settings):
    scores = score_reconstruction(scenes(1), scenes(1), np.array([7]), reconstruction, settings)
    assert value(scores, "ssim")["value"] == pytest.approx(1)
    assert "pixel_two_way" not in set(scores.rows["metric"])
    assert scores.rows["control"].isna().all()


@pytest.mark.parametrize(("n_made", "n_stimuli"), [(11, 12), (12, 11)])
def test_missing_reconstructions_are_named(pictures, reconstruction, settings, n_made, n_stimuli):
    made, true, stimulus = pictures
    with pytest.raises(ValueError, match=f"subj01 pixels: {n_made} reconstructions, 12 true images"):
        score_reconstruction(made[:n_made], true, stimulus[:n_stimuli], reconstruction, settings)


def test_a_control_of_another_size_is_refused(pictures, reconstruction, settings):
    with pytest.raises(ValueError, match="cannot be compared with images of shape"):
        score_reconstruction(*pictures, reconstruction, settings, {"mean_image": scenes(12, 30, 30)})
