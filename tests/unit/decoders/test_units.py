"""Averages over repeats against a plain loop, for the three units."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.decoders.units import average, grouping, units

KEYS = {"average": ["stimulus"], "run": ["session", "run", "stimulus"]}


@st.composite
def experiments(draw):
    """(responses, trial table, rows): up to 30 trials of 5 images in 2 sessions of 3 runs, 4 voxels."""
    n = draw(st.integers(1, 30))
    column = lambda low, high: draw(st.lists(st.integers(low, high), min_size=n, max_size=n))  # noqa: E731
    trials = pd.DataFrame({"session": column(1, 2), "run": column(1, 3), "stimulus": column(10, 14)})
    X = np.random.default_rng(n).standard_normal((n, 4)).astype(np.float32)
    rows = np.array(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)))
    return X, trials, rows


@settings(max_examples=40)
@pytest.mark.parametrize("unit", ["average", "run"])
@given(experiment=experiments())
def test_a_unit_is_the_mean_of_its_trials(unit, experiment):
    X, trials, rows = experiment
    averaged, frame = units(X, trials, rows, unit)
    used = trials.iloc[rows].assign(row=rows)
    groups = list(used.groupby(KEYS[unit], sort=True))
    assert len(groups) == len(frame) == len(averaged) and averaged.dtype == np.float32
    for number, (key, group) in enumerate(groups):
        np.testing.assert_allclose(averaged[number], X[group.row].mean(axis=0), rtol=1e-4, atol=1e-6)
        assert frame.n_repeats[number] == len(group)
        assert tuple(frame.loc[number, KEYS[unit]]) == key


@given(experiment=experiments())
def test_single_trials_are_the_rows_asked_for_in_their_order(experiment):
    X, trials, rows = experiment
    averaged, frame = units(X, trials, rows, "single")
    np.testing.assert_array_equal(averaged, X[rows])
    assert (frame.n_repeats == 1).all()
    for column in ("session", "run", "stimulus"):
        np.testing.assert_array_equal(frame[column], trials[column].to_numpy()[rows])


def test_what_was_averaged_over_is_minus_one():
    trials = pd.DataFrame({"session": [1, 1, 2], "run": [1, 2, 1], "stimulus": [7, 7, 7]})
    X = np.eye(3, dtype=np.float32)
    over_all = units(X, trials, np.arange(3), "average")[1].iloc[0]
    assert (over_all.session, over_all.run, over_all.n_repeats) == (-1, -1, 3)
    within = units(X, trials, np.arange(3), "run")[1]
    assert within[["session", "run"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1]]  # not run 1 of both


def test_averaging_does_not_change_the_responses():
    X = np.ones((4, 3), dtype=np.float32)
    X.flags.writeable = False
    assert average(X, np.arange(4), np.array([0, 0, 1, 1]), 2).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_an_unknown_unit_is_named():
    trials = pd.DataFrame({"session": [1], "run": [1], "stimulus": [7]})
    with pytest.raises(ValueError, match="knows average, single and run, not 'session'"):
        grouping(trials, np.array([0]), "session")
