"""The table and the figure of a sweep, and that of votes: what they show, and that nothing is mixed up."""

import numpy as np
import pandas as pd
import pytest

from percept.evaluation import table
from percept.files import write_parquet
from percept.report import assemble, spec, splits, sweeps, votes
from percept.report.figures import Picture

GRID = {
    f"s_mask-{mask}_batch_size-{size}": {"mask": mask, "training.batch_size": size}
    for mask in ("set1", None)
    for size in (16, 32, 64)
}
RUNS = [(subject, name, seed) for subject in ("subj01", "subj02") for name in GRID for seed in (0, 1)]


def value_of(name, subject, seed):
    """A score that tells every run apart."""
    return 0.1 + 0.01 * list(GRID).index(name) + 0.002 * (subject == "subj02") + 0.001 * seed


def scores(subject, name, seed):
    common = {"dataset": "twin", "protocol": "shared1000", "subject": subject, "what": "decoder"}
    common |= {"name": name, "seed": seed, "unit": "average", "n": 9}
    value = value_of(name, subject, seed)
    rows = [
        common | {"metric": "top1", "direction": direction, "pool": pool, "scoring": "cosine", "chosen": True,
                  "value": value * factor, "ci_low": value * factor - 0.02, "ci_high": value * factor + 0.02}
        for pool, factor in ((50, 2), (150, 1))
        for direction in ("image_from_brain", "brain_from_image")
    ]  # fmt: skip
    other = common | {"metric": "top1", "direction": "image_from_brain", "pool": 150, "value": 9.0,
                      "scoring": "likelihood", "chosen": False}  # fmt: skip
    return table.conform(pd.DataFrame([*rows, other]))


def history(name, epochs=5):
    start = 1 + list(GRID).index(name)
    validation = start + np.array([3, 2, 1, 2, 3])[:epochs]
    return pd.DataFrame({"epoch": np.arange(1, epochs + 1), "loss": start / np.arange(1, epochs + 1),
                         "validation_loss": validation})  # fmt: skip


def by_split(subject, names):
    rows = [
        {"subject": subject, "what": "decoder", "name": name, "seed": 0, "metric": "mae", "split": split,
         "control": control, "value": base + 0.1 * (split == "validation"), "ci_low": base,
         "ci_high": base + 0.2, "n": 30, "target": "latents", "roi": "all"}
        for name in names
        for split in ("train", "validation")
        for control, base in ((None, 0.5), ("mean_target", 0.8), ("shuffled", 0.9))
    ]  # fmt: skip
    return table.conform(pd.DataFrame(rows), {**table.SCHEMA, "split": "string"})


@pytest.fixture
def histories():
    return {run: history(run[1]) for run in RUNS}


@pytest.fixture
def rows(histories):
    parts = [by_split(subject, [*GRID, "not_of_the_sweep"]) for subject in ("subj01", "subj02")]
    return sweeps.long(GRID, {run: scores(*run) for run in RUNS}, parts, histories)


def test_every_row_carries_the_values_of_its_decoder(rows):
    assert set(rows["name"]) == set(GRID)
    for name, own in rows.groupby("name"):
        assert set(own["mask"]) == {sweeps.shown(GRID[name]["mask"])}
        assert set(own["training.batch_size"]) == {str(GRID[name]["training.batch_size"])}


@pytest.mark.parametrize("field", ["roi", "target"])
def test_a_setting_that_is_a_column_of_the_table_can_be_swept(field):
    grid = {f"s_{field}-{value}": {field: value} for value in ("V1", "all")}
    parts = {
        ("subj01", name, 0): scores("subj01", "s_mask-set1_batch_size-16", 0).assign(name=name)
        for name in grid
    }
    found = sweeps.long(grid, parts, [], {})
    assert found.columns.is_unique and set(found["name"]) == set(grid)
    assert (found[field] == found["name"].map({name: one[field] for name, one in grid.items()})).all()
    assert sweeps.wide(found, grid)[field].tolist() == ["V1", "all"]


def test_the_wide_table_has_a_row_per_decoder_with_means_over_subjects_and_seeds(rows):
    found = sweeps.wide(rows, GRID).set_index("decoder")
    assert list(found.index) == list(GRID) and (found["n_runs"] == 4).all()
    for at, name in enumerate(GRID):
        expected = np.mean(
            [value_of(name, subject, seed) for subject in ("subj01", "subj02") for seed in (0, 1)]
        )
        row = found.loc[name]
        assert row["test top1 image_from_brain of 150"] == pytest.approx(expected)
        assert (row["train loss"], row["validation best_loss"]) == (pytest.approx((1 + at) / 5), 2 + at)
        assert row["validation best_epoch"] == 3
        assert row["train mae"] == pytest.approx(0.5) and row["validation mae"] == pytest.approx(0.6)
        assert row["validation mae of mean_target"] == pytest.approx(0.9)


