import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from percept.config import EvaluationConfig
from percept.evaluation import table as written
from percept.report import assemble, differences, latex, page, views
from percept.report.figures import Picture
from percept.report.spec import Words, words
from percept.report.summary import matrices, summarise

from . import pictures
from .tables import evaluation, reconstruction

EVIL = "<script>alert('x')</script>\"&'"
VOID = {"meta", "link", "img", "br", "input"}
LABELS = {"config": {"dataset": {"kind": "arrays", "name": "haxby", "stimuli": "labels"}}}
PIXEL = Picture("reconstructions", b"\x89PNG", "image/png", "Contact sheet", {"label": "linear, subj01"})


class Reader(HTMLParser):
    """Elements, text and attributes of a page; fails where tags do not match."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text, self.attributes = [], [], "", []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open[-1:] not in (["script"], ["style"]) else ""

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(long, audit, manifest):
    return page.render(long, audit, manifest, [None], "Percept on the twin", page.Extras([PIXEL]))


@pytest.fixture(scope="module")
def read(html):
    return Reader(html)


def test_the_page_is_whole_and_names_what_it_shows(read):
    for needed in (
        "Percept on the twin",
        "subj01, subj02",
        "shared1000",
        "ridge_clip",
        "audit passed with warnings",
    ):
        assert needed in read.text
    assert len(read.all("script")) == 1 and len(read.all("h1")) == 1


def test_nothing_points_outside_the_page(html, read):
    links = [value for name, value in read.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert links and all(link.startswith(("data:", "#")) for link in links)
    assert not re.search(r"url\(|@import|https?://", html)


def test_the_policy_forbids_every_connection_and_every_other_script(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)


def test_every_entry_of_the_contents_leads_somewhere(read):
    ids = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    anchors = {attributes["href"][1:] for attributes in read.all("a")}
    assert anchors and anchors <= ids


def test_every_image_has_a_description(read):
    assert read.all("img") and all(attributes["alt"] for attributes in read.all("img"))


@pytest.mark.parametrize(
    "column", ["name", "target", "roi", "subject", "note", "protocol", "scoring", "unit", "metric"]
)
def test_no_name_can_become_markup(column, audit, manifest):
    evil = evaluation("subj01", "ridge").head(4).assign(**{column: EVIL})
    read = Reader(page.render(evil, audit, manifest))
    assert len(read.all("script")) == 1
    assert column in ("metric", "note") or EVIL in read.text


@pytest.mark.parametrize("place", ["title", "audit", "manifest", "figure", "label"])
def test_no_text_from_outside_can_become_markup(place, audit, manifest):
    small = evaluation("subj01", "ridge").head(2)
    fills = {"label": EVIL}
    evil = {
        "title": dict(title=EVIL),
        "audit": dict(audit=audit.assign(detail=EVIL)),
        "manifest": dict(manifest=manifest | {"command": EVIL, "inputs": {EVIL: EVIL}}),
        "figure": dict(figures=[PIXEL._replace(name=EVIL, alt=EVIL, media=f'{EVIL}"')]),
        "label": dict(extras=page.Extras([PIXEL._replace(fills=fills)])),
    }[place]
    read = Reader(page.render(**(dict(results=small, audit=audit, manifest=manifest) | evil)))
    assert len(read.all("script")) == 1 and EVIL in read.text


def test_headlines_say_value_chance_and_share_of_the_limit(read):
    assert re.search(r"66\.2\s%\s*\[62\.2, 70\.2\]", read.text)
    assert re.search(r"guessing: 0\.7\s%", read.text)
    assert re.search(r"74\s% of what anyone could reach and 82\s% of what can be learned", read.text)


@pytest.mark.parametrize("limits", [True, False])
def test_real_data_have_no_limit_and_claim_none(limits, audit, manifest):
    read = Reader(page.render(evaluation("subj01", "ridge", limits=limits), audit, manifest))
    assert ("of what anyone could reach" in read.text) == limits
    assert any("limit, oracle" in one.get("aria-label", "") for one in read.all("div")) == limits


@pytest.mark.parametrize(
    "results",
    [
        written.concat([]),
        reconstruction("subj01"),
        evaluation("subj01", "ridge").query("metric == 'profile_correlation'"),
        pd.concat([evaluation("subj01", "ridge"), evaluation("subj02", "ridge_clip")]),
        evaluation("subj01", "ridge")[["subject", "metric", "value", "direction", "pool", "what"]],
    ],
    ids=["empty", "images alone", "no retrieval", "different decoders", "few columns"],
)
@pytest.mark.parametrize("record", [{}, LABELS], ids=["no manifest", "labels"])
def test_missing_parts_leave_a_whole_page(results, record):
    read = Reader(page.render(results, pd.DataFrame(), record))
    assert "not audited" in read.text and "All results" in read.text


def test_voxels_are_not_counted_as_test_images(audit, manifest):
    voxels = reconstruction("subj01").head(1).assign(what="voxels", metric="ncsnr", n=15724, control=None)
    text = Reader(page.render(pd.concat([evaluation("subj01", "ridge"), voxels]), audit, manifest)).text
    assert "1 subject and 1 decoder on 150 test images" in text and "15\u202f724" in text


def test_data_of_labels_are_not_called_images(audit):
    labels = evaluation("subj01", "ridge", pools=(100,), limits=False, dataset="haxby")
    audit = audit.assign(detail="")
    text = Reader(page.render(labels, audit, LABELS)).text
    assert "category from brain" in text.lower() and "Given a category" in text
    assert not re.search(r"\bimages?\b", text.split("Glossary")[0])


@pytest.mark.parametrize(
    ("levels", "word"),
    [
        (["pass", "pass"], "audit passed"),
        (["pass", "warning"], "audit passed with warnings"),
        (["warning", "fail"], "audit failed"),
        (["pass", "unheard of"], "audit passed with warnings"),
        ([], "not audited"),
    ],
)
def test_the_verdict_is_the_worst_of_the_checks(levels, word):
    checks = views.audit(pd.DataFrame({"check": [str(n) for n in range(len(levels))], "level": levels}))
    assert views.verdict(checks)["text"] == word


def test_an_audit_with_passed_alone_is_read():
    checks = views.audit(pd.DataFrame({"check": ["a", "b"], "passed": [True, False]}))
    assert [row["status"] for row in checks["rows"]] == ["fail", "pass"]


def test_checks_on_which_decoders_agree_share_a_line(audit):
    checks = views.audit(audit)
    assert checks["columns"] == ["Result", "check", "subject", "decoder", "detail"]
    assert [row["status"] for row in checks["rows"]] == ["warn", "pass", "pass"]
    assert checks["rows"][1]["cells"][2] == "ridge, ridge_clip"


def test_every_number_of_the_table_has_a_sort_key(long):
    shown = views.results(page.tidy(long), Words())
    numeric = [column["numeric"] for column in shown["columns"]]
    assert all(
        (cell["sort"] is not None) == wanted
        for row in shown["rows"]
        for cell, wanted in zip(row, numeric, strict=True)
    )


def test_a_method_has_a_share_of_the_limit_and_a_control_has_none():
    long = evaluation("subj01", "ridge").assign(share_finite=0.5)
    blocks = views.summary(matrices(summarise(long))[0], Words())["blocks"]
    shares = {block["title"]: {line["cells"][0]["share"] for line in block["lines"]} for block in blocks}
    assert shares == {"Decoders": {"50\u202f% of limit"}, "Controls": {""}, "Limits": {""}}


def test_several_protocols_get_a_column(long):
    both = pd.concat([long, long.assign(protocol="shared982")])
    labels = [column["label"] for column in views.results(page.tidy(both), Words())["columns"]]
    assert "Protocol" in labels and "Dataset" not in labels


@pytest.mark.parametrize(
    ("kind", "needed"), [("nsd", "Data Access Agreement"), ("twin", "Nothing here was measured")]
)
def test_terms_of_the_data_set_are_quoted(kind, needed, audit):
    assert (
        needed in Reader(page.render(written.concat([]), audit, {"config": {"dataset": {"kind": kind}}})).text
    )


def test_the_manifest_is_shown_whole(read, manifest):
    for needed in ("18572f7a9c3b", "uncommitted changes", "0123456789ab", "himalaya", "a" * 64, "bits: 9.0"):
        assert needed in read.text


def test_the_table_alone_has_the_mean_and_every_subject(long, manifest):
    read = Reader(page.render_table(long, manifest))
    for who in ("mean over subjects", "subj01", "subj02"):
        assert f"Decoders · {who} · mean over repeats" in read.text
    assert len(read.all("script")) == 1


def test_one_subject_has_its_own_tables_once_and_no_mean(audit):
    long = pd.concat([evaluation("subj01", "ridge_clip"), reconstruction("subj01")])
    manifest = {"config": {"dataset": {"kind": "twin", "subjects": ["subj01"]}}}
    tex = latex.table(long, words(manifest))
    for text in (
        Reader(page.render_table(long, manifest)).text,
        Reader(page.render(long, audit, manifest)).text,
        tex,
    ):
        assert "mean over subjects" not in text.lower() and "means over subjects" not in text.lower()
    assert tex.count(r"\begin{table}") == latex.table(long).count(r"\begin{table}") > 1
    read = Reader(page.render_table(long, manifest))
    assert read.text.count("Decoders · subj01 · mean over repeats") == 1


@pytest.mark.parametrize("limits", [True, False])
def test_latex_rows_have_as_many_cells_as_columns_and_braces_match(limits):
    tex = latex.table(
        pd.concat([evaluation("subj01", "ridge_clip", limits=limits), reconstruction("subj01")])
    )
    for table in tex.split(r"\begin{table}")[1:]:
        columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", table)[1])
        body = re.sub(r"\\&", "", table.split(r"\toprule")[1].split(r"\bottomrule")[0])
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len(rows) > 2 and {row.count("&") + 1 for row in rows} == {columns}
    plain = tex.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    assert ("of\\\\limit" in tex) == limits and r"ridge\_clip" in tex


def test_latex_prints_the_numbers_of_the_summary(long):
    mean = summarise(long).query("name == 'ridge' and subject == 'mean' and metric == 'top1' and pool == 150")
    shown = mean[mean.control.isna() & (mean.unit == "average")].iloc[0]
    assert f"ridge & {100 * shown.value:.1f} & " in latex.table(long)


@pytest.mark.parametrize(
    ("n", "pool", "said"), [(150, 150, "on 150 test images,"), (96, 8, "on 96 test cases of 8 images,")]
)
def test_the_opening_tells_cases_from_candidates(long, n, pool, said):
    rows = long.assign(n=n, pool=pool)
    assert said in views.opening(rows.astype({"n": "Int32", "pool": "Int32"}), Words("image", "images"))


@pytest.fixture(scope="module")
def with_images(audit, manifest):
    items = pd.concat([pictures.items(who) for who in ("subj01", "subj02")])
    gains = differences.to_controls(items, EvaluationConfig(bootstrap=50))
    sheets = [
        PIXEL._replace(name="subject_sheet", fills={"label": "subj01"}, alt="all methods"),
        PIXEL._replace(fills={"label": "unclip, subj01", "method": "unclip"}, alt="one method"),
    ]
    extras = page.Extras(sheets, gains, None, "gallery.html")
    long = pd.concat([pictures.scores(who, lacking=("clip",)) for who in ("subj01", "subj02")])
    return page.render(long, audit, manifest, extras=extras)


def test_the_gallery_is_linked_where_there_is_one(with_images, html):
    links = [attributes["href"] for attributes in Reader(with_images).all("a")]
    assert [link for link in links if not link.startswith("#")] == ["gallery.html"]
    assert "gallery" not in html.split("</style>")[1]


def test_the_sheet_of_a_subject_is_large_and_that_of_a_method_lies_with_its_table(with_images):
    section = with_images.split('<section id="reconstructions">')[1].split("</section>")[0]
    before, inside = section.split('<details class="method"')
    assert "all methods" in before and "one method" not in before and "one method" in inside


def test_a_metric_without_its_network_is_said_to_be_missing_and_never_zero(with_images):
    read = Reader(with_images)
    assert "not available: no clip here" in read.text
    assert "Not available here: CLIP, because no clip here." in read.text
    assert not re.search(r"\b0\.000\b|\b0\.0\s%", read.text.split("Reconstructions")[2])


def test_paired_differences_stand_with_their_controls(with_images):
    assert re.search(r'class="gain better">\+0\.300 \[0\.300, 0\.300\]', with_images)
    assert re.search(r'class="gain worse">−0\.200 \[−0\.200, −0\.200\]', with_images)


@pytest.fixture
def contact_sheets(tmp_path):
    """Two subjects with two methods, and a sheet of noise for each of the six."""
    folder = tmp_path / "generators"
    paths = []
    for at, (who, name) in enumerate((who, name) for who in ("subj01", "subj02") for name in ("", "a", "b")):
        path = folder / who / name / "sheet.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(at).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        paths.append(str(path))
    return assemble.Sources(("subj01", "subj02"), (), ("a", "b"), (), (), (), (), paths)


def test_sheets_that_do_not_fit_the_page_are_links_and_those_of_subjects_come_first(contact_sheets, tmp_path):
    whole = assemble.sheets(contact_sheets, tmp_path / "report")
    assert [one.fills["label"] for one in whole[:2]] == ["subj01", "subj02"]
    assert not any(one.href for one in whole)
    budget = sum(len(one.uri()) for one in whole[:3])
    some = assemble.sheets(contact_sheets, tmp_path / "report", budget)
    assert some[:3] == whole[:3] and sum(len(one.data) for one in some[3:]) == 0
    assert [one.href for one in some[3:]] == [
        f"../generators/{place}/sheet.png" for place in ("subj01/b", "subj02/a", "subj02/b")
    ]


def test_a_sheet_beside_the_page_is_a_link_with_its_title(contact_sheets, audit, tmp_path):
    extras = page.Extras(assemble.sheets(contact_sheets, tmp_path / "report", 0))
    read = Reader(page.render(pd.DataFrame(), audit, {}, extras=extras))
    links = [one["href"] for one in read.all("a") if one["href"].startswith("..")]
    assert len(links) == 6 and "../generators/subj02/b/sheet.png" in links
    assert "which would be too large with it" in read.text
    assert not any(one["src"].startswith("data:image/webp") for one in read.all("img"))
