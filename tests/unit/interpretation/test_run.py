"""One analysis from files to its table, of decoders that were trained for it."""

import numpy as np
import pandas as pd
import pytest

from percept.config import EvaluationConfig, LeaveOneOutConfig
from percept.decoders.mapper import MapperConfig
from percept.decoders.ridge import RidgeConfig
from percept.files import PerceptError
from percept.interpretation import run
from percept.interpretation.table import SCHEMA
from tests.unit.decoders.made_up import by_image, features, subject, trained
from tests.unit.interpretation.world import table

DECODERS = {
    "ridge": RidgeConfig(target="made_up", alphas=(1, 10, 100)),
    "mapper": MapperConfig(
        target="made_up",
        network={"channels": 4, "blocks": 0, "hidden": 8},
        training={"epochs": 3, "device": "cpu"},
    ),
}
EVALUATION = EvaluationConfig(bootstrap=50)
ABOUT = {"analysis": "a", "subject": "subj01", "decoder": "d", "seed": 0}
LABELS = ["V1"] * 7 + ["V2"] * 6 + [None] * 6  # 19 voxels


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Responses, and for each decoder what was trained on them."""
    folder = tmp_path_factory.mktemp("world")
    path = features(folder, "made_up", (6,), 60)
    X, trials = subject(path)
    (fold,) = by_image(trials)
    responses = run.Responses(X, trials, table(LABELS), fold.train, fold.test)
    made = {kind: run.Trained(cfg, trained(cfg, folder / kind, path), path) for kind, cfg in DECODERS.items()}
    return responses, made


def analysed(world, kind, **given):
    responses, made = world
    cfg = LeaveOneOutConfig(decoder=kind, draws=12, pool=5, **given)
    return run.analyse(cfg, made[kind], responses, EVALUATION, ABOUT)


@pytest.mark.parametrize("replacement", ["conditional_mean", "zero", "permuted"])
@pytest.mark.parametrize("kind", DECODERS)
def test_every_grouping_has_its_rows(world, kind, replacement):
    found = analysed(world, kind, groups=("roi", "block", "voxel"), replacement=replacement, block_voxels=2,
                     permutations=3)  # fmt: skip
    assert list(found.columns) == list(SCHEMA)
    counts = found[found.metric == "projection"].grouping.value_counts().to_dict()
    assert counts == {"roi": 2, "block": 6, "voxel": 19}  # the last cube has a single voxel
    assert set(found[found.grouping == "voxel"].metric) == {
        "projection",
        "cosine",
        "top1",
        "two_way",
        "sensitivity",
    }
    assert found.drop(columns=["p_value", "q_value"]).notna().all().all()
    assert set(found.n) == {12} and set(found.replacement) == {replacement}


def test_ridge_decoders_also_say_what_regions_carry(world):
    found = analysed(world, "ridge", information=True)
    own = found[found.metric.isin(["r2_solo", "r2_unique", "r2_zero"])]
    assert len(own) == 6 and own.p_value.isna().all()


def test_an_analysis_is_the_same_each_time(world):
    first, second = (analysed(world, "ridge", groups=("roi", "block"), block_voxels=2) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_another_split_is_noticed(world):
    responses, made = world
    other = run.Responses(responses.X, responses.trials, responses.voxels, responses.test, responses.train)
    with pytest.raises(PerceptError, match="the decoder was trained on another split"):
        run.analyse(LeaveOneOutConfig(decoder="x"), made["ridge"], other, EVALUATION, ABOUT)


def test_responses_normalised_otherwise_are_noticed(world):
    responses, made = world
    other = run.Responses(
        2 * responses.X + 1, responses.trials, responses.voxels, responses.train, responses.test
    )
    with pytest.raises(PerceptError, match="the saved weights do not give the predictions"):
        run.analyse(LeaveOneOutConfig(decoder="x"), made["ridge"], other, EVALUATION, ABOUT)


def test_without_any_region_an_analysis_of_regions_says_what_to_add(world):
    responses, made = world
    alike = responses.voxels.assign(areas="V1")
    other = run.Responses(responses.X, responses.trials, alike, responses.train, responses.test)
    with pytest.raises(
        PerceptError, match=r"no voxels form a group \(roi\): the 19 .* atlases areas, of which"
    ):
        run.analyse(LeaveOneOutConfig(decoder="ridge"), made["ridge"], other, EVALUATION, ABOUT)
    cfg = LeaveOneOutConfig(
        decoder="ridge", groups=("roi", "block"), information=True, draws=5, block_voxels=2
    )
    smaller = run.analyse(cfg, made["ridge"], other, EVALUATION, ABOUT)
    assert set(smaller.grouping) == {"block"}


def test_voxels_without_places_form_no_blocks(world):
    responses, made = world
    flat = responses.voxels[["areas"]]
    other = run.Responses(responses.X, responses.trials, flat, responses.train, responses.test)
    cfg = LeaveOneOutConfig(decoder="ridge", groups=("block",))
    with pytest.raises(PerceptError, match=r"no columns i, j, k.*leave `block` out"):
        run.analyse(cfg, made["ridge"], other, EVALUATION, ABOUT)
    regions = run.analyse(
        LeaveOneOutConfig(decoder="ridge", draws=5), made["ridge"], other, EVALUATION, ABOUT
    )
    assert regions.i.isna().all() and np.isfinite(regions.value).all()
