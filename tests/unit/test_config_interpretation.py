"""An analysis of what is not there, or that could say nothing, is refused before any job runs."""

import copy
from pathlib import Path
from typing import get_args

import pytest
import yaml

from percept import config
from percept.backbones import metric
from percept.config import ConfigError
from percept.sections import LeaveOneOutImages

SETTINGS = yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text())


def loaded(analysis, **sections):
    source = copy.deepcopy(SETTINGS) | sections
    source["interpretation"] = {"leave_one_out": {"one": analysis}}
    return config.load(source)


def imaged(reconstruction, **given):
    return {
        "images": {"reconstruction": reconstruction, "network": "tiny_clip"},
        "decoder": "ridge_clip",
    } | given


@pytest.mark.parametrize(
    "analysis",
    [
        {"decoder": "mindeye", "groups": ["roi", "block", "voxel"], "replacement": "permuted"},
        {"decoder": "ridge_pixels", "information": True},
        imaged("unclip"),
        imaged("nearest", training_seed=0),
        {"decoder": "mapper"},
    ],
)
def test_analyses_of_any_decoder_are_accepted(analysis):
    assert loaded(analysis).interpretation.leave_one_out["one"].decoder == analysis["decoder"]


@pytest.mark.parametrize(
    ("analysis", "message"),
    [
        ({"decoder": "ridge_clp"}, r"one\.decoder` names 'ridge_clp'.*did you mean 'ridge_clip'"),
        ({"decoder": "mapper", "training_seed": 4}, "training_seed` is 4, but 'mapper' is trained"),
        ({"decoder": "voter_1"}, "the input of 'voter_1' is 0 outside 'set1'"),
        ({"decoder": "mapper", "information": True}, "'mapper' is of kind `mapper`: leave it out"),
        ({"decoder": "ridge_clip", "groups": ["voxel"], "information": True}, "`information` is measured"),
        (imaged("unclip", groups=["block"]), "`images` is measured for regions"),
        (imaged("unclp"), r"images\.reconstruction` names 'unclp'.*'unclip'"),
        (imaged("linear"), "'linear' is made from ridge_pixels, not from 'ridge_clip'"),
        (imaged("mindeye", decoder="mindeye"), "made from samples of a prior"),
        (imaged("vote_decoded"), "'vote_decoded' chooses among the images of others"),
        (imaged("vote_medoid"), "'vote_medoid' chooses among the images of others"),
        *((imaged("unclip") | {"images": {"reconstruction": "unclip", "network": network}},
           "images.network`.*alexnet.*tiny_judge") for network in ("lpips_alex", "tiny_vae", "tiny_clp")),
        ({"decoder": "ridge_clip", "replacement": "mean"}, "leave_one_out.one.replacement"),
        ({"decoder": "ridge_clip", "groups": []}, "groups"),
        ({"decoder": "ridge_clip", "block_side": 1}, "block_side"),
        ({"decoder": "ridge_clip", "draw": 3}, "`draw`|did you mean 'draws'"),
    ],
)  # fmt: skip
def test_what_cannot_be_analysed_is_named(analysis, message):
    with pytest.raises(ConfigError, match=message):
        loaded(analysis)


def test_networks_that_compare_changed_images_are_those_with_features():
    fields = LeaveOneOutImages.model_fields
    assert set(get_args(fields["network"].annotation)) == set(metric.LAYERS) - {"lpips_alex"}


def test_images_that_depend_on_the_whole_test_set_are_refused():
    shown = copy.deepcopy(SETTINGS["reconstructions"])
    shown["unclip"]["rescale"] = {"semantic": "transductive"}
    with pytest.raises(ConfigError, match="'unclip' is rescaled by the whole test set"):
        loaded(imaged("unclip"), reconstructions=shown)


def test_images_from_a_pool_are_refused():
    shown = {"web": {"semantic": "ridge_clip", "generator": {"kind": "outside", "pool": "web"}}}
    with pytest.raises(ConfigError, match="'web' looks its images up in a pool"):
        loaded(imaged("web"), reconstructions=shown, pools={"web": {"images": "folder"}})


def test_decoders_of_single_runs_are_refused():
    with pytest.raises(ConfigError, match="leave-one-run-out trains a decoder per run"):
        loaded({"decoder": "ridge_clip"}, split={"protocol": "leave-one-run-out"})


@pytest.mark.parametrize("vote", ["vote_decoded", "vote_medoid"])
def test_a_vote_makes_no_images_of_training_stimuli_whether_it_has_a_role_or_not(vote):
    source = copy.deepcopy(SETTINGS)
    source["decoders"]["ridge_clip"]["fitted"] = True
    source["reconstructions"][vote]["splits"] = {"network": "tiny_clip"}
    with pytest.raises(ConfigError, match=rf"{vote}\.splits`.*a vote makes no images of its own"):
        config.load(source)


def test_training_images_are_not_apart_where_every_run_is_left_out_in_turn():
    source = {
        "dataset": {"kind": "twin"},
        "targets": {"pixels": {"kind": "pixels"}},
        "decoders": {"ridge": {"kind": "ridge", "target": "pixels", "fitted": True}},
    }
    assert config.load(source).decoders["ridge"].fitted
    with pytest.raises(ConfigError, match=r"`decoders\.ridge\.fitted`: the protocol leave-one-run-out"):
        config.load(source | {"split": {"protocol": "leave-one-run-out", "validation_fraction": 0}})
