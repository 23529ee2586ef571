import numpy as np
import pandas as pd
import pytest

from percept.config import EvaluationConfig
from percept.report import differences, latex, reconstructions, summary, views
from percept.report.spec import Words, load
from percept.report.table import wide

from .pictures import items, scores

WORDS = Words()
FIELD = ("alexnet2", "alexnet5", "inception", "clip", "swav")


@pytest.fixture(scope="module")
def rows():
    parts = [
        scores(who, name, lacking=FIELD) for who in ("subj01", "subj02") for name in ("linear", "unclip")
    ]
    return summary.summarise(pd.concat(parts))


@pytest.fixture(scope="module")
def gains():
    parts = [
        items(who, name, ("pixcorr", "effnet"))
        for who in ("subj01", "subj02")
        for name in ("linear", "unclip")
    ]
    return differences.to_controls(pd.concat(parts), EvaluationConfig(bootstrap=50))


@pytest.fixture(scope="module")
def shown(rows, gains):
    return {one["name"]: one for one in reconstructions.tables(rows, gains, WORDS)}


def line(table, label):
    return next(one for one in table["lines"] if one["label"] == label)


def test_every_method_has_a_table_with_the_metrics_in_the_order_of_the_field(shown):
    assert list(shown) == ["linear", "unclip"]
    labels = [one["label"] for one in shown["unclip"]["lines"]]
    assert labels == [
        "PixCorr",
        "SSIM",
        "AlexNet(2)",
        "AlexNet(5)",
        "Inception",
        "CLIP",
        "EffNet-B",
        "SwAV",
        "Tiny CLIP",
    ]


def test_the_recovery_stands_directly_beside_the_reconstruction(shown):
    assert shown["unclip"]["columns"][0] == "Recovery ceiling"
    cells = line(shown["unclip"], "SSIM")["cells"]
    assert [cell["value"] for cell in cells[:2]] == ["0.500", "0.700"]


@pytest.mark.parametrize("label", ["AlexNet(2)", "CLIP", "SwAV"])
def test_what_could_not_be_measured_says_so_and_shows_no_number(shown, label):
    one = line(shown["unclip"], label)
    assert one["missing"].startswith("not available: no ") and one["cells"] == []


@pytest.mark.parametrize(
    ("label", "control", "difference", "verdict"),
    [
        ("PixCorr", "Mean training image", "+0.300 [0.300, 0.300]", "better"),
        ("PixCorr", "Recovery ceiling", "−0.200 [−0.200, −0.200]", "worse"),
        ("EffNet-B", "Mean training image", "+0.300 [0.300, 0.300]", "worse"),  # a distance
        ("EffNet-B", "Recovery ceiling", "−0.200 [−0.200, −0.200]", "better"),
        ("SSIM", "Mean training image", "", ""),  # no values of single images
    ],
)
def test_a_control_has_the_paired_difference_and_which_side_it_is_on(
    shown, label, control, difference, verdict
):
    at = shown["unclip"]["columns"].index(control) + 1
    cell = line(shown["unclip"], label)["cells"][at]
    assert (cell["difference"], cell["verdict"]) == (difference, verdict)


def test_hints_say_chance_and_which_way_is_up(shown):
    assert line(shown["unclip"], "Tiny CLIP")["hint"] == "chance 50.0\u202f%"
    assert line(shown["unclip"], "EffNet-B")["hint"] == "lower is better"
    assert shown["unclip"]["key"] == "PixCorr 0.500 · SSIM 0.500 · Tiny CLIP 50.0\u202f%"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        ("not available: weights absent", "not available: weights absent"),
        ("scoring: x; not available: weights absent", "not available: weights absent"),
        ("anything else", "not available"),
        (None, "not available"),
    ],
)
def test_the_reason_is_taken_from_the_note(note, said):
    assert reconstructions.reason(note) == said


def test_in_the_summary_recoveries_follow_their_method_and_controls_come_below(rows):
    matrix = next(one for one in summary.matrices(rows) if one.what == "reconstruction")
    lines = views.summary(matrix, WORDS)["blocks"][0]["lines"]
    assert [(one["name"], one["below"]) for one in lines] == [
        ("linear", False), ("its recovery", True), ("unclip", False), ("its recovery", True)
    ]  # fmt: skip
    assert list(matrix.blocks) == ["reconstructions", "controls"]


def test_metrics_without_any_value_are_no_columns_but_are_named(rows):
    matrix = next(one for one in summary.matrices(rows) if one.what == "reconstruction")
    assert [column.metric for column in matrix.columns] == ["pixcorr", "ssim", "effnet", "tiny_clip"]
    assert set(matrix.missing) == set(FIELD)
    assert "CLIP, because no clip here" in views.summary(matrix, WORDS)["missing"]


def test_a_metric_that_one_subject_lacks_stays_a_column():
    both = summary.summarise(
        pd.concat([scores("subj01"), scores("subj02", metrics=("pixcorr",), lacking=("ssim",))])
    )
    matrix = next(one for one in summary.matrices(both) if one.what == "reconstruction")
    assert "ssim" not in matrix.missing
    assert np.isnan(
        next(row for row in both[both.metric == "ssim"].itertuples() if row.subject == "mean").value
    )


