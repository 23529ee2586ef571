import re

import pytest

from percept.report import spec
from percept.report.spec import Words, words

TEXTS = spec.load()


@pytest.mark.parametrize("name", list(TEXTS.figures))
def test_every_figure_has_a_section_and_leaves_no_brace_unfilled(name):
    text = TEXTS.figures[name]
    assert text.section in TEXTS.sections
    values = {"pool": 9, "n_repeats": 3, "costs": "none", "decoder": "d", "replaced": "r", "tally": "t"}
    values |= {"colours": "c", "kept": "k"}
    for part in (text.title, text.caption, text.reads):
        assert re.findall(r"{(\w+)}", Words().fill(part, **values)) == []


def test_one_subject_has_no_mean():
    alone = words({"config": {"dataset": {"kind": "twin", "subjects": ["subj02"]}}})
    assert (alone.mean, alone.scores) == ("subj02", "Scores") and "subjects" not in alone.fill("{diamonds}")
    several = words({"config": {"dataset": {"kind": "twin", "subjects": ["subj01", "subj02"]}}})
    assert several.mean == "mean over subjects" and "dots are subjects" in several.fill("{diamonds}")


@pytest.mark.parametrize("name", list(TEXTS.rows))
def test_every_row_stands_in_a_known_group(name):
    assert TEXTS.rows[name].group in TEXTS.groups


@pytest.mark.parametrize("panel", TEXTS.panels)
def test_every_panel_offers_known_metrics(panel):
    assert panel and set(panel) <= set(TEXTS.metrics)


def test_every_headline_column_is_a_known_metric():
    named = {column.metric for columns in TEXTS.headline.values() for column in columns}
    assert named and named <= set(TEXTS.metrics)


def test_a_metric_that_is_not_listed_is_printed_as_a_number():
    assert TEXTS.metric("new_score").label == "New score"
    assert TEXTS.metric("new_score").format == "number"


@pytest.mark.parametrize(
    ("dataset", "item"),
    [
        ({"kind": "nsd"}, "image"),
        ({"kind": "twin"}, "image"),
        ({"kind": "arrays", "stimuli": "labels"}, "category"),
        ({"kind": "arrays", "stimuli": {"path": "images"}}, "image"),
        ({"kind": "arrays"}, "stimulus"),
        ({}, "image"),
    ],
)
def test_stimuli_are_called_what_they_are(dataset, item):
    assert words({"config": {"dataset": dataset}}).item == item


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("image_from_brain", "category from brain"),
        ("brain_from_image", "brain from category"),
        (None, ""),
        ("x", "x"),
    ],
)
def test_a_direction_says_what_is_found_from_what(name, text):
    assert spec.direction(name, Words("category", "categories")) == text
