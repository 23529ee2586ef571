"""A pool of images, the role that ranks candidates, and samples: what the configuration refuses of them."""

import pytest

from percept import config
from percept.config import ConfigError
from percept.decoders.ridge import RidgeConfig
from tests.unit.test_config import changed

POOLED = {
    "semantic": "ridge_clip",
    "ranking": "ridge_tokens",
    "generator": {"kind": "outside", "pool": "web", "ranking_backbone": "clip_vit_l14"},
}
WEB = {"web": {"images": "resources/web"}}


def outside(pools=WEB, generator=None, **roles):
    """The configuration of NSD with a pool, and a reconstruction from it with some settings changed."""
    generator = {**POOLED["generator"], **(generator or {})}
    whole = changed(("reconstructions", "outside"), {**POOLED, **roles, "generator": generator})
    return {**whole, "pools": pools}


def test_a_pool_of_ones_own_is_accepted():
    loaded = config.load(outside())
    assert loaded.reconstructions["outside"].roles == {"semantic": "ridge_clip", "ranking": "ridge_tokens"}
    assert loaded.pools["web"].size == 425 and loaded.pools["web"].embeddings is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pools": {}}, r"`reconstructions\.outside\.generator\.pool` names 'web', .* entry of `pools`"),
        ({"generator": {"pool": "wep"}}, r"names 'wep', .*did you mean 'web'\?"),
        ({"pools": {"web": {"image": "x"}}}, r"`pools\.web\.image` is no setting \(did you mean 'images'\?"),
        ({"semantic": "ridge_tokens"}, r"outside\.semantic`: .*\{kind: clip_image, output: pooled\} or "),
        ({"ranking": "ridge_clip"}, r"outside\.ranking`: .*\{kind: clip_image, backbone: clip_vit_l14, outp"),
        ({"ranking": None}, r"reads ranking, semantic, and this reconstruction lacks ranking"),
        ({"generator": {"ranking_backbone": None}}, r"reads semantic, and this .* does not use rank"),
        (
            {"generator": {"ranking_backbone": "openclip_vit_h14"}},
            r"ranking_backbone: openclip_vit_h14\} reads .* 'ridge_tokens' predicts",
        ),
        ({"generator": {"candidates": 1}}, r"of one candidate nothing can be chosen"),
    ],
)  # fmt: skip
def test_a_pool_that_cannot_be_searched_is_refused_before_anything_runs(changes, message):
    with pytest.raises(ConfigError, match=message):
        config.load(outside(**changes))


UNCLIP = ("reconstructions", "unclip")
KNOWN = changed(("split", "seed"), 0)["reconstructions"]["unclip"]


def test_a_decoder_that_ranks_is_of_the_space_of_the_samples_that_it_ranks():
    assert config.load(changed((*UNCLIP, "ranking"), "ridge_clip")).reconstructions
    with pytest.raises(ConfigError, match=r"unclip\.ranking`: .*output: pooled\}, but .*output: tokens"):
        config.load(changed((*UNCLIP, "ranking"), "ridge_tokens"))


def test_a_decoder_that_ranks_is_refused_where_there_is_one_image_to_rank():
    single = {**KNOWN, "ranking": "ridge_clip", "generator": {**KNOWN["generator"], "samples": 1}}
    with pytest.raises(ConfigError, match=r"lowlevel \(if given\), semantic, .* does not use ranking"):
        config.load(changed(UNCLIP, single))


@pytest.mark.parametrize(
    ("generator", "samples", "refused"),
    [(KNOWN["generator"], 3, True), (KNOWN["generator"], 0, False), ({"kind": "nearest"}, 3, False)],
    ids=["samples", "no samples", "a kind that uses none"],
)
def test_rescaling_is_refused_where_samples_take_the_place_of_the_prediction(
    monkeypatch, generator, samples, refused
):
    monkeypatch.setattr(RidgeConfig, "samples", samples)
    whole = changed(("split", "seed"), 0)
    entry = {"semantic": "ridge_clip", "rescale": {"semantic": "transductive"}, "generator": generator}
    whole["reconstructions"] = {"unclip": entry}
    whole.pop("interpretation")  # it would look at the images of this reconstruction
    if not refused:
        assert config.load(whole).reconstructions
        return
    with pytest.raises(
        ConfigError, match=r"unclip\.rescale` names semantic, .* 'ridge_clip' makes 3 samples"
    ):
        config.load(whole)
