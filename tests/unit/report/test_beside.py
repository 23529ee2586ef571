import pandas as pd
import pytest

from percept.report import beside, page, published
from percept.report.spec import Words
from percept.report.summary import summarise

from .pictures import scores
from .tables import evaluation
from .test_page import Reader
from .test_published import FILES

NSD, TWIN = {"kind": "nsd"}, {"kind": "twin"}
FIVE = (*beside.SUBJECTS, "subj03")  # one more than the field averages over


@pytest.fixture(scope="module")
def printed():
    return published.load(FILES)


@pytest.fixture(scope="module")
def ours():
    parts = [scores(who, metrics=("pixcorr", "clip")) for who in beside.SUBJECTS]
    return summarise(pd.concat([*parts, *(evaluation(who, "ridge", pools=(50, 300)) for who in FIVE)]))


def names(table):
    return {block["title"]: [line["name"] for line in block["lines"]] for block in table["blocks"]}


def test_on_nsd_ours_stand_above_theirs_in_a_table_with_the_protocol(ours, printed):
    section = beside.section(ours, printed, NSD, Words())
    means, single = section["tables"]
    assert names(means)["This report"] == ["ridge", "unclip"] and not means["aside"]
    assert "MindEye2" in names(means)["Published"] and single["aside"]
    protocols = {line["cells"][0]["value"] for block in means["blocks"] for line in block["lines"]}
    assert means["columns"][0]["label"] == "Protocol"
    assert protocols == {"40/11", "40/150", "37/982", "40/1000", "1/1000"}


def test_on_other_data_nothing_of_ours_is_there_and_all_is_folded(ours, printed):
    section = beside.section(ours, printed, TWIN, Words())
    assert all(table["aside"] and "This report" not in names(table) for table in section["tables"])
    assert "No score of this page may be compared" in section["intro"]


@pytest.mark.parametrize("nothing", [None, published.load([])])
def test_without_printed_scores_there_is_no_section(ours, nothing):
    assert beside.section(ours, nothing, NSD, Words()) is None


def test_numbers_stand_under_what_was_computed(ours, printed):
    table = beside.section(ours, printed, NSD, Words())["tables"][0]
    at = {(column["label"], column["detail"]): place for place, column in enumerate(table["columns"])}
    line = next(one for one in table["blocks"][1]["lines"] if one["name"] == "MindEye")
    assert line["cells"][at["Top-1", "brain from image"]]["value"] == "93.6\u202f%"
    assert line["cells"][at["Top-1", "image from brain"]]["value"] == "90.1\u202f%"
    assert line["cells"][at["EffNet-B", "lower is better"]]["value"] == "0.645"
    assert "; remembered" in line["detail"]


def test_scores_of_unknown_direction_are_told_and_stand_in_no_column(ours, printed):
    table = beside.section(ours, printed, NSD, Words())["tables"][0]
    line = next(one for one in table["blocks"][1]["lines"] if one["name"].startswith("Mind-Reader"))
    told = "unknown: 11.0\u202f% (as Image retrieval), 49.0\u202f% (as Brain retrieval)"
    assert told in line["detail"]
    assert [column["label"] for column in table["columns"]].count("Top-1") == 2


def test_only_the_pool_of_the_field_stands_beside_the_field(ours, printed):
    table = beside.section(ours, printed, NSD, Words())["tables"][0]
    other = summarise(pd.concat([evaluation(who, "ridge", pools=(50, 150)) for who in FIVE]))
    assert names(beside.section(other, printed, NSD, Words())["tables"][0]).keys() == {"Published"}
    assert "ridge" in names(table)["This report"]


@pytest.mark.parametrize(("kind", "folded"), [("nsd", 1), ("twin", 2)])
def test_the_page_says_which_scores_may_be_compared(printed, audit, kind, folded):
    manifest = {"config": {"dataset": {"kind": kind, "name": kind}}}
    html = page.render(scores(), audit, manifest, extras=page.Extras(published=printed))
    section = html.split('<section id="published">')[1].split("</section>")[0]
    assert section.count("<details>") == folded
    assert ("This report" in section) == (kind == "nsd")
    assert "Published scores" in Reader(html).text


def cell(table, name, label, detail=""):
    at = [(column["label"], column["detail"]) for column in table["columns"]].index((label, detail))
    line = next(one for one in table["blocks"][0]["lines"] if one["name"] == name)
    return line["cells"][at]["value"]


def test_our_mean_is_over_the_subjects_of_theirs_alone(printed):
    parts = [evaluation(who, "ridge", pools=(300,)) for who in FIVE]
    wanted = [part.query("metric == 'top1' and control.isna()") for part in parts[:4]]
    expected = pd.concat(wanted).query("direction == 'image_from_brain'")["value"].mean()
    far = parts[4].assign(value=lambda part: part["value"] / 9)  # a subject that would change any mean
    means = beside.section(summarise(pd.concat([*parts[:4], far])), printed, NSD, Words())["tables"][0]
    assert cell(means, "ridge", "Top-1", "image from brain") == f"{100 * expected:.1f}\u202f%"
    assert means["notes"] == []


def test_where_a_subject_of_theirs_is_absent_we_have_no_mean_and_say_so(printed):
    two = summarise(pd.concat([scores(who) for who in ("subj01", "subj05", "subj03")]))
    means, single = beside.section(two, printed, NSD, Words())["tables"]
    assert names(means).keys() == {"Published"}
    assert means["notes"] == [
        "Without a mean of this report over the same subjects: subj02 and subj07 not decoded"
    ]
    assert names(single)["This report"] == ["unclip, subj01", "unclip, subj03", "unclip, subj05"]


def test_a_metric_that_one_subject_lacks_is_no_mean(printed):
    parts = [scores(who, metrics=("pixcorr", "ssim")) for who in beside.SUBJECTS[:3]]
    parts.append(scores("subj07", metrics=("pixcorr",), lacking=("ssim",)))
    means = beside.section(summarise(pd.concat(parts)), printed, NSD, Words())["tables"][0]
    assert cell(means, "unclip", "PixCorr") == "0.500" and cell(means, "unclip", "SSIM") == "–"


@pytest.mark.parametrize(
    ("sessions", "of_mean", "of_third"),
    [
        ("all", "40/11", "32/11"),
        (10, "10/11", "10/11"),
        (dict.fromkeys(FIVE, 7) | {"subj01": 3}, "3–7/11", "7/11"),
    ],
)
def test_sessions_and_test_images_stand_beside_ours_as_beside_theirs(printed, sessions, of_mean, of_third):
    own = summarise(pd.concat([scores(who) for who in FIVE]))
    tables = beside.section(own, printed, NSD | {"sessions": sessions}, Words())["tables"]
    assert cell(tables[0], "unclip", "Protocol") == of_mean
    assert cell(tables[1], "unclip, subj03", "Protocol") == of_third


def test_what_all_numbers_of_a_line_share_is_told_with_it(ours, printed):
    table = beside.section(ours, printed, NSD, Words())["tables"][0]
    line = next(one for one in table["blocks"][1]["lines"] if one["name"].startswith("Takagi"))
    assert line["detail"].count("as printed in the MindEye paper") == 1
