import numpy as np
import pandas as pd
import pytest

from percept.evaluation import table as written
from percept.report.table import METHOD, collect, references, tidy, wide, write_csv

from .tables import evaluation, reconstruction

WHERE = dict(metric="top1", direction="image_from_brain", pool=150, unit="average")


def pick(rows, **where):
    for column, value in where.items():
        rows = rows[rows[column].isna() if value is None else (rows[column] == value).fillna(False)]
    return rows


def one(rows, **where):
    found = pick(rows, **where)
    assert len(found) == 1, found
    return found.iloc[0]


@pytest.fixture(scope="module")
def rows(long):
    return tidy(long)


@pytest.mark.parametrize("name", ["ridge", "ridge_early", "ridge_clip"])
@pytest.mark.parametrize("column", ["value", "ci_low", "ci_high", "limit_oracle", "share_finite", "chance"])
def test_the_mean_is_the_mean_over_subjects(long, rows, name, column):
    mean = one(rows, name=name, control=None, subject="mean", **WHERE)
    assert mean[column] == pytest.approx(pick(long, name=name, control=None, **WHERE)[column].mean())
    assert (mean.n_subjects, mean.n_seeds, mean.n) == (2, 1, 150)


def test_seeds_are_averaged_before_subjects():
    tables = [evaluation("subj01", "ridge", seed=seed) for seed in range(3)]
    tables.append(evaluation("subj02", "ridge", seed=0))
    long = pd.concat(tables)
    by_subject = pick(long, control=None, **WHERE).groupby("subject")["value"].mean()
    rows = tidy(long)
    mean = one(rows, control=None, subject="mean", **WHERE)
    assert mean.value == pytest.approx(by_subject.mean())
    assert mean.value != pytest.approx(pick(long, control=None, **WHERE)["value"].mean())
    assert one(rows, control=None, subject="subj01", **WHERE).n_seeds == 3


def test_a_mean_has_a_limit_only_where_all_subjects_have_one():
    long = pd.concat([evaluation("subj01", "ridge"), evaluation("subj02", "ridge", limits=False)])
    rows = tidy(long)
    assert np.isnan(one(rows, control=None, subject="mean", **WHERE).limit_oracle)
    assert one(rows, control=None, subject="subj01", **WHERE).limit_oracle == 0.9


def test_a_missing_subject_leaves_the_mean_over_the_others():
    long = pd.concat(
        [evaluation("subj01", "ridge"), evaluation("subj02", "ridge"), evaluation("subj01", "ridge_clip")]
    )
    table = wide(long)
    alone = one(table, name="ridge_clip", control=None, **WHERE)
    assert alone.n_subjects == 1 and np.isnan(alone.subj02) and alone["mean"] == alone.subj01


@pytest.mark.parametrize("given_n", [2, 1])
def test_the_interval_of_the_mean_is_the_given_one_where_it_is_over_the_same_subjects(long, given_n):
    own = pick(long, name="ridge", control=None, **WHERE)
    given = own.head(1).assign(
        subject="mean", seed=None, value=own.value.mean(), ci_low=0.1, ci_high=0.9, n=given_n
    )
    mean = one(tidy(pd.concat([long, given])), name="ridge", control=None, subject="mean", **WHERE)
    expected = 0.1 if given_n == 2 else own.ci_low.mean()
    assert mean.ci_low == pytest.approx(expected)
    assert mean.value == pytest.approx(own.value.mean())


def test_numbers_agree_with_the_wide_table_of_the_evaluation(long):
    ours, peer = wide(long), written.wide(written.conform(long))
    keys = [name for name in (*METHOD, "unit", "metric", "direction", "pool", "scoring") if name != "group"]
    ours, peer = (table.astype({"pool": "Int32"}) for table in (ours, peer))
    both = ours.merge(peer, on=keys, suffixes=("", "_peer"))
    methods = (
        long[long.control.isna()].drop(columns="subject").drop_duplicates([k for k in keys if k in long])
    )
    assert len(both) >= len(methods) > 100
    for column in ("mean", "subj01", "subj02", "limit_oracle", "share_finite"):
        np.testing.assert_allclose(both[column], both[f"{column}_peer"], rtol=1e-9)


