"""The table of an analysis: intervals, p values, false discovery rates."""

import numpy as np
import pandas as pd
import pytest

from percept.interpretation import table
from percept.interpretation.groups import Group
from percept.interpretation.leave_one_out import Effect
from percept.statistics import benjamini_hochberg, bootstrap, percentile_interval

VOXELS = pd.DataFrame({"i": [0, 2, 4], "j": [1, 1, 1], "k": [5, 6, 7]})
ABOUT = {"analysis": "a", "subject": "subj01", "decoder": "d", "seed": 0, "replacement": "zero"}


def effect(number, value, null, used=-1, names=("projection", "cosine")):
    rng = np.random.default_rng(number)
    changes = value + 0.1 * rng.normal(size=(25, len(names)))
    null = np.asarray(null, float)[:, None] * np.ones(len(names))
    group = Group("roi", f"r{number}", np.array([number % 3, 2]))
    return Effect(group, names, 2, changes, changes.mean(axis=0) * 2, null, used)


def whole(effects):
    return table.whole([table.rows(effects, VOXELS, 200, 0.9, 7)], ABOUT)


def test_a_group_has_a_row_per_score_of_the_schema():
    found = whole([effect(0, -1, np.linspace(-0.5, 0.5, 9)), effect(1, 0, np.linspace(-0.5, 0.5, 9))])
    assert list(found.columns) == list(table.SCHEMA) and len(found) == 4
    assert found.group.tolist() == ["r0", "r0", "r1", "r1"] and set(found.subject) == {"subj01"}
    assert found.i.tolist() == [2, 2, 3, 3] and found.k.tolist() == [6, 6, 6.5, 6.5]


@pytest.mark.parametrize("at_once", [1, 2, 256])
def test_intervals_are_bootstraps_of_the_images_however_many_at_once(monkeypatch, at_once):
    monkeypatch.setattr(table, "AT_ONCE", at_once)
    effects = [effect(0, -1, [0.0]), effect(1, 2, [0.0]), effect(0, 5, [0.0])]
    found = whole(effects)
    draws = bootstrap(effects[1].changes, 200, np.random.default_rng(7))
    expected = [percentile_interval(column, 0.9) for column in draws.T]
    np.testing.assert_allclose(found.loc[2:3, ["ci_low", "ci_high"]], expected, rtol=1e-9)


@pytest.mark.parametrize(("used", "value", "p"), [(-1, -9, 0.1), (-1, 9, 1), (1, 9, 0.1), (1, -9, 1)])
def test_the_p_value_looks_where_use_would_lead(used, value, p):
    found = whole([effect(0, value, np.linspace(-0.5, 0.5, 9), used)])
    assert found.p_value.tolist() == pytest.approx([p, p])


def test_the_false_discovery_rate_is_over_the_groups_of_a_score():
    null = np.linspace(-2, 2, 39)
    found = whole([effect(number, value, null) for number, value in enumerate((-3, -1, 1, 0))])
    own = found[found.metric == "cosine"]
    np.testing.assert_allclose(own.q_value, benjamini_hochberg(own.p_value))


def test_without_random_sets_there_is_no_p_value():
    found = whole([effect(0, 1, np.empty(0))])
    assert found.p_value.isna().all() and found.q_value.isna().all() and found.draws.tolist() == [0, 0]
