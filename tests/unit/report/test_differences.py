import numpy as np
import pandas as pd
import pytest

from percept.config import EvaluationConfig
from percept.evaluation import table
from percept.report.differences import COLUMNS, to_controls
from percept.statistics import paired_comparison

from .pictures import CONTROLS, STIMULUS, items

SETTINGS = EvaluationConfig(bootstrap=200)


@pytest.fixture(scope="module")
def both():
    return pd.concat([items(subject) for subject in ("subj01", "subj02")])


@pytest.mark.parametrize("control", [name for name in CONTROLS if name])
def test_a_constant_lead_has_no_spread_however_different_the_images_are(both, control):
    found = to_controls(both, SETTINGS)
    own = found[found.control == control]
    assert len(own) == 2  # metrics
    for column in ("difference", "ci_low", "ci_high"):
        np.testing.assert_allclose(own[column].astype(float), -CONTROLS[control])


def test_of_one_subject_it_is_the_paired_comparison_of_the_statistics():
    table_of_items = items()
    rng = np.random.default_rng(1)
    noisy = table_of_items.control == "nearest_train"
    table_of_items.loc[noisy, "value"] = rng.uniform(0, 1, noisy.sum())
    found = to_controls(table_of_items, SETTINGS)
    own = found[(found.control == "nearest_train") & (found.metric == "pixcorr")].iloc[0]
    pixcorr = table_of_items[table_of_items.metric == "pixcorr"]
    method = pixcorr[pixcorr.control.isna()].value.to_numpy(float)
    peer = paired_comparison(method, pixcorr[pixcorr.control == "nearest_train"].value.to_numpy(float))
    assert own.difference == pytest.approx(peer.difference)
    assert own.ci_low == pytest.approx(peer.low, abs=0.05) and own.ci_high == pytest.approx(
        peer.high, abs=0.05
    )


def test_images_that_one_of_the_two_lacks_are_left_out(both):
    gone = (both.control == "mean_image") & (both.stimulus == STIMULUS[0])
    extreme = both.assign(value=both.value.mask(both.control.isna() & (both.stimulus == STIMULUS[0]), 99.0))
    own = to_controls(extreme[~gone], SETTINGS)
    np.testing.assert_allclose(own[own.control == "mean_image"].difference.astype(float), 0.3)


@pytest.mark.parametrize("n_subjects", [1, 2])
def test_n_counts_subjects(both, n_subjects):
    own = both[both.subject.isin(["subj01", "subj02"][:n_subjects])]
    assert set(to_controls(own, SETTINGS).n) == {n_subjects}


def test_decoders_and_missing_values_are_not_compared(both):
    decoders = both.assign(what="decoder")
    missing = both.assign(value=np.nan)
    empty = table.concat([], table.ITEM_SCHEMA)
    for nothing in (decoders, missing, empty):
        found = to_controls(nothing, SETTINGS)
        assert found.empty and list(found.columns) == COLUMNS
