import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from percept.report import gallery, gallery_page
from percept.report.ranking import Ranking

from .pictures import STIMULUS, items
from .test_page import EVIL, Reader

OBJECTS = {int(one): ("dog", "person") if one % 2 else ("sailing boat",) for one in STIMULUS}
TWIN = {"config": {"dataset": {"kind": "twin"}}}


def images(n, side=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side + 7, 3), dtype=np.uint8)


def subject(name="subj01", methods=("linear", "unclip"), captions=None):
    tables = {method: items(name, method) for method in methods}
    bare, rankings = gallery.subject(name, STIMULUS, tables)
    made = [
        gallery.Method(
            method,
            gallery.thumbnails(images(len(bare.rows), seed=at)),
            gallery.values_of(tables[method]),
            rankings[method],
            captions or {},
        )
        for at, method in enumerate(methods)
    ]
    return replace(bare, seen=gallery.thumbnails(images(len(bare.rows))), methods=made)


@pytest.fixture(scope="module")
def two():
    return [subject("subj01", captions={31: "a dog & a boat"}), subject("subj02")]


@pytest.fixture(scope="module")
def html(two):
    return gallery_page.render(two, TWIN, OBJECTS, "The gallery")


@pytest.fixture(scope="module")
def read(html):
    return Reader(html)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 60), seed=st.integers(0, 99))
def test_the_order_of_priority_holds_every_image_once(n, seed):
    ranks = np.random.default_rng(seed).uniform(1, n + 1, n)
    rows, groups = gallery.priority(ranks, seed)
    assert sorted(rows.tolist()) == list(range(n)) and len(groups) == n


@pytest.mark.parametrize("shown", [6, 12, 60])
def test_any_beginning_is_half_sample_and_has_both_ends(shown):
    ranks = np.random.default_rng(3).permutation(200) + 1.0
    rows, groups = gallery.priority(ranks)
    assert groups[:shown].count("sample") == shown // 2
    for group, wanted in (("best", 1), ("worst", 200)):
        assert groups[:shown].count(group) == shown // 6
        assert wanted in ranks[rows[:shown]]
    middle = [ranks[row] for row, name in zip(rows[:shown], groups, strict=False) if name == "median"]
    assert all(abs(rank - 100.5) <= shown for rank in middle)


def test_the_sample_does_not_depend_on_the_ranks():
    ranks = np.arange(500.0)
    drawn = [
        {row for row, name in zip(*gallery.priority(one, seed=4), strict=True) if name == "sample"}
        for one in (ranks, ranks[::-1])
    ]
    first = [list(gallery.priority(one, seed=4)[0][3:6]) for one in (ranks, ranks[::-1])]
    assert first[0] == first[1] and len(drawn[0] & drawn[1]) > 100


@pytest.mark.parametrize(
    ("shape", "size"), [((425, 425), (112, 112)), ((200, 100), (56, 112)), ((64, 64), (64, 64))]
)
def test_thumbnails_keep_proportions_and_never_grow(shape, size):
    uri = gallery.thumbnail(np.full((*shape, 3), (200, 30, 90), dtype=np.uint8))
    head, body = uri.split(",")
    picture = Image.open(io.BytesIO(base64.b64decode(body)))
    assert head == "data:image/webp;base64" and picture.size == size
    np.testing.assert_allclose(np.asarray(picture.convert("RGB")).mean(axis=(0, 1)), (200, 30, 90), atol=6)


@pytest.mark.parametrize(("budget", "expected"), [(10**9, 11), (1, 1), (0, 1)])
def test_what_fits_is_shown_and_at_least_one(two, budget, expected):
    assert gallery.affordable(two, budget) == expected


def test_the_budget_is_kept_to_the_byte(two):
    sizes = sum(one.size() for one in two)
    for n in range(1, 11):
        limit = int(sizes[:n].sum())
        assert gallery.affordable(two, limit) == n and gallery.affordable(two, limit - 1) == max(n - 1, 1)