def test_only_the_rule_that_validation_chose_counts(rows):
    assert rows.loc[rows["metric"] == "top1", "value"].max() < 1  # the other rule scored 9


def test_curves_are_means_over_subjects_and_seeds(histories):
    histories[RUNS[0]] = histories[RUNS[0]].assign(loss=histories[RUNS[0]]["loss"] + 4)
    found = sweeps.curves(GRID, histories)
    assert list(found) == ["loss", "validation_loss"] and list(found["loss"]) == list(GRID)
    first = next(iter(GRID))
    np.testing.assert_allclose(found["loss"][first], history(first)["loss"] + 1)


def test_the_figure_has_curves_of_training_and_of_validation_and_scores_over_the_last_setting(
    rows, histories
):
    drawn = sweeps.figure("s", GRID, rows, sweeps.curves(GRID, histories))
    assert isinstance(drawn, Picture) and drawn.name == "sweep" and drawn.data.startswith(b"<?xml")
    assert "6 decoders, by mask and training.batch_size" in drawn.alt
    titles = list(sweeps._scores(rows))
    assert titles[:2] == ["train error", "validation error"] and len(titles) == 4


def test_what_is_solved_at_once_has_scores_and_no_curves(rows):
    solved = {run: pd.DataFrame({"alpha": [1.0], "r2": [0.1]}) for run in RUNS}
    assert sweeps.curves(GRID, solved) == {}
    own = sweeps.long(GRID, {run: scores(*run) for run in RUNS}, [], solved)
    assert set(own["metric"]) == {"top1"}
    assert sweeps.figure("s", GRID, own, {}).data
    assert "train loss" not in sweeps.wide(own, GRID)


def test_the_page_gets_a_table_per_sweep_and_a_figure_with_its_name(rows, histories, tmp_path):
    write_parquet(rows, tmp_path / "s.parquet")
    sweeps.figure("s", GRID, rows, sweeps.curves(GRID, histories)).write(tmp_path / "s.svg")
    tables = assemble.tables([], [tmp_path / "s.parquet"], {"s": GRID}, spec.Words())
    (shown,) = tables["sweeps"]
    assert list(tables) == ["sweeps"] and len(shown["lines"]) == len(GRID)
    assert all(len(line) == len(shown["columns"]) for line in shown["lines"])
    (figure,) = assemble.swept({"s": GRID}, [tmp_path / "s.svg"])
    assert figure.fills == {"label": "s"} and figure.name == "sweep"


# Scores by split.


def test_scores_by_split_stand_beside_their_controls_with_the_mean_first():
    rows = pd.concat([by_split(subject, ["a", "b"]) for subject in ("subj01", "subj02")])
    rows.loc[(rows["subject"] == "subj02") & rows["control"].isna(), "value"] += 0.2
    found = splits.wide(rows)
    assert len(found) == 2 * 2 * 3  # methods, splits, subjects and their mean
    first = found[(found["name"] == "a") & (found["subject"] == "mean")]
    assert first["split"].tolist() == ["train", "validation"]
    assert first["value"].tolist() == pytest.approx([0.6, 0.7])
    assert first["mean"].tolist() == pytest.approx([0.8, 0.9])
    assert first["shuffled"].tolist() == pytest.approx([0.9, 1.0])


def test_the_table_of_the_page_names_score_interval_and_controls(tmp_path):
    write_parquet(by_split("subj01", ["a"]), tmp_path / "splits.parquet")
    (shown,) = assemble.tables([tmp_path / "splits.parquet"], [], {}, spec.Words(alone="subj01"))["splits"]
    assert shown["caption"] == "Training, validation and test · subj01"
    assert shown["lines"][0][:3] == ["a", "Absolute error", "train"]
    assert [len(line) for line in shown["lines"]] == [len(shown["columns"])] * 2
    assert "0.500" in shown["lines"][0][3] and "0.800" in shown["lines"][0][4]


# Votes.


def details(path, members):
    rows = [{"set": "images", "member": member} for member in members]
    write_parquet(pd.DataFrame([*rows, {"set": "recovery", "member": "never"}]), path)
    return path


def test_votes_are_counted_over_test_images_alone(tmp_path):
    paths = [details(tmp_path / "1.parquet", "aab"), details(tmp_path / "2.parquet", "bbb")]
    found = votes.counts([("subj01", "medoid"), ("subj02", "medoid")], paths)
    assert found.groupby("member")["n"].sum().to_dict() == {"a": 2, "b": 4}
    drawn = votes.figure(found)
    assert drawn.alt == "How often each candidate was chosen. medoid: a 2 and b 4."


def test_without_votes_there_is_no_figure():
    assert votes.figure(votes.counts([], [])) is None
