"""The Haxby slice through the whole workflow, from configuration to page: labels instead of images."""

import base64
import re

import pandas as pd
import pytest

from .conftest import Checkout
from .test_haxby import HAXBY, needs_data

pytestmark = [needs_data, pytest.mark.xdist_group("haxby")]
CONFIG = "config/experiments/haxby.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    copy = Checkout(tmp_path_factory.mktemp("haxby"))
    (copy.folder / "resources").mkdir(exist_ok=True)
    (copy.folder / "resources/haxby").symlink_to(HAXBY)
    copy.snakemake("all", config=CONFIG)
    return copy


@pytest.fixture(scope="module")
def top1(run):
    """Rows of the chosen rule: how often the own category of eight comes first."""
    table = pd.read_parquet(run.folder / "results/haxby/report/results.parquet")
    rows = table[
        (table["metric"] == "top1") & (table["direction"] == "image_from_brain") & (table["pool"] == 8)
    ]
    return rows[rows["chosen"].fillna(False).astype(bool)]


@pytest.mark.parametrize(("unit", "least"), [("single", 0.62), ("run", 0.80)])
def test_the_table_has_the_category_identified_in_runs_left_out(top1, unit, least):
    (row,) = top1[(top1["unit"] == unit) & top1["control"].isna()].to_dict("records")
    assert row["value"] >= least and row["p_value"] < 0.01 and row["chance"] == 1 / 8
    assert row["ci_low"] < row["value"] < row["ci_high"]


@pytest.mark.parametrize("unit", ["single", "run"])
def test_the_shuffled_pairing_is_at_one_in_eight(top1, unit):
    (row,) = top1[(top1["unit"] == unit) & (top1["control"] == "shuffled")].to_dict("records")
    assert abs(row["value"] - 1 / 8) < 0.01


def test_the_page_shows_it_like_any_other_data(run):
    page = (run.folder / "results/haxby/report/index.html").read_text()
    assert "sub001" in page and "ridge" in page and "leave-one-run-out" in page
    pictures = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    labelled = [picture for picture in map(base64.b64decode, pictures) if b"scissors" in picture]
    assert len(labelled) == 2  # confusion matrices, of single volumes and of means


def test_the_protocol_is_a_column_and_nothing_is_left_to_do(run):
    table = pd.read_parquet(run.folder / "results/haxby/report/results.parquet")
    assert set(table["protocol"]) == {"leave-one-run-out"}
    assert run.planned("all", config=CONFIG) == {}
