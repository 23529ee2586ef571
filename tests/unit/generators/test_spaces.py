"""The targets that each generator reads, from what the catalogue says of its networks."""

import pytest

from percept import config
from percept.backbones.catalogue import CATALOGUE, named
from percept.config import plugin
from percept.generators import spaces

LATENTS = {"kind": "vae_latent", "backbone": "sd_vae"}
PIXELS = {"kind": "pixels", "colour": "rgb"}
VECTORS = ({"kind": "clip_image", "output": "pooled"}, {"kind": "open_clip"})
NEEDED = {
    "outside": {"pool": "web"},
    "vote": {"of": ["a", "b", "c"], "rule": "medoid", "network": "tiny_clip"},
}  # settings without a default, by kind


def tokens(*names):
    return tuple({"kind": "clip_text", "backbone": name, "output": "tokens"} for name in names)


def image(name, output="pooled"):
    return ({"kind": "clip_image", "backbone": name, "output": output},)


def both(name, output="pooled"):
    """What is decoded and what ranks are of one space."""
    return {"semantic": image(name, output), "ranking": image(name, output)}


@pytest.mark.parametrize(
    ("kind", "settings", "demands"),
    [
        ("pixels", {}, {"lowlevel": (PIXELS,)}),
        ("vae", {"backbone": "sd_vae"}, {"lowlevel": (LATENTS,)}),
        ("vae", {}, {"lowlevel": ({"kind": "vae_latent", "backbone": "sd_image_variations_vae"},)}),
        ("nearest", {}, {}),
        ("caption_diffusion", {}, {"lowlevel": (PIXELS,)}),
        ("caption_diffusion", {"lowlevel_backbone": "sd_vae"}, {"lowlevel": (LATENTS,)}),
        ("text_diffusion", {}, {"lowlevel": (PIXELS,), "text": tokens("sd14", "sd15")}),
        ("text_diffusion", {"backbone": "sd15"}, {"lowlevel": (PIXELS,), "text": tokens("sd15", "sd14")}),
        ("text_diffusion", {"backbone": "tiny_text"}, {"lowlevel": (PIXELS,), "text": tokens("tiny_text")}),
        ("image_diffusion", {}, {"lowlevel": (PIXELS,), **both("clip_vit_l14", "tokens")}),
        (
            "image_diffusion", {"backbone": "stable_unclip", "lowlevel_backbone": "sd_vae"},
            {"lowlevel": (LATENTS,), **both("openclip_vit_h14")},
        ),
        (
            "image_diffusion", {"backbone": "stable_unclip_small"},
            {"lowlevel": (PIXELS,), **both("clip_vit_l14")},
        ),
        (
            "dual_diffusion", {},
            {
                "lowlevel": (PIXELS,), **both("clip_vit_l14", "tokens"),
                "text": tokens("versatile_diffusion"),
            },
        ),
        (
            "dual_diffusion", {"backbone": "ip_adapter_plus"},
            {
                "lowlevel": (PIXELS,), **both("openclip_vit_h14", "tokens"),
                "text": tokens("sd15", "sd14"),
            },
        ),
        ("gan", {}, both("tiny_clip")),
        ("outside", {"pool": "web"}, {"semantic": VECTORS}),
        (
            "outside", {"pool": "web", "ranking_backbone": "clip_vit_l14"},
            {"semantic": VECTORS, "ranking": image("clip_vit_l14", "tokens")},
        ),
    ],
)  # fmt: skip
def test_a_generator_demands_the_space_of_its_networks(kind, settings, demands):
    assert plugin("generators", {"kind": kind, **settings}).demands == demands


GENERATORS = [name for name, entry in CATALOGUE.items() if "generator" in entry.roles]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_space_that_is_demanded_is_one_that_a_target_can_have(name):
    reads = {"text": spaces.text, "image": spaces.image}
    demanded = [one for what, read in reads.items() if what in CATALOGUE[name].settings for one in read(name)]
    demanded += spaces.tokens("openclip_vit_h14")
    for settings in demanded:
        target = plugin("targets", settings)
        assert {key: getattr(target, key) for key in settings} == settings
        named(target.backbone, target.role)


def test_every_kind_that_loads_a_network_says_what_it_reads():
    for kind, section in config.kinds(*config.PLUGINS["generators"]).items():
        generator = plugin("generators", {"kind": kind, **NEEDED.get(kind, {})})
        assert section.model_fields["kind"].default == kind
        assert set(generator.demands) >= (set(generator.needs) if generator.backbones else set())