@pytest.mark.parametrize(
    ("control", "what", "group"),
    [
        (None, "decoder", "decoders"),
        (None, "reconstruction", "reconstructions"),
        (None, "voxels", "voxels"),
        ("shuffled", "decoder", "controls"),
        ("made-up", "decoder", "controls"),
        ("recovery", "reconstruction", "limits"),
        ("published", "decoder", "published"),
        ("validation", "decoder", "selection"),
    ],
)
def test_rows_stand_in_their_group(control, what, group):
    long = evaluation("subj01", "ridge").head(1).assign(control=control, what=what, chance=np.nan)
    assert tidy(long.drop(columns=["limit_oracle", "limit_finite"])).group.unique().tolist() == [group]


def test_groups_follow_each_other_and_pools_ascend(rows):
    groups = list(dict.fromkeys(rows.group))
    assert groups == ["decoders", "reconstructions", "controls", "limits"]
    own = pick(rows, name="ridge", control=None, subject="mean", metric="top1", unit="single")
    assert own.pool.tolist() == [50, 100, 150, 50, 100, 150]
    assert own.direction.tolist() == ["image_from_brain"] * 3 + ["brain_from_image"] * 3


@pytest.mark.parametrize("control", ["chance", "bayes_oracle", "bayes_finite"])
def test_references_stand_once_though_every_decoder_carries_them(long, control):
    as_rows = long[long.control.isna()].assign(control=control)
    column = {"chance": "chance", "bayes_oracle": "limit_oracle", "bayes_finite": "limit_finite"}[control]
    rows = tidy(pd.concat([long, as_rows.assign(value=as_rows[column]).dropna(subset=["value"])]))
    found = pick(rows, control=control, subject="mean", what="decoder", **WHERE)
    assert len(found) == 1 and found.name.isna().all()


def test_a_limit_that_differs_between_rois_names_the_roi():
    early = evaluation("subj01", "ridge_early")
    early["limit_oracle"] *= 0.8
    limits = pick(
        tidy(pd.concat([evaluation("subj01", "ridge"), early])),
        control="bayes_oracle",
        subject="mean",
        **WHERE,
    )
    assert dict(zip(limits.roi, limits.value, strict=True)) == pytest.approx(
        {"nsdgeneral": 0.9, "early": 0.72}
    )


def test_data_without_limits_get_no_limit_rows():
    found = references(written.conform(evaluation("subj01", "ridge", limits=False)))
    assert set(found.control) == {"chance"}


@pytest.mark.parametrize("n_files", [0, 1, 3])
def test_files_are_collected_in_order(tmp_path, n_files):
    names = [f"subj0{n + 1}" for n in range(n_files)]
    for name in names:
        reconstruction(name).to_parquet(tmp_path / f"{name}.parquet")
    long = collect([tmp_path / f"{name}.parquet" for name in names])
    assert list(dict.fromkeys(long.subject)) == names
    assert list(long.columns) == list(written.SCHEMA)


def test_an_empty_table_stays_empty():
    empty = written.concat([])
    assert tidy(empty).empty and wide(empty).empty


def test_the_csv_reads_back_as_the_wide_table(long, tmp_path):
    write_csv(long, tmp_path / "results.csv")
    back, table = pd.read_csv(tmp_path / "results.csv"), wide(long)
    assert list(back.columns) == list(table.columns)
    np.testing.assert_allclose(back["mean"], table["mean"].astype(float), rtol=1e-5)
    np.testing.assert_allclose(back["subj02_ci_high"], table["subj02_ci_high"].astype(float), rtol=1e-5)
