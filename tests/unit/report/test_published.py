from typing import get_args

import numpy as np
import pandas as pd
import pytest

from percept.evaluation.field import FIELD_METRICS
from percept.files import PerceptError
from percept.report import published
from percept.report.table import tidy, wide
from tests.unit.source import REPOSITORY

from .tables import evaluation

FILES = sorted((REPOSITORY / "resources" / "published").glob("*.csv"))
HEADER = ",".join(published.COLUMNS)
GOOD = "MindEye,mean,37/982,clip,,,0.941,Scotti et al. 2023,read,"


@pytest.fixture(scope="module")
def printed():
    return published.load(FILES)


def written(folder, *lines, header=HEADER):
    path = folder / "scores.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_the_shipped_scores_are_not_empty_and_cover_both_protocols(printed):
    assert {path.stem for path in FILES} >= {"mindeye1", "mindeye2", "brain_diffuser_takagi", "independent"}
    assert set(printed.protocol) == {"37/982", "40/1000", "1/1000"} and len(printed) > 300


@pytest.mark.parametrize("column", ["source", "protocol", "sure", "value"])
def test_every_score_says_where_it_is_from_and_how_sure_it_is(printed, column):
    assert printed[column].notna().all()


def test_shares_are_fractions_and_distances_are_distances(printed):
    shares = printed[~printed.metric.isin(["pixcorr", "effnet", "swav"])]
    assert shares.value.between(0, 1).all() and printed.value.between(0, 1).all()
    assert shares[shares.metric.isin(["clip", "inception"])].value.min() > 0.5  # better than chance


@pytest.mark.parametrize(
    ("method", "measures"), [("MindEye", 10), ("MindEye2", 10), ("MindEye2 (1 session)", 10)]
)
def test_the_printed_mean_is_the_mean_of_its_four_subjects_within_rounding(printed, method, measures):
    own = printed[printed.method == method].fillna({"direction": ""})
    table = own.pivot_table("value", ["metric", "direction"], "subject")
    assert len(table) == measures and table.notna().all(axis=None) and table.shape[1] == 5
    of_subjects = table.drop(columns="mean").mean(axis=1)
    np.testing.assert_allclose(table["mean"], of_subjects, atol=0.00055)  # half of the last printed digit


@pytest.mark.parametrize(
    ("method", "asked", "value"),
    [("MindEye", "brain_from_image", 0.936), ("MindEye", "image_from_brain", 0.901),
     ("MindEye2 (1 session)", "brain_from_image", 0.79)],
)  # fmt: skip
def test_a_column_headed_image_asks_which_response_belongs_to_an_image(printed, method, asked, value):
    own = printed[(printed.method == method) & (printed.subject == "mean") & (printed.direction == asked)]
    assert own.value.tolist() == [value] and own.pool.tolist() == [300]
    headed = "Image" if asked == "brain_from_image" else "Brain"
    assert f"headed {headed}" in own.note.item()


def test_a_direction_that_nobody_could_verify_is_not_claimed(printed):
    own = printed[printed.method.str.startswith("Mind-Reader") & (printed.metric == "top1")]
    assert own.direction.isna().all() and own.note.str.contains("could not be verified").all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace("0.941", "94.1"), "line 2.*write shares as fractions"),
        (GOOD.replace("37/982", "982"), "line 2.*protocol"),
        (GOOD.replace(",read,", ",certain,"), "line 2.*sure"),
        (GOOD.replace(",read,", ",,"), "line 2.*sure"),
        (GOOD.replace("Scotti et al. 2023", ""), "line 2.*source"),
        (GOOD.replace("mean", "subj9"), "line 2.*subject"),
        (GOOD.replace("clip", "fid"), "line 2.*metric"),
        (GOOD.replace("clip,,,", "top1,image_from_brain,,"), "has a pool"),
        (GOOD.replace("clip,,,", "clip,,300,"), "has a pool"),
        (GOOD.replace("clip,,,", "top1,forward,300,"), "line 2.*direction"),
        (GOOD.replace("0.941", "high"), "line 2.*value"),
    ],
)
def test_a_line_that_could_mislead_is_refused_with_its_place(tmp_path, line, message):
    path = written(tmp_path, line)
    with pytest.raises(PerceptError, match=message):
        published.load([path])


def test_columns_of_other_names_are_refused(tmp_path):
    path = written(tmp_path, GOOD, header=HEADER.replace("sure", "trust"))
    with pytest.raises(PerceptError, match="are shown with protocol, source"):
        published.load([path])


def test_the_same_score_twice_is_refused(tmp_path):
    path = written(tmp_path, GOOD, GOOD.replace("0.941", "0.942"))
    with pytest.raises(PerceptError, match="say twice what MindEye, mean, 37/982, clip"):
        published.load([path])


def test_no_file_gives_an_empty_table():
    assert published.load([]).empty and list(published.load([]).columns) == list(published.COLUMNS)


def test_rows_of_the_long_table_are_about_nsd_and_say_how_sure(printed):
    rows = published.long(printed)
    assert len(rows) == len(printed) and set(rows.what) == {"published"} and set(rows.dataset) == {"nsd"}
    assert rows.note.str.contains(r"\((?:read|remembered|third-party)\)").all()
    assert published.is_published(rows).all()


def test_printed_scores_never_enter_our_means(printed):
    long = evaluation("subj01", "ridge", dataset="nsd")
    both = pd.concat([long, published.long(printed)])
    pd.testing.assert_frame_equal(tidy(both), tidy(long))


def test_the_wide_table_has_printed_means_as_printed_and_forms_none(printed):
    table = wide(pd.concat([evaluation("subj01", "ridge", dataset="nsd"), published.long(printed)]))
    own = table[table.what == "published"]
    assert len(own) and set(own.group) == {"published"}
    takagi = own[own.name.str.startswith("Takagi") & (own.metric == "clip") & (own.protocol == "37/982")]
    assert takagi["mean"].tolist() == [0.77] and takagi.subj01.isna().all()
    alone = own[(own.name == "MindEye, stored run") & (own.metric == "clip")]
    assert alone.subj01.tolist() == [0.9434] and alone["mean"].isna().all()
    assert {"subj02", "subj05", "subj07"} <= set(table.columns)  # subjects that we did not decode


def test_the_metrics_that_may_be_printed_are_the_fields_and_top1():
    allowed = get_args(published.Row.model_fields["metric"].annotation)
    assert allowed == (*FIELD_METRICS, "top1")
