import re

import pandas as pd
import pytest

from percept.config import PLUGINS, kinds
from percept.report import spec, system_page, systems
from percept.report.figures import Picture
from percept.report.systems import Members

from .test_page import EVIL, Reader

KNOWN = systems.load()
DECODERS = {
    "ridge_clip": {"kind": "ridge", "target": "clip", "roi": "nsdgeneral"},
    "ridge_early": {"kind": "ridge", "target": "clip", "roi": "early"},
    "mindeye": {"kind": "mindeye", "target": "clip", "roi": "nsdgeneral"},
    "low": {"kind": "lowlevel", "target": "latents", "roi": "nsdgeneral", "mask": None},
}
RECONSTRUCTIONS = {
    "unclip": {"semantic": "ridge_clip", "generator": {"kind": "image_diffusion"}},
    "nearest": {"semantic": "ridge_clip", "generator": {"kind": "nearest"}},
    "mindeye": {"semantic": "mindeye", "lowlevel": "low", "generator": {"kind": "image_diffusion"}},
    "blurred": {"semantic": None, "lowlevel": "low", "generator": {"kind": "vae"}},
    "told": {"lowlevel": "ridge_clip", "generator": {"kind": "caption_diffusion"}},
}


@pytest.fixture(scope="module")
def members():
    return systems.members(DECODERS, RECONSTRUCTIONS)


def test_entries_belong_to_the_system_of_their_kind_generator_or_decoder(members):
    assert members["ridge"] == Members(("ridge_clip", "ridge_early"), ("unclip", "nearest"))
    assert members["mindeye"] == Members(("mindeye", "low"), ("mindeye", "blurred"))
    assert members["voting"] == Members((), ("told",))
    assert list(members) == [name for name in KNOWN if name in members]


def test_a_setting_that_is_given_at_all_claims_an_entry():
    masked = {"low": DECODERS["low"] | {"mask": "set1"}}
    assert list(systems.members(masked, {})) == ["voting"]


def test_an_unknown_kind_belongs_to_no_system():
    assert systems.members({"new": {"kind": "components"}}, {}) == {}


@pytest.mark.parametrize("stage", ["decoders", "generators"])
def test_what_systems_claim_exists(stage):
    there = kinds(*PLUGINS[stage])
    claims = {
        "decoders": {one["kind"] for system in KNOWN.values() for one in system.decoders},
        "generators": {kind for system in KNOWN.values() for kind in system.generators},
    }[stage]
    assert claims and claims <= there.keys()


def test_every_kind_of_decoder_of_this_repository_belongs_to_a_system():
    claimed = {one["kind"] for system in KNOWN.values() for one in system.decoders}
    assert claimed == kinds(*PLUGINS["decoders"]).keys()


def test_the_figures_of_systems_are_figures_of_the_report():
    named = {figure for system in KNOWN.values() for figure in system.figures}
    assert named <= spec.load().figures.keys()


def compared(first, second, difference, **more):
    ends = {"ci_low": difference - 0.02, "ci_high": difference + 0.02}
    about = {"what": "decoder", "metric": "top1", "direction": "image_from_brain", "pool": 150.0}
    names = {"name_first": first, "name_second": second, "control_second": None, "rule": "cosine"}
    return {"subject": "subj01", "unit": "average", "difference": difference} | about | names | ends | more


def gains(*rows, baselines=None):
    return system_page.gains(pd.DataFrame(rows), baselines or {("decoder", "mindeye"): {"ridge_clip"}})


@pytest.mark.parametrize(
    ("row", "text", "verdict"),
    [
        (compared("mindeye", "ridge_clip", 0.1), "+10.0 [8.0, 12.0]", "better"),
        (compared("ridge_clip", "mindeye", 0.1), "−10.0 [−12.0, −8.0]", "worse"),
        (compared("ridge_clip", "mindeye", -0.01), "+1.0 [−1.0, 3.0]", ""),
    ],
)
def test_a_difference_is_own_minus_baseline_whichever_was_compared_first(row, text, verdict):
    (block,) = gains(row)
    (line,) = block["lines"]
    assert (line["entry"], line["against"]) == ("mindeye", "ridge_clip")
    assert line["cells"] == [{"difference": text, "verdict": verdict}]
    assert block["measures"] == ["Top-1 of 150, image from brain"]


def test_plain_cosine_goes_before_the_rules_chosen_and_large_pools_before_small_ones():
    (block,) = gains(
        compared("mindeye", "ridge_clip", 0.5, rule="chosen"),
        compared("mindeye", "ridge_clip", 0.3),
        compared("mindeye", "ridge_clip", 0.4, pool=50.0),
    )
    assert [cell["difference"][:5] for cell in block["lines"][0]["cells"]] == ["+30.0"]


