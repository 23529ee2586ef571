"""GANs that are trained here: what the configuration refuses of them."""

import pytest

from percept import config
from percept.config import ConfigError
from tests.unit.test_config import changed

TYPED = [0.1, 0.2, 0.3, 0.4, 0.5]
GAN = {"pool": "web", "conditions": ["clip"], "noise": {"decoders": ["ridge_clip"]}}
TWO = {"conditions": ["clip", "clip_h"], "noise": {"strengths": [TYPED, TYPED]}}
H14 = {"kind": "clip_image", "backbone": "openclip_vit_h14"}
SHOWN = {"semantic": "ridge_clip", "generator": {"kind": "gan", "trained": "own"}}


def whole(gan=None, shown=None, pool=None, **split):
    """The configuration of NSD with a pool, a second target, a GAN, and a reconstruction that it makes."""
    made = changed(("reconstructions", "own"), {**SHOWN, **(shown or {})})
    made["targets"]["clip_h"] = H14
    made["decoders"]["ridge_h"] = {"kind": "ridge", "target": "clip_h"}
    made["split"] = {**made.get("split", {}), **split}
    return {
        **made,
        "pools": {"web": {"images": "resources/web", **(pool or {})}},
        "gans": {"own": {**GAN, **(gan or {})}},
    }


def generator(**settings):
    return {"generator": {**SHOWN["generator"], **settings}}


def test_a_gan_of_ones_own_is_accepted():
    loaded = config.load(whole())
    made = loaded.reconstructions["own"].generator
    assert (made.gans, made.backbones, made.backbone, made.n_gpus) == (("own",), (), None, 1)
    assert loaded.gans["own"].backbones == ("inception_v3",)
    assert config.plugin("generators", made.model_dump(mode="json")) == made  # as a rule passes it on


def test_two_conditions_are_shown_from_two_decoders():
    loaded = config.load(whole(TWO, {"text": "ridge_h"}))
    assert loaded.reconstructions["own"].roles == {"semantic": "ridge_clip", "text": "ridge_h"}


def test_without_a_name_the_shipped_network_is_meant():
    made = config.plugin("generators", {"kind": "gan"})
    assert (made.backbone, made.trained, made.gans) == ("tiny_gan", None, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gan": {"pool": "wep"}}, r"`gans\.own\.pool` names 'wep', .*did you mean 'web'\?"),
        ({"gan": {"conditions": ["clib"]}}, r"`gans\.own\.conditions` names 'clib', .* entry of `targets`"),
        ({"gan": {"conditions": ["clip_tokens"]}}, r"'clip_tokens', which is .*tokens.*output: pooled"),
        ({"gan": {"noise": {}}}, r"matched to the errors of `decoders`, or typed as `strengths`"),
        ({"gan": {"noise": {"decoders": ["ridge_clip"], "strengths": [TYPED]}}}, r"give one of the two"),
        ({"gan": {"noise": {"strengths": [TYPED[::-1]]}}}, r"list them in ascending order"),
        ({"gan": {"noise": {"strengths": [TYPED[:3]]}}}, r"gans\.own\.noise\.strengths\.0"),
        ({"gan": {"noise": {"strengths": [TYPED, TYPED]}}}, r"1 condition\(s\) and noise for 2"),
        ({"gan": {"noise": {"decoders": ["ridge_h"]}}}, r"'ridge_h' predicts 'clip_h', not the condition"),
        (
            {"gan": {"noise": {"decoders": ["ridge_clip"], "subjects": ["subj09"]}}},
            r"noise\.subjects` names 'subj09', .*`dataset\.subjects`",
        ),
        ({"validation_fraction": 0.0}, r"noise is matched on validation images, .*no fixed ones"),
        ({"gan": TWO, "pool": {"embeddings": "x.npy"}}, r"brings the embeddings of one target"),
        ({"shown": generator(trained="owl")}, r"generator\.trained` names 'owl', .*did you mean 'own'\?"),
        ({"shown": generator(backbone="tiny_gan")}, r"`backbone` and `trained` both name the network"),
        ({"shown": {"semantic": "ridge_h"}}, r"own\.semantic`: the GAN 'own' reads the target 'clip' here"),
        ({"shown": {"text": "ridge_h"}}, r"own\.text`: the GAN 'own' has 1 condition"),
        ({"gan": TWO}, r"own\.text`: the GAN 'own' has 2 condition"),
        ({"gan": TWO, "shown": {"text": "ridge_clip"}}, r"own\.text`: .*reads the target 'clip_h' here"),
        (
            {"gan": TWO, "shown": {"text": "ridge_h", **generator(z="optimised")}},
            r"generator\.z`: images of the GAN 'own' are compared by one condition",
        ),
        (
            {"shown": {"ranking": "ridge_h", **generator(z="sampled")}},
            r"own\.ranking`: .*reads the target 'clip' here",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_or_shown_is_refused_before_anything_runs(changes, message):
    with pytest.raises(ConfigError, match=message):
        config.load(whole(**changes))


def test_an_analysis_of_its_images_is_refused():
    made = whole()
    analysis = {"decoder": "ridge_clip", "images": {"reconstruction": "own", "network": "clip_vit_l14"}}
    made["interpretation"] = {"leave_one_out": {"one": analysis}}
    with pytest.raises(ConfigError, match="'own' is made by a GAN that is trained here"):
        config.load(made)
