"""Figures of what decoders use: bars, their null, and what is said with them."""

import numpy as np
import pandas as pd
import pytest

from percept.files import write_parquet
from percept.interpretation import table
from percept.report import interpretation, spec, views
from percept.report.figures import COLOURS, FAINT

REGIONS = ("streams:early", "streams:ventral", "floc_faces:OFA")


def rows(analysis="ridge", subjects=("subj01", "subj02"), metric="projection", grouping="roi", **given):
    """Rows of one score; the first region is far from its null, the others within."""
    names = REGIONS if grouping == "roi" else [f"{at}-0-0" for at in range(3)]
    made = [
        {
            "analysis": analysis, "subject": subject, "decoder": f"{analysis}_clip", "seed": 0,
            "replacement": "conditional_mean", "grouping": grouping, "group": name, "n_voxels": 40,
            "n_matched": 10 if at == 1 else 40, "metric": metric, "value": -0.3 if at == 0 else -0.02,
            "ci_low": -0.35, "ci_high": 0.01, "n": 20, "whole": -0.3, "null_mean": -0.02, "null_low": -0.05,
            "null_high": 0.01, "draws": 50, "p_value": 0.02, "q_value": 0.03 if at == 0 else 0.6,
        }
        for subject in subjects
        for at, name in enumerate(names)
    ]  # fmt: skip
    return (
        pd.DataFrame([row | given for row in made]).reindex(columns=list(table.SCHEMA)).astype(table.SCHEMA)
    )


@pytest.fixture
def bars(monkeypatch):
    """What is drawn: left, width and colour of every bar, in order."""
    from matplotlib.axes import Axes

    seen, draw = [], Axes.barh

    def barh(self, y, width, **given):
        seen.append((given.get("left", 0), width, given["color"]))
        return draw(self, y, width, **given)

    monkeypatch.setattr(Axes, "barh", barh)
    return seen


def test_a_region_stands_over_the_box_of_its_random_sets(bars):
    (picture,) = interpretation.pictures(rows(subjects=("subj01",)))
    boxes, own = bars[0::2], bars[1::2]
    assert len(own) == len(REGIONS)
    np.testing.assert_allclose([(left, width) for left, width, _ in boxes], [(-0.01, 0.06)] * 3)
    np.testing.assert_allclose(
        [width for _, width, _ in own], [0.3, 0.02, 0.02]
    )  # what is lost, to the right
    assert [colour for *_, colour in own] == [COLOURS[0], FAINT, FAINT]
    assert "the longest of subj01: early, streams" in picture.alt


def test_each_analysis_has_the_figures_that_were_measured():
    parts = [
        rows(),
        rows(metric="r2_solo"), rows(metric="r2_zero"), rows(metric="r2_unique"),
        rows(metric="image_tiny_clip", value=0.2), rows(metric="image_pixels", value=0.1),
        rows("mapper", replacement="zero"),
    ]  # fmt: skip
    found = list(interpretation.pictures(pd.concat(parts, ignore_index=True)))
    assert [(one.name, one.fills["label"]) for one in found] == [
        ("leave_one_out", "ridge"), ("region_information", "ridge"), ("images_without_regions", "ridge"),
        ("leave_one_out", "mapper"),
    ]  # fmt: skip
    assert found[0].fills["replaced"] == "what the other voxels predict of them"
    assert found[3].fills["replaced"] == "their mean response"


def test_groups_beyond_their_null_are_counted():
    own = pd.concat([rows(), rows(grouping="block"), rows(metric="top1")], ignore_index=True)
    assert interpretation.tally(own) == "2 of 6 regions and 2 of 6 cubes"


@pytest.mark.parametrize("n_subjects", [1, 2, 3, 8])
def test_any_number_of_subjects_has_its_panels(n_subjects):
    (picture,) = interpretation.pictures(rows(subjects=[f"subj{at:02}" for at in range(n_subjects)]))
    assert picture.data.startswith(b"<?xml")


def test_without_analyses_there_is_nothing_to_show(tmp_path):
    assert list(interpretation.pictures(interpretation.read([]))) == []
    write_parquet(rows(), tmp_path / "a.parquet")
    assert len(interpretation.read([tmp_path / "a.parquet"] * 2)) == 2 * len(rows())


def test_the_page_says_what_it_does_not_mean():
    shown = views.sections(list(interpretation.pictures(rows())), spec.Words("stimulus", "stimuli"))
    (section,) = shown
    assert section["id"] == "interpretation" and "not about the brain" in section["intro"]
    (figure,) = section["figures"]
    assert figure["title"] == "Regions left out: ridge"
    assert "ridge_clip loses" in figure["caption"] and "2 of 6 regions" in figure["caption"]
    assert "no statement about the brain" in figure["reads"] and "stimuli" in figure["reads"]
    assert "{" not in figure["caption"] + figure["reads"]
