"""Items, floors and nulls."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from percept.evaluation import measure
from percept.evaluation.measure import Measure


def test_repeats_of_an_image_are_one_item_in_order_of_appearance():
    items = measure.images_as_items(np.array([9, 4, 9, 7, 4]))
    assert_array_equal(items.stimulus, [9, 4, 7])
    assert_array_equal(items.of_row, [0, 1, 0, 2, 1])
    assert_allclose(items.mean(np.array([1.0, 2, 3, 4, 5])), [2, 3.5, 4])


def test_means_of_items_keep_the_other_axes():
    items = measure.images_as_items(np.array([9, 4, 9]))
    values = np.arange(6.0).reshape(3, 2)
    assert_allclose(items.mean(values), [[2, 3], [2, 3]])


def test_single_rows_are_not_copied():
    items = measure.images_as_items(np.array([9, 4]))
    values = np.zeros((2, 5))
    assert items.mean(values) is values


def test_blocks_are_the_rows_of_a_stimulus_in_a_run():
    items = measure.blocks_as_items(np.array([1, 1, 2, 1]), np.array([5, 5, 5, 6]))
    assert len(items.stimulus) == 3
    assert items.of_row[0] == items.of_row[1]
    assert len(set(items.of_row)) == 3
    assert_array_equal(items.run[items.of_row], [5, 5, 5, 6])


@pytest.mark.parametrize(
    ("n_stimuli", "n_each", "blocks"), [(1000, 3, False), (100, 12, False), (8, 108, True), (8, 12, True)]
)
def test_what_was_sampled_is_resampled(n_stimuli, n_each, blocks):
    stimulus = np.repeat(np.arange(n_stimuli), n_each)
    run = np.tile(np.arange(n_each) % 12, n_stimuli)
    items = measure.choose_items(stimulus, run)
    assert (items.run.max() >= 0) == blocks
    assert len(items.stimulus) == (n_stimuli * len(set(run.tolist())) if blocks else n_stimuli)


def score(label, settings, n_items=40, **changes):
    rng = np.random.default_rng(0)
    matrix = rng.random((n_items, n_items)) * 0.5 + 0.5 * np.eye(n_items)
    one = Measure("top1", np.diag(matrix), matrix, 0.025, "image_from_brain", 40)._replace(**changes)
    items = measure.images_as_items(np.arange(n_items))
    return measure.summarise([one], items, np.arange(n_items), label, settings)


def test_a_measure_brings_its_floors(label, settings):
    rows = score(label, settings).rows.set_index(score(label, settings).rows["control"].fillna("method"))
    assert list(rows.index) == ["method", "chance", "shuffled"]
    assert rows.loc["chance", "value"] == 0.025
    assert rows.loc["shuffled", "value"] == pytest.approx(0.25, abs=0.03)
    assert rows.loc["method", "p_value"] == pytest.approx(1 / 201)
    assert rows.loc["method", "ci_low"] < rows.loc["method", "value"] < rows.loc["method", "ci_high"]
    assert rows.loc["method", "n"] == 40


def test_where_lower_is_better_the_null_is_read_the_other_way(label, settings):
    rows = score(label, settings, lower_is_better=True).rows
    assert rows.loc[0, "p_value"] == 1.0


def test_a_median_is_summarised_as_a_median(label, settings):
    rows = score(label, settings, statistic="median").rows
    matrix = np.diag(np.random.default_rng(0).random((40, 40)) * 0.5 + 0.5 * np.eye(40))
    assert rows.loc[0, "value"] == pytest.approx(np.median(matrix))


def test_a_control_has_no_floors_of_its_own(label, settings):
    scores = score(replace(label, control="mean_image"), settings)
    assert scores.rows["control"].tolist() == ["mean_image"]
    assert set(scores.items["control"]) == {"mean_image"}


def test_without_other_pairings_there_is_no_null(label, settings):
    rows = score(label, settings, if_true=None, chance=float("nan")).rows
    assert rows["control"].isna().all()
    assert rows["p_value"].isna().all()


def test_every_item_keeps_its_value(label, settings):
    scores = score(label, settings)
    assert len(scores.items) == 40
    assert scores.items["value"].mean() == pytest.approx(scores.rows.loc[0, "value"])
    assert_array_equal(scores.items["stimulus"], np.arange(40))


def test_items_of_one_run_swap_labels_only_among_themselves(label, settings):
    stimulus, run = np.tile([3, 8], 30), np.repeat(np.arange(30), 2)
    items = measure.blocks_as_items(stimulus, run)
    matrix = np.zeros((60, 2))
    matrix[np.arange(60), np.tile([0, 1], 30)] = 1.0
    truth = np.searchsorted([3, 8], items.stimulus)
    values = items.mean(matrix)[np.arange(60), truth]
    rows = measure.summarise([Measure("top1", values, matrix, 0.5)], items, truth, label, settings).rows
    assert rows.loc[0, "p_value"] < 0.01
    assert rows.loc[2, "value"] == pytest.approx(0.5, abs=0.02)
