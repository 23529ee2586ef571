"""The systems beside MindEye, end to end, on the smallest twin."""

import pandas as pd
import pytest

from percept.report import systems

from .conftest import Checkout

pytestmark = pytest.mark.xdist_group("systems")
CONFIG = "config/experiments/systems-tiny.yaml"
REPORT = "results/systems/report"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    copy = Checkout(tmp_path_factory.mktemp("systems"))
    copy.snakemake("all", config=CONFIG)
    return copy


@pytest.fixture(scope="module")
def table(run):
    return pd.read_parquet(run.folder / REPORT / "results.parquet")


def test_nothing_is_left_to_do(run):
    assert run.planned("all", config=CONFIG) == {}


@pytest.mark.parametrize("name", ["mapper", "voxelclip", "dino", "voter", "ridge_clip"])
def test_every_decoder_has_its_rows_with_chance_and_the_limit_beside(table, name):
    own = table[(table["what"] == "decoder") & (table["name"] == name)]
    assert {"top1", "top5", "two_way", "median_rank", "mean_rank"} <= set(own["metric"])
    assert {"chance", "shuffled", "bayes_oracle"} <= set(own["control"].dropna())


@pytest.mark.parametrize("name", ["mind_reader", "voter", "vote"])
def test_every_reconstruction_has_its_rows_with_controls_beside(table, name):
    own = table[(table["what"] == "reconstruction") & (table["name"] == name)]
    assert {"pixcorr", "ssim", "tiny_clip"} <= set(own["metric"])
    controls = {"shuffled", "mean_image", "nearest_train", "random_image", "recovery"}
    assert controls <= set(own["control"].dropna())


def test_what_is_masked_is_said_in_the_table(table):
    own = table[(table["name"] == "voter") & (table["what"] == "decoder") & table["control"].isna()]
    assert own["note"].str.contains("outside early").all()


def test_the_members_of_a_sweep_have_a_table_of_their_own(run, table):
    swept = pd.read_parquet(run.folder / REPORT / "sweeps/masks.parquet")
    assert set(swept["mask"]) == {"early", "all"}
    assert not table["name"].str.startswith("masks_").any()


def test_a_vote_says_whom_it_chose(run):
    details = pd.read_parquet(run.folder / "results/systems/generators/subj01/vote/details.parquet")
    assert set(details["member"]) <= {"unclip", "voter"} and len(details) >= 30


@pytest.mark.parametrize("name", ["voting", "voxelclip", "mind_reader", "self_supervision", "ridge"])
def test_every_system_has_a_page_that_explains_it(run, name):
    page = (run.folder / REPORT / f"systems/{name}.html").read_text()
    known = systems.load()[name]
    assert known.title in page and known.steps[-1].title in page
    assert ("Against the linear baseline" in page) == (name != "ridge")


def test_the_report_shows_what_decoders_use_and_what_they_take_to_be_alike(run):
    page = (run.folder / REPORT / "index.html").read_text()
    for text in ("What the decoders use", "What is decoded alike", "Who was chosen", "Sweeps"):
        assert text in page