def test_a_page_of_noise_at_the_size_of_nsd_stays_below_fifteen_megabytes():
    noise = gallery.thumbnail(images(1, 112)[0])  # nothing compresses worse
    n = 400
    stimulus = np.arange(n)
    method = gallery.Method("m", [noise] * n, pd.DataFrame(), Ranking(stimulus + 1.0, "clip"))
    rows, groups = gallery.priority(stimulus + 1.0)
    nsd = [
        gallery.Subject(f"subj0{k}", stimulus, rows, groups, [noise] * n, [method] * 7) for k in (1, 2, 5, 7)
    ]
    html = gallery_page.render(nsd, TWIN)
    assert 5e6 < len(html.encode()) < 15e6
    assert re.search(r"\d+ of 400 test images of each subject, so that the page stays small", html)


def test_the_page_holds_every_image_of_every_method_and_subject(read):
    tiles = [
        attributes for tag, attributes in read.elements if tag == "figure" and "data-method" in attributes
    ]
    assert len(tiles) == 2 * 2 * len(STIMULUS)
    assert {one["data-method"] for one in tiles} == {"linear", "unclip"}
    assert "All 11 test images of each subject" in read.text


def test_every_picture_lies_in_the_page_and_has_a_description(html, read):
    pictures = read.all("img")
    assert pictures and all(
        one["src"].startswith("data:image/webp;base64,") and one["alt"] for one in pictures
    )
    links = {value for name, value in read.attributes if name in ("href", "srcset", "action")}
    assert links == {"index.html", "data:,"} and not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html.replace("&#39;", "'")


def test_without_its_script_it_is_a_plain_listing(read):
    assert all("hidden" in attributes for attributes in read.all("form"))
    assert not any("hidden" in attributes for tag, attributes in read.elements if tag in ("li", "figure"))


@pytest.mark.parametrize("label", ["Subject", "Method", "Object", "Rank", "Sort by", "Order", "Reset"])
def test_it_can_be_filtered_and_sorted_with_controls_of_the_browser(read, label):
    assert label in read.text
    assert {tag for tag, _ in read.elements} >= {"select", "input", "button", "output", "label"}


def test_objects_are_offered_by_frequency_and_lie_with_each_image(html, read):
    kinds = [json.loads(one["data-kinds"]) for one in read.all("li")]
    assert sorted(map(tuple, kinds)) == sorted(2 * list(OBJECTS.values()))
    offered = re.findall("<option>([^<]+)", html.split('name="kind"')[1].split("</select>")[0])
    assert sum(len(kinds) == 1 for kinds in OBJECTS.values()) > len(OBJECTS) / 2
    assert offered == ["sailing boat", "dog", "person"]


def test_a_data_set_without_objects_has_no_such_filter(two):
    assert "Object" not in Reader(gallery_page.render(two, TWIN)).text


def test_values_and_ranks_of_a_tile_are_those_of_its_image(read, two):
    offered = [option["value"] for option in read.all("option") if "data-better" in option]
    assert offered == ["0", "1"]  # pixcorr, tiny_clip
    own = two[0].methods[0]
    tiles = [one for one in read.all("figure") if one.get("data-method") == "linear"][: len(STIMULUS)]
    found = {tuple(float(value) for value in tile["data-values"].split(",")) for tile in tiles}
    expected = {tuple(float(f"{value:.4g}") for value in row) for row in own.values.to_numpy()}
    assert found == expected
    assert {float(tile["data-rank"]) for tile in tiles} == {
        float(f"{rank:.1f}") for rank in own.ranking.ranks
    }


def test_captions_stand_with_their_image_alone(read):
    assert read.text.count("a dog & a boat") == 2  # once per method of subj01


def test_a_value_that_is_missing_is_an_empty_field():
    one = subject()
    gone = replace(one.methods[0], values=one.methods[0].values.assign(tiny_clip=np.nan))
    html = gallery_page.render([replace(one, methods=[gone])], TWIN)
    assert re.search(r'data-values="0\.\d+,"', html)