@pytest.mark.parametrize(
    "row",
    [
        compared("mindeye", "ridge_early", 0.1),
        compared("mindeye", "low", 0.1),
        compared("ridge_clip", "ridge_early", 0.1),
        compared("mindeye", "ridge_clip", 0.1, control_second="shuffled"),
        compared("mindeye", "ridge_clip", 0.1, metric="bits"),
        compared("mindeye", "ridge_clip", 0.1, what="reconstruction"),
    ],
)
def test_other_comparisons_are_not_shown(row):
    assert gains(row) == []


@pytest.fixture(scope="module")
def config_of(manifest):
    sections = {"decoders": DECODERS, "reconstructions": RECONSTRUCTIONS}
    return manifest | {"config": manifest["config"] | sections}


def page_of(name, members, long, manifest, comparisons=()):
    run = system_page.Run(long, pd.DataFrame([*comparisons, compared("a", "b", 0)]), manifest)
    return system_page.render(name, members, run, [], "Percept on the twin")


@pytest.mark.parametrize("name", ["ridge", "mindeye", "voting"])
def test_a_page_is_whole_and_explains_its_system(name, members, long, config_of):
    read = Reader(page_of(name, members, long, config_of, [compared("mindeye", "ridge_clip", 0.1)]))
    for needed in (KNOWN[name].title, KNOWN[name].idea, KNOWN[name].reads, KNOWN[name].steps[0].title):
        assert needed in read.text
    assert ("against ridge_clip" in read.text) == (name == "mindeye")
    assert len(read.all("h1")) == 1


def test_baselines_are_of_the_same_target_and_voxels_or_the_same_kind_of_generator(members, config_of, long):
    rows = [compared("mindeye", "ridge_early", 0.1)]
    images = {"what": "reconstruction", "metric": "pixcorr", "direction": None, "pool": None}
    rows += [compared("mindeye", other, 0.1, **images) for other in ("unclip", "nearest", "told")]
    text = Reader(page_of("mindeye", members, long, config_of, rows)).text
    assert "against unclip" in text and "against nearest" in text
    assert "against ridge_early" not in text and "against told" not in text


def test_a_page_escapes_what_comes_from_the_configuration(members, long, config_of):
    decoders = {**DECODERS, "mindeye": DECODERS["mindeye"] | {"note": EVIL}}
    evil = config_of | {"config": config_of["config"] | {"decoders": decoders}}
    assert "<script>alert" not in page_of("mindeye", members, long, evil)


def test_links_lead_to_the_report_and_to_the_other_systems_alone(members, long, config_of):
    html = page_of("mindeye", members, long, config_of)
    links = {link for link in re.findall(r'href="([^"#]+)"', html) if not link.startswith("data:")}
    assert links == {"../index.html", "ridge.html", "voting.html"}


def drawn(name, **fills):
    return Picture(name, b"x", "image/png", "A picture", fills)


def test_a_page_has_the_figures_of_its_own_decoders_and_sheets_of_its_own_images(members):
    own = Members(("mapper",), ("mind_reader",))
    pictures = [
        drawn("leave_one_out", decoder="mapper"),
        drawn("leave_one_out", decoder="ridge_clip"),
        None,
        drawn("voxel_map"),
        drawn("reconstructions", method="mind_reader"),
        drawn("reconstructions", method="unclip"),
    ]
    assert system_page.belonging(pictures, "mind_reader", own) == [pictures[0], pictures[4]]


def test_every_system_gets_its_page(tmp_path, members, long, config_of):
    paths = {name: tmp_path / f"{name}.html" for name in members}
    run = system_page.Run(long, pd.DataFrame([compared("a", "b", 0)]), config_of)
    curves = dict.fromkeys(members) | {"mindeye": drawn("training_curve", costs="none")}
    system_page.write(paths, members, run, [], curves, "Title")
    pages = {name: path.read_text() for name, path in paths.items()}
    assert {name for name, text in pages.items() if "Training the networks" in text} == {"mindeye"}
    assert all(KNOWN[name].title in text for name, text in pages.items())


def test_cards_name_the_best_decoder_of_a_system(long):
    from percept.report.summary import summarise

    members = {"ridge": Members(("ridge", "ridge_clip"), ("linear",)), "mindeye": Members((), ("x",))}
    first, second = system_page.cards(members, summarise(long))
    assert re.fullmatch(r"ridge_clip: \d\d\.\d\u202f% top-1 of 150", first["score"])
    assert first["entries"] == "ridge, ridge_clip and linear" and second["score"] == ""
