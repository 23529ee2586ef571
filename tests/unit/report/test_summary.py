import numpy as np
import pandas as pd
import pytest

from percept.report.summary import chosen, headline_pool, matrices, summarise

from .tables import evaluation, reconstruction

WHERE = dict(metric="top1", direction="image_from_brain", pool=150, control=None)


def under_rules(subject, on_test, on_validation, name="ridge"):
    """One decoder under several scoring rules: rule -> its score in every pool, on test, on validation."""
    table = evaluation(subject, name)
    parts = []
    for rule, value in on_test.items():
        scored = table[table.scoring.notna()].assign(scoring=rule, value=value)
        parts.append(scored)
        if rule in on_validation:
            parts.append(scored.assign(control="validation", value=on_validation[rule]))
    return pd.concat(parts)


def methods(rows, **where):
    for column, value in (WHERE | where).items():
        rows = rows[rows[column].isna() if value is None else (rows[column] == value).fillna(False)]
    return rows


@pytest.mark.parametrize("better_on_validation", ["cosine", "likelihood"])
def test_validation_chooses_the_rule_even_where_test_prefers_another(better_on_validation):
    validation = {"cosine": 0.3, "likelihood": 0.3} | {better_on_validation: 0.4}
    test = {"cosine": 0.5, "likelihood": 0.5} | {better_on_validation: 0.2}
    rows = methods(chosen(under_rules("subj01", test, validation)))
    assert rows.scoring.tolist() == [better_on_validation] and rows.value.tolist() == [0.2]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (("cosine", "likelihood"), "likelihood"),
        (("cosine", "centred_cosine"), "centred_cosine"),
        (("own",), "own"),
    ],
)
def test_without_validation_scores_the_order_of_rules_decides_and_test_scores_do_not(rules, expected):
    on_test = {rule: 0.9 - 0.1 * (rule == expected) for rule in rules}
    assert methods(chosen(under_rules("subj01", on_test, {}))).scoring.tolist() == [expected]


def test_a_rule_that_is_marked_as_chosen_counts_whatever_it_scored():
    long = under_rules("subj01", {"cosine": 0.2, "likelihood": 0.6}, {"cosine": 0.1, "likelihood": 0.5})
    long["chosen"] = (long.scoring == "cosine").astype("boolean")
    rows = methods(chosen(long))
    assert rows.scoring.tolist() == ["cosine"] and rows.value.tolist() == [0.2]


def test_subjects_may_choose_differently_and_the_mean_is_over_their_choices():
    first = under_rules("subj01", {"cosine": 0.2, "likelihood": 0.6}, {"cosine": 0.5, "likelihood": 0.4})
    second = under_rules("subj02", {"cosine": 0.3, "likelihood": 0.8}, {"cosine": 0.4, "likelihood": 0.5})
    mean = methods(summarise(pd.concat([first, second])), subject="mean", unit="average")
    assert mean.value.tolist() == pytest.approx([(0.2 + 0.8) / 2])
    assert mean.note.tolist() == ["scoring: cosine; scoring: likelihood"]


@pytest.mark.parametrize("alike", [True, False])
def test_a_given_interval_of_the_mean_counts_only_where_all_subjects_chose_alike(alike):
    second = {"cosine": 0.5, "likelihood": 0.4} if alike else {"cosine": 0.4, "likelihood": 0.5}
    long = pd.concat(
        [
            under_rules("subj01", {"cosine": 0.2, "likelihood": 0.6}, {"cosine": 0.5, "likelihood": 0.4}),
            under_rules("subj02", {"cosine": 0.2, "likelihood": 0.6}, second),
        ]
    )
    given = long[long.control.isna() & (long.subject == "subj01")]
    given = given.assign(subject="mean", n=2, ci_low=0.01, ci_high=0.99)
    mean = methods(summarise(pd.concat([long, given])), subject="mean", unit="average").iloc[0]
    assert (mean.ci_low == 0.01) == alike


def test_rows_of_model_selection_are_not_in_the_summary():
    long = under_rules("subj01", {"cosine": 0.2}, {"cosine": 0.5})
    assert (long.control == "validation").any()
    assert "selection" not in set(summarise(long).group)


@pytest.mark.parametrize(("pools", "expected"), [((50, 100, 150), 150), ((50, 300, 982), 300), ((50,), 50)])
def test_the_headline_pool_is_300_or_the_largest(pools, expected):
    assert headline_pool(summarise(evaluation("subj01", "ridge", pools=pools))) == expected


def test_a_pool_that_one_subject_lacks_is_not_the_headline():
    long = pd.concat([evaluation("subj01", "ridge"), evaluation("subj02", "ridge", pools=(50, 100))])
    assert headline_pool(summarise(long)) == 100


@pytest.mark.parametrize("subject", ["mean", "subj01", "subj02"])
def test_a_matrix_holds_each_decoder_once_and_the_right_numbers(long, subject):
    rows = summarise(long)
    found = {(one.what, one.unit): one for one in matrices(rows, subject)}
    assert set(found) == {("decoder", "average"), ("decoder", "single"), ("reconstruction", "average")}
    lines = found["decoder", "single"].blocks["decoders"]
    assert [line.method["name"] for line in lines] == ["ridge", "ridge_early", "ridge_higher", "ridge_clip"]
    own = methods(rows, subject=subject, unit="single", name="ridge_early")
    assert lines[1].cells[0].value == own.value.item()


def test_controls_of_many_decoders_share_a_line_that_is_their_mean(long):
    rows = summarise(long)
    controls = matrices(rows)[0].blocks["controls"]
    assert [line.method.control for line in controls] == ["chance", "shuffled"]
    own = methods(rows, control="shuffled", subject="mean", unit="average")
    assert len(own) == 4
    assert controls[1].cells[0].value == pytest.approx(own.value.mean())


def test_blocks_stand_in_the_order_of_the_specification(long):
    for matrix in matrices(summarise(long)):
        expected = ["controls", "limits"] if matrix.what == "decoder" else ["controls"]
        assert list(matrix.blocks)[1:] == expected


def test_protocols_are_never_mixed():
    other = evaluation("subj01", "ridge").assign(protocol="shared982")
    found = matrices(summarise(pd.concat([evaluation("subj01", "ridge"), other])))
    assert [one.protocol for one in found] == ["shared1000", "shared982"]


def test_measures_that_nobody_has_are_no_columns():
    matrix = matrices(summarise(reconstruction("subj01").query("metric != 'ssim'")))[0]
    assert [column.metric for column in matrix.columns] == ["pixcorr", "pixel_two_way"]
    assert np.isfinite(matrix.blocks["reconstructions"][0].cells[0].value)
