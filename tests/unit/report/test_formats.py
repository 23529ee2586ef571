import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.report import formats
from percept.report.spec import Metric

PERCENT = Metric(label="p", format="percent")
CORRELATION = Metric(label="r", format="correlation")
BITS = Metric(label="b", format="bits")
RANK = Metric(label="k", format="rank")
NOTHING = (None, float("nan"), np.float64("nan"), pd.NA)


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.4321, PERCENT, "43.2\u202f%"),
        (1.0, PERCENT, "100.0\u202f%"),
        (-0.0123, CORRELATION, "−0.012"),
        (-0.00001, CORRELATION, "0.000"),
        (3.14159, BITS, "3.14\u202fbits"),
        (12.5, RANK, "12.5"),
        (np.float32(0.5), PERCENT, "50.0\u202f%"),
        (math.inf, BITS, "∞\u202fbits"),
        (-math.inf, CORRELATION, "−∞"),
    ],
)
def test_scores_print_with_their_digits_and_unit(value, metric, text):
    assert formats.score(value, metric) == text


@pytest.mark.parametrize("nothing", NOTHING)
@pytest.mark.parametrize("function", [formats.share, formats.p_value, formats.count])
def test_a_missing_number_is_a_dash(function, nothing):
    assert function(nothing) == formats.score(nothing, PERCENT) == formats.MISSING


@pytest.mark.parametrize("nothing", NOTHING)
def test_an_interval_needs_both_ends(nothing):
    assert formats.interval(nothing, 0.5, PERCENT) == formats.interval(0.5, nothing, PERCENT) == ""
    assert formats.interval(0.401, 0.463, PERCENT) == "[40.1, 46.3]"


@pytest.mark.parametrize("value", ["", "nan", 0, 0.0, False, [], "<NA>"])
def test_what_is_there_is_not_missing(value):
    assert not formats.is_missing(value)


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "< 0.001"), (0.001, "0.001"), (0.0456, "0.046"), (1.0, "1")]
)
def test_p_values_keep_two_digits_and_a_floor(p, text):
    assert formats.p_value(p) == text


@pytest.mark.parametrize(
    ("n", "text"), [(7, "7"), (15724, "15\u202f724"), (1234567.0, "1\u202f234\u202f567")]
)
def test_counts_set_thousands_apart(n, text):
    assert formats.count(n) == text


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_listed_as_in_a_sentence(names, text):
    assert formats.listed(names) == text


@given(st.text())
def test_escaped_text_has_no_character_left_that_latex_would_act_on(text):
    plain = formats.latex(text)
    for command in sorted(set(formats.LATEX.values()), key=len, reverse=True):
        plain = plain.replace(command, "")
    assert not set(plain) & set("\\&%$#_{}~^<>[")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("\\{", r"\textbackslash{}\{"),
        ("\u202f−1", r"\,$-$1"),
        ("R²", r"R\textsuperscript{2}"),
    ],
)
def test_latex_is_escaped_once(text, escaped):
    assert formats.latex(text) == escaped


@given(st.floats(-10, 10))
def test_a_printed_score_is_the_score_to_its_last_digit(value):
    text = formats.bare(value, CORRELATION).replace("−", "-")
    assert float(text) == pytest.approx(value, abs=0.5001e-3)