@pytest.mark.parametrize("place", ["subject", "method", "object", "caption", "title"])
def test_no_string_from_the_data_can_become_markup(place):
    one = subject(captions={int(number): EVIL for number in STIMULUS} if place == "caption" else None)
    one = replace(one, name=EVIL) if place == "subject" else one
    if place == "method":
        one = replace(one, methods=[replace(method, name=EVIL) for method in one.methods])
    objects = {int(STIMULUS[0]): (EVIL,)} if place == "object" else OBJECTS
    read = Reader(gallery_page.render([one], TWIN, objects, EVIL if place == "title" else "Gallery"))
    assert len(read.all("script")) == 1 and EVIL in read.text


@pytest.mark.parametrize(
    ("kind", "needed"), [("nsd", "forbids redistributing"), ("twin", "Nothing here was measured")]
)
def test_the_terms_of_the_images_are_on_the_page(two, kind, needed):
    assert needed in gallery_page.render(two, {"config": {"dataset": {"kind": kind}}})


def test_no_subject_is_an_empty_page():
    assert "There are no reconstructions to show." in gallery_page.render([], TWIN)


def test_captions_are_those_of_the_test_images():
    details = pd.DataFrame(
        {"stimulus": [3, 4, 3, 5], "set": ["images", "images", "recovery", "images"],
         "caption": ["a dog", None, "a true dog", ""]}
    )  # fmt: skip
    assert gallery.captions_of(details) == {3: "a dog"}
    assert gallery.captions_of(details.drop(columns="caption")) == {}


def pages(side=40, n=30, subjects=("subj01", "subj02")):
    """Subjects with stimuli of their own, and where their images come from."""
    stimulus = np.arange(100, 100 + n)
    bare, made = [], []
    for name in subjects:
        tables = {method: items(name, method, stimulus=stimulus) for method in ("linear", "unclip")}
        methods = [gallery.Method(method, (), pd.DataFrame(), Ranking(np.ones(n), None)) for method in tables]
        bare.append(replace(gallery.subject(name, stimulus, tables)[0], methods=methods))
        made.append({method: (lambda asked: noise(asked, side)) for method in tables})
    return bare, made


def noise(asked, side):
    """An image per stimulus that only this stimulus has."""
    return np.concatenate([images(1, side, int(one)) for one in asked])


@pytest.mark.parametrize("budget", [60_000, 200_000, 10**9])
def test_only_what_will_fit_is_drawn_and_all_that_fits(budget):
    bare, made = pages()
    drawn = gallery.fill(bare, lambda asked: noise(asked, 40), made, budget)
    everything = gallery.fill(bare, lambda asked: noise(asked, 40), made, 10**9)
    fits = gallery.affordable(everything, budget)
    assert gallery.affordable(drawn, budget) == fits  # what is shown does not depend on the estimate
    assert len(drawn[0].rows) <= min(max(1.5 * fits, gallery.FEW), 30)
    assert all(len(tiles) == len(one.rows) for one in drawn for tiles in
               (one.seen, *(method.thumbnails for method in one.methods)))  # fmt: skip


def test_thumbnails_are_those_of_the_images_in_order():
    bare, made = pages()
    drawn = gallery.fill(bare, lambda asked: noise(asked, 40), made)[1]
    wanted = [gallery.thumbnail(noise([one], 40)[0]) for one in drawn.stimulus[drawn.rows]]
    assert list(drawn.seen) == wanted and list(drawn.methods[0].thumbnails) == wanted


def test_the_filter_offers_only_what_a_card_shows(two, monkeypatch):
    monkeypatch.setattr(gallery_page, "affordable", lambda _: 1)
    first = int(two[0].stimulus[two[0].rows[0]])
    objects = {int(one): ("dog",) if int(one) == first else ("kite",) for one in STIMULUS}
    html = gallery_page.render([two[0]], TWIN, objects)
    offered = re.findall("<option>([^<]+)", html.split('name="kind"')[1].split("</select>")[0])
    assert offered == ["dog"]
