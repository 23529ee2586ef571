"""Paired comparisons: of methods with each other, and of reconstructions with their own floors."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from percept.evaluation import table
from percept.evaluation.compare import FLOORS, compare
from percept.evaluation.decoder import score_decoder
from percept.statistics import benjamini_hochberg, paired_comparison

from .worlds import Cosine, world


@pytest.fixture(scope="module")
def compared_once(label, settings):
    tables = []
    for name, noise, seed in (("good", 0.5, 0), ("good", 0.5, 1), ("poor", 3.0, 0)):
        predictions, candidates = world(n_images=80, noise=noise, seed=3)
        one = replace(label, name=name, seed=seed)
        tables.append(score_decoder(predictions, candidates, Cosine(), one, settings).items)
    return table.concat(tables, table.ITEM_SCHEMA)


@pytest.fixture
def two_methods(compared_once):
    """Values of the methods alone."""
    return compared_once[compared_once["control"].isna()].copy()


def test_a_decoder_is_compared_with_shuffled_pairing(compared_once, settings):
    compared = compare(compared_once, settings)
    floors = compared[compared["control_second"] == "shuffled"]
    assert set(floors["name_first"]) == {"good", "poor"} == set(floors["name_second"])
    assert (floors["name_first"] == floors["name_second"]).all()
    row = floors[
        (floors["metric"] == "top1") & (floors["pool"] == 80) & (floors["name_first"] == "good")
    ].iloc[0]
    own = compared_once[(compared_once["metric"] == "top1") & (compared_once["pool"] == 80)]
    own = own[(own["name"] == "good") & (own["direction"] == row["direction"])]
    scored = own[own["control"].isna()]["value"].mean()
    others = (1 - scored) / 79  # somebody else's image comes first as often as one's own does not
    assert row["difference"] == pytest.approx(scored - others)
    assert 0 < row["ci_low"] < row["difference"] < row["ci_high"]


def test_methods_are_compared_pairwise_on_the_same_items(two_methods, settings):
    compared = compare(two_methods, settings)
    row = compared[(compared["metric"] == "top1") & (compared["pool"] == 80)].iloc[0]
    assert (row["name_first"], row["name_second"]) == ("good", "poor")
    assert row["difference"] > 0.3
    assert row["ci_low"] > 0
    assert row["p_value"] == pytest.approx(1 / 201)
    assert row["p_value"] <= row["q_value"] <= 1
    assert row["n"] == 80
    assert not compared.duplicated(["metric", "direction", "pool"]).any()


def test_only_shared_items_are_compared(two_methods, settings):
    poor = two_methods["name"] == "poor"
    half = two_methods["stimulus"] < two_methods["stimulus"].median()
    compared = compare(two_methods[~poor | half], settings)
    assert set(compared["n"]) == {40}


def test_one_method_alone_gives_no_comparison(two_methods, settings):
    compared = compare(two_methods[two_methods["name"] == "good"], settings)
    assert len(compared) == 0
    assert {"difference", "q_value", "name_first"} <= set(compared.columns)


@pytest.mark.parametrize("control", ["validation", "recovery", "noise_ceiling"])
def test_what_is_no_floor_is_not_compared(two_methods, settings, control):
    two_methods["control"] = control
    assert len(compare(two_methods, settings)) == 0


def of_images(label, values):
    """Items of a reconstruction: control (None for itself) -> value of each image."""
    named = replace(label, what="reconstruction", scoring=None, seed=None)
    parts = [
        pd.DataFrame({**vars(named), "control": control, "metric": "ssim", "stimulus": range(len(each)),
                      "run": -1, "value": each})
        for control, each in values.items()
    ]  # fmt: skip
    return table.concat(parts, table.ITEM_SCHEMA)


@pytest.fixture
def own(rng):
    return rng.normal(size=30)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_reconstruction_is_compared_with_each_of_its_floors_on_the_same_images(label, settings, own, floor):
    lower = own - 0.2
    compared = compare(of_images(label, {None: own, floor: lower, "recovery": own + 1}), settings)
    (row,) = compared.itertuples()
    assert (row.name_first, row.name_second, row.control_second) == ("ridge", "ridge", floor)
    assert (row.difference, row.ci_low, row.ci_high) == pytest.approx((0.2, 0.2, 0.2))
    assert row.n == 30


def test_the_comparison_is_the_paired_bootstrap_of_statistics(label, settings, own, rng):
    floor = rng.normal(size=30)
    (row,) = compare(of_images(label, {None: own, "shuffled": floor}), settings).itertuples()
    expected = paired_comparison(
        own, floor, settings.bootstrap, settings.confidence, np.random.default_rng(0)
    )
    assert (row.difference, row.ci_low, row.ci_high, row.p_value, row.n) == pytest.approx(tuple(expected))


def test_reconstructions_are_compared_with_each_other_but_not_with_floors_of_another(label, settings, own):
    other = replace(label, name="other")
    items = [of_images(label, {None: own}), of_images(other, {None: own + 1, "mean_image": own})]
    compared = compare(table.concat(items, table.ITEM_SCHEMA), settings)
    pairs = compared[["name_first", "name_second", "control_second"]].fillna("").to_numpy().tolist()
    assert pairs == [["other", "ridge", ""], ["other", "other", "mean_image"]]


def test_false_discoveries_are_counted_apart_for_methods_and_floors(label, settings, own, rng):
    values = {None: own, "shuffled": own - 1, "mean_image": own - 1, "random_image": own - 1}
    items = [of_images(replace(label, name=name), {k: v + rng.normal(0, 0.5, 30) for k, v in values.items()})
             for name in ("a", "b", "c")]  # fmt: skip
    compared = compare(table.concat(items, table.ITEM_SCHEMA), settings)
    for family in (compared["control_second"].notna(), compared["control_second"].isna()):
        rows = compared[family]
        assert len(rows) >= 3
        np.testing.assert_allclose(rows["q_value"], benjamini_hochberg(rows["p_value"]))


def ranked(label, rules, seed=0):
    """Items of a decoder: scoring rule -> values of each image and whether it was chosen."""
    named = replace(label, scoring=None, seed=seed)
    parts = [
        pd.DataFrame({**vars(named), "metric": "top1", "direction": "image_from_brain", "pool": 30, "run": -1,
                      "scoring": rule, "stimulus": range(len(each)), "value": each, "chosen": chosen})
        for rule, (each, chosen) in rules.items()
    ]  # fmt: skip
    return table.concat(parts, table.ITEM_SCHEMA)


def pairs_of(compared):
    who = ["rule", "name_first", "scoring_first", "name_second", "scoring_second"]
    return compared.set_index(who)["difference"].round(9).to_dict()


def test_chosen_is_compared_with_chosen_and_cosine_with_cosine(label, settings, own):
    items = [
        ranked(replace(label, name="network"), {"cosine": (own + 3, True)}),
        ranked(replace(label, name="ridge"), {"cosine": (own, False), "likelihood": (own + 2, True)}),
    ]
    compared = compare(table.concat(items, table.ITEM_SCHEMA), settings)
    assert pairs_of(compared) == {
        ("chosen", "network", "cosine", "ridge", "likelihood"): 1.0,
        ("cosine", "network", "cosine", "ridge", "cosine"): 3.0,
    }
    assert compared["control_second"].isna().all() and (compared["n"] == 30).all()


def test_where_cosine_was_chosen_for_both_there_is_one_comparison(label, settings, own):
    items = [ranked(replace(label, name=name), {"cosine": (own, True)}) for name in ("a", "b")]
    assert compare(table.concat(items, table.ITEM_SCHEMA), settings)["rule"].tolist() == ["chosen"]


def test_seeds_that_chose_different_rules_are_one_method(label, settings, own):
    a = replace(label, name="a")
    items = [
        ranked(a, {"cosine": (own, False), "likelihood": (own + 4, True)}, seed=0),
        ranked(a, {"cosine": (own + 2, False), "centred_cosine": (own + 2, True)}, seed=1),
        ranked(replace(label, name="b"), {"cosine": (own, True)}),
    ]
    compared = compare(table.concat(items, table.ITEM_SCHEMA), settings)
    assert pairs_of(compared) == {
        ("chosen", "a", "centred_cosine/likelihood", "b", "cosine"): 3.0,
        ("cosine", "a", "cosine", "b", "cosine"): 1.0,
    }


def test_false_discoveries_of_each_rule_are_counted_apart(label, settings, own, rng):
    items = [
        ranked(replace(label, name=name), {"cosine": (own + rng.normal(0, 0.5, 30), False),
                                           "likelihood": (own + rng.normal(0, 0.1, 30), True)})
        for name in "abcd"
    ]  # fmt: skip
    compared = compare(table.concat(items, table.ITEM_SCHEMA), settings)
    assert compared["rule"].value_counts().to_dict() == {"chosen": 6, "cosine": 6}
    for _, rows in compared.groupby("rule"):
        np.testing.assert_allclose(rows["q_value"], benjamini_hochberg(rows["p_value"]))
