"""Floors, look-ups and limits."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from percept.evaluation import controls, table


@pytest.mark.parametrize(
    ("metric", "pool", "expected"),
    [
        ("top1", 300, 1 / 300),
        ("top5", 300, 5 / 300),
        ("top5", 3, 1),
        ("top10", 500, 0.02),
        ("top10", 7, 1),
        ("two_way", 300, 0.5),
        ("pixel_two_way", 300, 0.5),
        ("median_rank", 9, 5),
        ("mean_rank", 500, 250.5),
        ("bits", 300, 0),
    ],
)
def test_chance_has_a_closed_form(metric, pool, expected):
    assert controls.chance(metric, pool) == pytest.approx(expected)


def test_chance_without_a_closed_form_is_refused():
    with pytest.raises(ValueError, match="chance of 'ssim' has no closed form"):
        controls.chance("ssim", 4)


def test_the_mean_image_is_the_mean_and_may_be_streamed():
    images = np.random.default_rng(0).integers(0, 256, (5, 7, 8, 3), dtype=np.uint8)
    found = controls.mean_image(image for image in images)
    assert_array_equal(found, np.rint(images.mean(axis=0)))
    assert found.dtype == np.uint8


def test_no_image_has_no_mean():
    with pytest.raises(ValueError, match="no training image to average"):
        controls.mean_image([])


def test_a_repeated_image_takes_no_memory():
    image = np.arange(7 * 8 * 3, dtype=np.uint8).reshape(7, 8, 3)
    many = controls.repeated(image, 1000)
    assert many.shape == (1000, 7, 8, 3)
    assert many.strides[0] == 0
    assert_array_equal(many[999], image)


@pytest.mark.parametrize("n_dims", [3, 5000])
def test_the_nearest_training_image_is_the_best_correlated_one(n_dims):
    rng = np.random.default_rng(1)
    train, mean = rng.normal(size=(11, n_dims)) + 5, np.full(n_dims, 5.0)
    wanted = np.array([7, 0, 10])
    predicted = mean + 0.1 * (train[wanted] - mean)  # shrunk, as predictions are
    assert_array_equal(controls.nearest_train(predicted, train, mean), wanted)


@pytest.mark.parametrize(("n", "n_train"), [(7, 50), (50, 50), (50, 7)])
def test_random_images_are_distinct_while_they_last(n, n_train):
    rows = controls.random_train(n, n_train, seed=3)
    assert len(rows) == n
    assert rows.min() >= 0
    assert rows.max() < n_train
    assert len(set(rows.tolist())) == n or n > n_train
    assert_array_equal(rows, controls.random_train(n, n_train, seed=3))


@pytest.mark.parametrize(
    ("value", "limit", "chance", "expected"),
    [
        (0.9, 0.9, 0.5, 1),
        (0.5, 0.9, 0.5, 0),
        (0.7, 0.9, 0.5, 0.5),
        (26, 1, 51, 0.5),  # median rank: lower is better
        (0.4, 0.9, 0.5, -0.25),
        (0.5, 0.5, 0.5, np.nan),
        (0.5, np.nan, 0.5, np.nan),
    ],
)
def test_the_share_is_the_way_from_chance_to_the_limit(value, limit, chance, expected):
    assert_allclose(controls.share(value, limit, chance), expected)


def test_in_a_large_pool_the_share_is_nearly_the_ratio_and_never_above_it():
    share = controls.share(0.4, 0.7, 1 / 300)
    assert 0.4 / 0.7 - 0.005 < share < 0.4 / 0.7


@pytest.fixture
def rows(label):
    quantity = {"direction": "image_from_brain", "pool": 50, "chance": 0.02, "n": 40}
    return table.rows(
        label,
        [
            {**quantity, "metric": "top1", "value": 0.4},
            {**quantity, "metric": "top1", "value": 0.02, "control": "chance"},
            {"metric": "ssim", "value": 0.3},
        ],
    )


@pytest.fixture
def limits():
    one = {"unit": "average", "metric": "top1", "direction": "image_from_brain", "pool": 50}
    other = {**one, "unit": "single", "limit_oracle": 0.5}
    return pd.DataFrame([{**one, "limit_oracle": 0.8, "limit_finite": 0.6}, other])


def test_limits_fill_columns_and_add_rows(rows, limits):
    joined = controls.join_limits(rows, limits)
    own = joined[joined["control"].isna()].iloc[0]
    assert (own["limit_oracle"], own["limit_finite"]) == (0.8, 0.6)
    assert own["share_oracle"] == pytest.approx(0.38 / 0.78)
    assert own["share_finite"] == pytest.approx(0.38 / 0.58)
    by_control = joined.set_index(joined["control"].fillna("method"))["value"]
    assert by_control["bayes_oracle"] == 0.8
    assert by_control["bayes_finite"] == 0.6
    assert len(joined) == len(rows) + 2
    assert joined.dtypes.astype(str).to_dict() == table.SCHEMA


def test_what_has_no_limit_stays_as_it_is(rows, limits):
    joined = controls.join_limits(rows, limits)
    ssim = joined[joined["metric"] == "ssim"].iloc[0]
    assert ssim["value"] == 0.3
    assert np.isnan(ssim["limit_oracle"])
    assert np.isnan(ssim["share_oracle"])


def test_the_floors_of_a_limited_quantity_have_their_share_too(rows, limits):
    joined = controls.join_limits(rows, limits)
    chance = joined[joined["control"] == "chance"].iloc[0]
    assert chance["share_oracle"] == pytest.approx(0)


def test_only_one_kind_of_limit_may_be_known(rows, limits):
    joined = controls.join_limits(rows, limits.drop(columns="limit_finite"))
    assert "bayes_finite" not in set(joined["control"].dropna())
    assert joined["share_finite"].isna().all()


def test_two_limits_for_one_quantity_are_refused(rows, limits):
    with pytest.raises(ValueError, match="there are two limits for"):
        controls.join_limits(rows, pd.concat([limits, limits]))
