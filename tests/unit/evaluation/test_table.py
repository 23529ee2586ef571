"""The long table's schema, its means over subjects, and its wide form."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from percept.evaluation import table
from percept.evaluation.decoder import score_decoder
from percept.statistics import hierarchical_bootstrap

from .worlds import Cosine, world


@pytest.fixture
def row(label):
    return table.rows(label, [{"metric": "top1", "value": 0.4, "pool": 50, "n": 40}])


def test_a_row_has_the_columns_of_the_schema_in_order(row):
    assert list(row.columns) == list(table.SCHEMA)
    assert row.dtypes.astype(str).to_dict() == table.SCHEMA
    assert row.loc[0, "subject"] == "subj01"
    assert row.loc[0, "pool"] == 50
    assert pd.isna(row.loc[0, "control"])
    assert np.isnan(row.loc[0, "limit_oracle"])


def test_a_record_overrides_its_label(label):
    row = table.rows(label, [{"metric": "top1", "control": "chance"}])
    assert row.loc[0, "control"] == "chance"


def test_parquet_keeps_schema_and_missing_values(row, tmp_path):
    row.to_parquet(tmp_path / "rows.parquet", index=False)
    back = table.conform(pd.read_parquet(tmp_path / "rows.parquet"))
    pd.testing.assert_frame_equal(back, row)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("metrik", "top1", "has no column 'metrik'"),
        ("pool", "many", "column 'pool' of the results table has to hold Int32"),
        ("pool", 2.5, "column 'pool' of the results table has to hold Int32"),
        ("value", "high", "column 'value' of the results table has to hold float64"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused(row, column, value, message):
    with pytest.raises(ValueError, match=message):
        table.conform(row.assign(**{column: pd.Series([value], dtype="object")}))


@pytest.mark.parametrize("schema", [table.SCHEMA, table.ITEM_SCHEMA])
def test_nothing_gives_an_empty_table_of_the_schema(schema):
    for tables in ([], [pd.DataFrame()]):
        empty = table.concat(tables, schema)
        assert len(empty) == 0
        assert empty.dtypes.astype(str).to_dict() == schema


def test_tables_are_joined_in_order_without_touching_them(row):
    other = row.assign(name="mindeye")[row.columns[::-1]]
    before = other.copy()
    joined = table.concat([row, pd.DataFrame(), other])
    assert joined["name"].tolist() == ["ridge", "mindeye"]
    assert joined.index.tolist() == [0, 1]
    pd.testing.assert_frame_equal(other, before)


@pytest.fixture(scope="module")
def scored_once(label, settings):
    """Three subjects, the first with two seeds, all with the same test images."""
    scores = []
    for subject, seed, noise in (
        ("subj01", 0, 0.5),
        ("subj01", 1, 0.6),
        ("subj02", 0, 1.0),
        ("subj05", 0, 2.0),
    ):
        predictions, candidates = world(noise=noise)
        one = replace(label, subject=subject, seed=seed)
        scores.append(score_decoder(predictions, candidates, Cosine(), one, settings))
    return table.concat([s.rows for s in scores]), table.concat([s.items for s in scores], table.ITEM_SCHEMA)


@pytest.fixture
def study(scored_once):
    """Copies, because tests change them."""
    return tuple(part.copy() for part in scored_once)


def top1(rows, subject=None):
    here = (rows["metric"] == "top1") & (rows["pool"] == 40) & rows["control"].isna()
    here &= rows["direction"] == "image_from_brain"
    return rows[here] if subject is None else rows[here & (rows["subject"] == subject)]


def test_the_mean_over_subjects_averages_seeds_first(study, settings):
    long, items = study
    mean = top1(table.over_subjects(long, items, settings)).iloc[0]
    by_subject = [top1(long, subject)["value"].mean() for subject in ("subj01", "subj02", "subj05")]
    assert mean["value"] == pytest.approx(np.mean(by_subject))
    assert mean["n"] == 3
    assert mean["subject"] == "mean"
    assert mean["chance"] == pytest.approx(1 / 40)
    assert pd.isna(mean["seed"])


def test_the_interval_over_subjects_is_the_crossed_bootstrap(study, settings):
    long, items = study
    own = items[
        (items["metric"] == "top1") & (items["pool"] == 40) & (items["direction"] == "image_from_brain")
    ]
    own = own[own["control"].isna()]
    values = own.groupby(["subject", "stimulus"])["value"].mean().unstack("subject").to_numpy()
    expected = hierarchical_bootstrap(
        list(values.T), settings.bootstrap, settings.confidence, settings.seed, True
    )
    mean = top1(table.over_subjects(long, items, settings)).iloc[0]
    assert_allclose([mean["ci_low"], mean["ci_high"]], [expected.low, expected.high])


def test_subjects_with_other_images_are_resampled_apart(study, settings):
    long, items = study
    moved = items.assign(stimulus=items["stimulus"] + (items["subject"] == "subj05").astype(int) * 80000)
    mean = top1(table.over_subjects(long, moved, settings)).iloc[0]
    crossed = top1(table.over_subjects(long, items, settings)).iloc[0]
    assert mean["ci_low"] < mean["value"] < mean["ci_high"]
    assert mean["ci_low"] != crossed["ci_low"]


def test_a_mean_of_medians_has_no_interval(study, settings):
    means = table.over_subjects(*study, settings)
    rank = means[(means["metric"] == "median_rank") & means["control"].isna()].iloc[0]
    assert np.isnan(rank["ci_low"])
    assert rank["value"] >= 1


def test_floors_have_means_but_borrow_no_interval(study, settings):
    means = table.over_subjects(*study, settings)
    chance = means[(means["metric"] == "top1") & (means["control"] == "chance").fillna(False)]
    assert chance["ci_low"].isna().all()
    assert set(np.round(chance["value"], 4)) == {0.2, 0.05, 0.025}


def test_one_rule_per_subject_gives_one_mean(study, settings):
    long, items = study
    for part in (long, items):
        part["scoring"] = part["scoring"].mask(
            (part["subject"] == "subj02") & part["scoring"].notna(), "likelihood"
        )
    mean = top1(table.over_subjects(long, items, settings))
    assert mean["scoring"].tolist() == ["cosine/likelihood"]
    assert mean["n"].tolist() == [3]
    assert len(top1_of_wide(table.wide(long))) == 1


def test_of_several_rules_the_mean_takes_the_chosen_ones(study, settings):
    long, items = study
    second, other = long["subject"] == "subj02", long["direction"] == "brain_from_image"
    chosen = (~second | other).astype("boolean").where(long["scoring"].notna())  # subj02: not for images
    rules = table.concat(
        [long.assign(chosen=chosen), long.assign(chosen=~chosen, scoring="likelihood", value=0.123)]
    )
    rules = rules[rules["scoring"].notna()]
    mean = top1(table.over_subjects(rules, items, settings))
    assert mean["scoring"].tolist() == ["cosine/likelihood"]
    means = [top1(long, subject)["value"].mean() for subject in ("subj01", "subj05")]
    assert mean["value"].item() == pytest.approx((sum(means) + 0.123) / 3)
    assert len(top1_of_wide(table.wide(rules))) == 1


def test_rules_reported_side_by_side_stay_apart(study, settings):
    long, items = study
    both = [table.concat([part, part.assign(scoring="likelihood")], schema) for part, schema in
            ((long, table.SCHEMA), (items, table.ITEM_SCHEMA))]  # fmt: skip
    assert sorted(top1(table.over_subjects(*both, settings))["scoring"]) == ["cosine", "likelihood"]


def test_items_under_a_rule_that_was_not_chosen_play_no_part_in_the_mean(study, settings):
    long, items = study
    other = items.assign(value=items["value"] + 7, scoring="likelihood", chosen=False)
    both = table.concat([items.assign(chosen=True), other], table.ITEM_SCHEMA)
    pd.testing.assert_frame_equal(
        table.over_subjects(long, both, settings), table.over_subjects(long, items, settings)
    )


def top1_of_wide(wide):
    here = (wide["metric"] == "top1") & (wide["pool"] == 40) & wide["control"].isna()
    return wide[here & (wide["direction"] == "image_from_brain")]


@pytest.mark.parametrize("with_mean", [True, False])
def test_the_wide_table_has_a_line_per_quantity_and_subjects_in_columns(study, settings, with_mean):
    long, items = study
    tables = [long, table.over_subjects(long, items, settings)] if with_mean else [long]
    line = top1_of_wide(table.wide(table.concat(tables)))
    assert len(line) == 1
    line = line.iloc[0]
    for subject in ("subj02", "subj05"):
        own = top1(long, subject).iloc[0]
        assert line[subject] == own["value"]
        assert (line[f"{subject}_low"], line[f"{subject}_high"]) == (own["ci_low"], own["ci_high"])
        assert line[f"{subject}_n"] == 40
    assert line["subj01"] == pytest.approx(top1(long, "subj01")["value"].mean())
    assert line["n_seeds"] == 2
    assert line["protocol"] == "shared1000"
    assert line["mean"] == pytest.approx(line[["subj01", "subj02", "subj05"]].astype(float).mean())
    assert np.isnan(line["mean_low"]) != with_mean
    assert "pools 300 skipped" in line["note"]


def test_no_line_is_lost_in_the_wide_table(study):
    long, _ = study
    wide = table.wide(long)
    one = long[(long["subject"] == "subj02")]
    assert len(wide) == len(one)
    assert not wide.duplicated(table.KEY).any()


def test_protocols_are_never_mixed(study, settings):
    long, items = study
    other = long["subject"] == "subj05"
    long = long.assign(protocol=long["protocol"].mask(other, "shared982"))
    mean = top1(table.over_subjects(long, items, settings))
    assert sorted(mean["protocol"]) == ["shared1000", "shared982"]