def test_tables_survive_values_that_are_missing():
    long = scores(lacking=FIELD)
    table, tex = wide(long), latex.table(long)
    assert table[table.metric == "clip"]["mean"].isna().all() and len(table[table.metric == "clip"]) == 1
    assert "AlexNet" not in tex.split(r"\caption")[1].split(r"\end{tabular}")[0]
    assert "nan" not in tex and "PixCorr" in tex


@pytest.mark.parametrize(
    ("name", "label", "better"),
    [
        ("ssim_columns", "SSIM, columns as channels", "higher"),
        ("clip_by_image", "CLIP, by image", "higher"),
        ("effnet_antialias", "EffNet-B, antialiased", "lower"),
        ("made_up_antialias", "Made up antialias", "higher"),
        ("clip_antialias_by_image", "CLIP, antialiased, by image", "higher"),
        ("ssim_columns_antialias", "SSIM, columns as channels, antialiased", "higher"),
        ("effnet_antialias_by_image_antialias", "EffNet-B, antialiased, by image, antialiased", "lower"),
    ],
)
def test_a_variant_of_a_metric_is_named_after_it(name, label, better):
    assert (load().metric(name).label, load().metric(name).better) == (label, better)


@pytest.mark.parametrize(
    "name", ["tiny_clip", "judge_early", "judge_late", "object", "category", "lpips", "swav"]
)
def test_every_image_metric_has_a_label_and_a_definition(name):
    assert load().metrics[name].label and len(load().metrics[name].reads) > 40


# Chance that belongs to one method, notes, reasons.


def judged(chances, subjects=("subj01", "subj02")):
    """Two metrics of each method; that of the judge has a chance of the method's own."""
    parts = []
    for name, chance in chances.items():
        for at, who in enumerate(subjects):
            both = scores(who, name, ("tiny_clip", "object"))
            own = both["metric"] == "object"
            both["chance"] = both["chance"].mask(own, chance + at / 100)
            floors = both[both["control"].isna()].assign(control="chance", value=lambda part: part["chance"])
            parts.append(pd.concat([both, floors]))
    return pd.concat(parts)


@pytest.fixture(scope="module")
def unequal():
    return judged({"linear": 0.1, "unclip": 0.3})


def test_every_method_is_told_its_own_chance(unequal, gains):
    shown = {
        one["name"]: one for one in reconstructions.tables(summary.summarise(unequal), gains.iloc[:0], WORDS)
    }
    hints = {name: line(table, "Object")["hint"] for name, table in shown.items()}
    assert hints == {"linear": "chance 10.5\u202f%", "unclip": "chance 30.5\u202f%"}
    assert {line(table, "Tiny CLIP")["hint"] for table in shown.values()} == {"chance 50.0\u202f%"}


def test_chance_that_differs_between_methods_is_no_row_and_splits_none(unequal):
    rows = summary.summarise(unequal)
    floors = rows[(rows["control"] == "chance") & (rows["subject"] == "mean")]
    assert floors["metric"].tolist() == ["tiny_clip"]
    matrix = next(one for one in summary.matrices(rows) if one.what == "reconstruction")
    labels = [one["name"] for block in views.summary(matrix, WORDS)["blocks"] for one in block["lines"]]
    assert labels.count("Chance") == 1


def test_chance_that_is_the_same_for_all_methods_stays_a_row():
    rows = summary.summarise(judged({"linear": 0.2, "unclip": 0.2}))
    floors = rows[(rows["control"] == "chance") & (rows["subject"] == "mean")]
    assert floors.set_index("metric")["value"].to_dict() == pytest.approx({"tiny_clip": 0.5, "object": 0.205})


@pytest.fixture(scope="module")
def told():
    """A method that was rescaled on the test set, with more on one metric; another that was not."""
    said = "rescaled on the test set: semantic"
    noted = scores("subj01", "linear", ("pixcorr", "ssim"), lacking=("clip", "swav", "inception"))
    own = noted["control"].isna() & noted["value"].notna()
    noted.loc[own, "note"] = said
    noted.loc[own & (noted["metric"] == "ssim"), "note"] = f"of its own; {said}"
    plain = scores("subj01", "unclip", ("pixcorr", "ssim"))
    both = pd.concat([noted, plain])
    same = both["metric"].isin(["clip", "swav"])
    return both.assign(note=both["note"].mask(same, "not available: nobody asked"))


def test_a_note_on_all_scores_of_a_method_is_shown_with_it(told, gains):
    rows = summary.summarise(told)
    shown = {one["name"]: one["notes"] for one in reconstructions.tables(rows, gains.iloc[:0], WORDS)}
    assert shown == {"linear": ["rescaled on the test set: semantic"], "unclip": []}
    matrix = next(one for one in summary.matrices(rows) if one.what == "reconstruction")
    assert views.summary(matrix, WORDS)["notes"] == ["linear: rescaled on the test set: semantic"]


def test_metrics_with_the_same_reason_are_named_together(told):
    matrix = next(one for one in summary.matrices(summary.summarise(told)) if one.what == "reconstruction")
    assert views.summary(matrix, WORDS)["missing"] == [
        "Inception, because no inception here",
        "CLIP and SwAV, because nobody asked",
    ]


def test_latex_says_under_the_table_what_is_missing_and_what_was_rescaled(told):
    below = latex.table(told).split(r"\end{tabular}")[1].split(r"\end{table}")[0]
    assert (
        "Not available: Inception, because no inception here; CLIP and SwAV, because nobody asked." in below
    )
    assert "linear: rescaled on the test set: semantic." in below
