import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from percept.generators.sheet import Layout, chosen, contact_sheet, pick, png, thumbnail, wrapped, write

LAYOUT = Layout(cell=20)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def solid(n, colour, side=11):
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (n, side, side, 3))


def cell(sheet, row, left):
    top = LAYOUT.margin + LAYOUT.header + row * (LAYOUT.cell + LAYOUT.gap)
    return sheet[top : top + LAYOUT.cell, left : left + LAYOUT.cell]


def test_rows_stand_in_the_order_given():
    rows = {"seen": solid(9, RED), "reconstruction": solid(9, GREEN, 30), "nearest": solid(9, BLUE)}
    sheet = contact_sheet(rows, np.arange(1, 10), pool=9, per_group=2, layout=LAYOUT)
    left = LAYOUT.margin + LAYOUT.labels
    for row, colour in enumerate((RED, GREEN, BLUE)):
        assert (cell(sheet, row, left) == colour).all()


def test_columns_run_from_the_best_rank_to_the_worst():
    ranks = np.array([5, 1, 9, 3, 7, 2])
    seen = (ranks[:, None, None, None] * np.full((1, 8, 8, 3), 20)).astype(np.uint8)
    sheet = contact_sheet({"seen": seen}, ranks, pool=9, per_group=1, layout=LAYOUT)
    step = LAYOUT.cell + LAYOUT.between_groups
    lefts = [LAYOUT.margin + LAYOUT.labels + column * step for column in range(3)]
    shades = [cell(sheet, 0, left)[0, 0, 0] // 20 for left in lefts]
    assert shades[0] == 1 and shades[2] == 9 and shades[0] < shades[1] < shades[2]


def test_a_sheet_is_landscape():
    height, width, _ = contact_sheet({"a": solid(30, RED), "b": solid(30, RED)}, np.arange(30), pool=30).shape
    assert width > 2 * height


@given(n=st.integers(1, 60), per_group=st.integers(1, 8), seed=st.integers(0, 99))
def test_no_example_is_shown_twice_and_the_extremes_are_shown(n, per_group, seed):
    ranks = np.random.default_rng(seed).integers(1, 20, n)
    groups = pick(ranks, per_group)
    shown = np.concatenate(list(groups.values()))
    assert len(set(shown.tolist())) == len(shown) <= 3 * per_group
    assert ranks[groups["best"]].max() == np.sort(ranks)[len(groups["best"]) - 1]
    assert n < 2 or ranks[groups["worst"]].max() == ranks.max()


@pytest.mark.parametrize(
    ("n", "names"), [(1, ["best"]), (2, ["best", "worst"]), (3, ["best", "median", "worst"])]
)
def test_a_small_test_set_fills_the_groups_it_can(n, names):
    assert list(pick(np.arange(n), 4)) == names


@pytest.mark.parametrize(
    ("rows", "n_ranks"), [({"a": solid(3, RED)}, 4), ({"a": solid(3, RED), "b": solid(2, RED)}, 3), ({}, 0)]
)
def test_rows_that_do_not_match_are_refused(rows, n_ranks):
    with pytest.raises(ValueError, match="covers the test set"):
        contact_sheet(rows, np.arange(n_ranks), pool=9)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (17, 17)])
def test_a_thumbnail_keeps_proportions(shape):
    small = np.asarray(thumbnail(np.zeros((*shape, 3), dtype=np.uint8), 20))
    dark = (small == 0).all(axis=-1)
    assert small.shape == (20, 20, 3)
    assert dark.any(axis=1).sum() == round(20 * shape[0] / max(shape))
    assert dark.any(axis=0).sum() == round(20 * shape[1] / max(shape))


def test_a_written_sheet_is_a_lossless_png(tmp_path):
    sheet = contact_sheet({"a": solid(5, RED)}, np.arange(5), pool=5, layout=LAYOUT)
    write(tmp_path / "sheet.png", sheet)
    for source in (tmp_path / "sheet.png", io.BytesIO(png(sheet))):
        np.testing.assert_array_equal(np.asarray(Image.open(source)), sheet)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 40), per_group=st.integers(1, 5), seed=st.integers(0, 99))
def test_a_sheet_of_the_chosen_rows_alone_is_the_same_sheet(n, per_group, seed):
    rng = np.random.default_rng(seed)
    ranks = rng.integers(1, 8, n).astype(float)  # with ties
    rows = chosen(ranks, per_group)
    again = chosen(ranks[rows], per_group)
    assert rows[again].tolist() == rows.tolist()


def test_only_the_chosen_images_are_needed():
    rng = np.random.default_rng(0)
    ranks, seen = rng.permutation(40) + 1.0, rng.integers(0, 256, (40, 9, 9, 3), dtype=np.uint8)
    whole = contact_sheet({"seen": seen}, ranks, pool=40, layout=LAYOUT)
    rows = chosen(ranks)
    np.testing.assert_array_equal(whole, contact_sheet({"seen": seen[rows]}, ranks[rows], 40, layout=LAYOUT))


@pytest.mark.parametrize("by", ["", "rank by CLIP"])
def test_a_line_at_the_foot_says_what_ranks(by):
    sheet = contact_sheet({"a": solid(3, RED)}, np.arange(3), pool=3, layout=LAYOUT, by=by)
    bare = contact_sheet({"a": solid(3, RED)}, np.arange(3), pool=3, layout=LAYOUT)
    assert len(sheet) - len(bare) == (LAYOUT.footer if by else 0)
    assert (sheet[len(bare) :] < 255).any() == bool(by)


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("seen", ["seen"]),
        ("brain_diffuser_refined", ["brain_", "diffuser_", "refined"]),
        ("nearest in training", ["nearest in", "training"]),
        ("low-level", ["low-level"]),
        ("", [""]),
    ],
)
def test_labels_are_broken_between_words(label, lines):
    assert wrapped(label, 130, ImageFont.load_default(25)) == lines


@pytest.mark.parametrize("width", [30, 90, 192])
@pytest.mark.parametrize("label", ["unbreakablelabelthatislong", "a_b_c_d_e_f_g_h_i_j", "two words"])
def test_no_line_of_a_label_is_wider_than_its_column(label, width):
    font = ImageFont.load_default(25)
    assert all(font.getlength(line) <= width for line in wrapped(label, width, font))
