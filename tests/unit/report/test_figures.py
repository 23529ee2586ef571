import base64
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from percept.report import figures, signals
from percept.report.spec import Words, load
from percept.report.summary import summarise

from .tables import evaluation

WORDS = Words("category", "categories")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def rows(long):
    return summarise(long)


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures that become pictures, as they are saved."""
    saved = []
    monkeypatch.setattr(figures, "svg", lambda figure: saved.append(figure) or b"<svg/>")
    return saved


FROM_ROWS = [
    figures.retrieval_curve,
    figures.decoder_comparison,
    figures.roi_comparison,
    figures.reconstruction_comparison,
]


@pytest.mark.parametrize("draw", FROM_ROWS)
def test_every_figure_is_svg_with_a_description_and_a_text_in_the_specification(rows, draw):
    picture = draw(rows, WORDS)
    assert ET.fromstring(picture.data).tag == f"{SVG}svg"
    assert picture.media == "image/svg+xml" and len(picture.alt) > 20
    assert picture.name in load().figures
    head, _, body = picture.uri().partition(",")
    assert head == "data:image/svg+xml;base64" and base64.b64decode(body) == picture.data


@pytest.mark.parametrize("draw", FROM_ROWS)
def test_a_table_that_does_not_hold_it_gives_no_figure(draw):
    assert draw(summarise(evaluation("subj01", "ridge").iloc[:0]), WORDS) is None


@pytest.mark.parametrize("draw", FROM_ROWS)
def test_the_same_table_gives_the_same_bytes(rows, draw):
    assert draw(rows, WORDS).data == draw(rows, WORDS).data


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("name", ["ridge", "ridge_higher", "Bayes limit, oracle", "Chance"])
def test_the_curve_goes_through_the_numbers_of_the_table(rows, drawn, name, direction):
    figures.retrieval_curve(rows, WORDS)
    axis = drawn[0].axes[direction]
    line = next(line for line in axis.lines if line.get_label() == name)
    control = {"Chance": "chance", "Bayes limit, oracle": "bayes_oracle"}.get(name)
    own = (
        rows[(rows.control == control).fillna(False)]
        if control
        else rows[rows.control.isna() & (rows["name"] == name)]
    )
    own = own[
        (own.subject == "mean") & (own.metric == "top1") & (own.unit == "average") & (own.what == "decoder")
    ]
    own = own[own.direction == figures.DIRECTIONS[direction]].sort_values("pool")
    np.testing.assert_allclose(line.get_xdata(), [50, 100, 150])
    np.testing.assert_allclose(line.get_ydata(), own.value)


def test_panels_are_named_by_direction_in_the_noun_of_the_data(rows, drawn):
    figures.retrieval_curve(rows, WORDS)
    assert [axis.get_title(loc="left") for axis in drawn[0].axes] == [
        "Category from brain",
        "Brain from category",
    ]


def test_one_pool_is_no_curve():
    assert figures.retrieval_curve(summarise(evaluation("subj01", "ridge", pools=(150,))), WORDS) is None


def test_the_comparison_lists_decoders_then_controls(rows, drawn):
    picture = figures.decoder_comparison(rows, WORDS)
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["ridge", "ridge_early", "ridge_higher", "ridge_clip", "Chance", "Shuffled pairing"]
    assert picture.fills == {"pool": 150}


def test_the_roi_comparison_leaves_out_targets_with_one_roi(rows, drawn):
    figures.roi_comparison(rows, WORDS)
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["nsdgeneral  (ridge)", "early  (ridge_early)", "higher  (ridge_higher)"]


@pytest.mark.parametrize("limits", [True, False])
def test_data_without_limits_are_drawn_without(drawn, limits):
    figures.retrieval_curve(summarise(evaluation("subj01", "ridge", limits=limits)), WORDS)
    labels = {line.get_label() for line in drawn[0].axes[0].lines}
    assert ("Bayes limit, oracle" in labels) == limits and {"ridge", "Chance"} <= labels


@pytest.mark.parametrize("subjects", [1, 2, 5, 8])
def test_ceilings_have_a_panel_per_subject_and_their_median(drawn, subjects):
    values = {f"subj{n}": np.append(np.linspace(0, 10 * n, 101), np.nan) for n in range(1, subjects + 1)}
    picture = signals.noise_ceiling(values, n_repeats=3)
    visible = [axis for axis in drawn[0].axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in visible] == [
        f"subj{n}: median {5 * n} %" for n in range(1, subjects + 1)
    ]
    assert sum(patch.get_height() for patch in visible[0].patches) == pytest.approx(1)
    assert picture.fills == {"n_repeats": "3"}


@pytest.mark.parametrize("values", [{}, {"subj01": np.full(3, np.nan)}])
def test_no_finite_ceiling_is_no_figure(values):
    assert signals.noise_ceiling(values) is None


def history(alphas):
    rows = [
        dict(decoder=decoder, subject=subject, alpha=alpha, r2=r2, n_best=n_best, n_dims=n_dims)
        for decoder in ("ridge", "ridge_clip")
        for subject in ("subj01", "subj02", "subj03")
        for at, alpha in enumerate(alphas)
        for r2, n_best, n_dims in ((0.1 * at, at, 30), (0.5, 1, 10))
    ]
    return pd.DataFrame(rows)


def test_the_penalty_curve_weighs_blocks_by_their_dimensions(drawn):
    signals.validation_curve(history([1.0, 10.0, 100.0]))
    first, second = drawn[0].axes
    assert len(first.lines) == len(second.lines) == 3
    np.testing.assert_allclose(first.lines[0].get_ydata(), [(30 * 0.1 * at + 5) / 40 for at in range(3)])
    np.testing.assert_allclose(first.collections[0].get_sizes(), 4 + 160 * np.array([1, 2, 3]) / 6)


@pytest.mark.parametrize("alphas", [[], [10.0], [0.0, 10.0]])
def test_fewer_than_two_penalties_are_no_curve(alphas):
    assert signals.validation_curve(history(alphas)) is None


def test_decoders_that_tried_no_penalty_are_no_curve():
    table = history([1.0, 10.0]).drop(columns=["alpha", "n_best"])
    assert signals.validation_curve(table) is None


def test_confusions_agree_with_scikit_learn():
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 7, 200), rng.integers(0, 8, 200)
    shares = signals.confusions(true, predicted, list("abcdefgh"))
    peer = confusion_matrix(true, predicted, labels=range(8), normalize="true")
    np.testing.assert_allclose(shares.iloc[:7], peer[:7])
    assert shares.iloc[7].isna().all()  # never shown


@pytest.mark.parametrize("n", [2, 8, 20])
def test_a_confusion_matrix_is_drawn_at_any_size(n):
    shares = signals.confusions(np.arange(n), np.arange(n), [f"label {k}" for k in range(n)])
    picture = signals.confusion(shares, "ridge")
    assert ET.fromstring(picture.data).tag == f"{SVG}svg" and "100%" in picture.alt
    assert signals.confusion(shares.iloc[:0, :0]) is None


def test_a_png_file_becomes_a_picture_and_back(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"\x89PNG bytes")
    picture = figures.from_png("reconstructions", tmp_path / "sheet.png", "a sheet", label="linear, subj01")
    picture.write(tmp_path / "copy.png")
    assert (tmp_path / "copy.png").read_bytes() == b"\x89PNG bytes"
    assert picture.media == "image/png" and picture.fills == {"label": "linear, subj01"}
