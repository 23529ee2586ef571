"""The list of backbones: complete, consistent, and helpful about a wrong name."""

import re
from fnmatch import fnmatch

import pytest

from percept.backbones.catalogue import CATALOGUE, closure, named
from percept.backbones.entry import Hub, Shipped, Url
from percept.files import PerceptError

EVERY = list(CATALOGUE.values())
TINY = {
    "tiny_clip",
    "tiny_vae",
    "tiny_unclip",
    "tiny_text",
    "tiny_gan",
    "tiny_blip",
    "tiny_judge",
    "tiny_dino",
}
ROLES = {"image", "text", "autoencoder", "generator", "captioner", "metric"}
UNPINNED = {"stable_unclip", "stable_unclip_small", "swav"}


def test_the_catalogue_holds_what_the_field_uses():
    assert CATALOGUE.keys() >= TINY | UNPINNED | {
        "clip_vit_l14", "openclip_vit_h14", "openclip_vit_bigg14", "sd_vae", "sd_image_variations_vae",
        "versatile_diffusion", "ip_adapter", "ip_adapter_plus", "sd15", "sd14", "blip_large", "blip_base",
        "alexnet", "inception_v3", "efficientnet_b1", "lpips_alex",
    }  # fmt: skip
    assert {role for entry in EVERY for role in entry.roles} == ROLES
    assert all(name == entry.name for name, entry in CATALOGUE.items())


@pytest.mark.parametrize("role", sorted(ROLES))
def test_every_role_has_a_tiny_and_a_published_network(role):
    assert {entry.family for entry in EVERY if role in entry.roles} == {"tiny", "published"}


@pytest.mark.parametrize("entry", EVERY, ids=CATALOGUE)
def test_every_entry_says_where_it_comes_from_and_under_which_licence(entry):
    assert entry.licence and entry.repository and entry.loader and entry.role == entry.roles[0]
    assert isinstance(entry.source, Shipped) == (entry.family == "tiny") == (entry.name in TINY)
    if isinstance(entry.source, Hub):
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.source.repository)
    if isinstance(entry.source, Url):
        assert entry.source.url.startswith("https://")


@pytest.mark.parametrize("entry", [e for e in EVERY if e.family == "published"], ids=lambda e: e.name)
def test_a_published_network_is_pinned_by_commit_or_digest_or_known_not_to_be(entry):
    assert entry.pinned == (entry.name not in UNPINNED)
    if entry.pinned:
        length = 40 if isinstance(entry.source, Hub) else 8
        assert re.fullmatch(rf"[0-9a-f]{{{length}}}", entry.revision)


@pytest.mark.parametrize("entry", [e for e in EVERY if isinstance(e.source, Url)], ids=lambda e: e.name)
def test_the_digest_of_a_torchvision_file_is_the_one_in_its_name(entry):
    assert entry.source.sha256 in entry.source.url


@pytest.mark.parametrize(
    ("network", "weights"),
    [("alexnet", "AlexNet_Weights"), ("inception_v3", "Inception_V3_Weights"),
     ("efficientnet_b1", "EfficientNet_B1_Weights")],
)  # fmt: skip
def test_addresses_are_those_of_torchvision_for_the_version_named(network, weights):
    torchvision = pytest.importorskip("torchvision")
    settings = CATALOGUE[network].settings
    enum = torchvision.models.get_weight(f"{weights}.{settings['weights']}")
    assert CATALOGUE[network].repository == enum.url and settings["architecture"] == network


@pytest.mark.parametrize("entry", EVERY, ids=CATALOGUE)
def test_what_an_entry_refers_to_exists_and_serves_that_role(entry):
    for name in entry.components.values():
        assert CATALOGUE[name].family == entry.family
    if image := entry.settings.get("image"):
        assert "image" in named(image).roles and entry.settings["image_output"] in ("pooled", "tokens")
    if "generator" in entry.roles:
        assert entry.settings["size"] % 64 == 0
        if text := entry.settings.get("text"):
            assert "text" in named(text).roles
        else:
            assert image and entry.loader == "stylegan"


def test_the_weights_that_an_adapter_loads_are_among_the_files_it_fetches():
    for name in ("ip_adapter", "ip_adapter_plus"):
        entry = CATALOGUE[name]
        assert any(fnmatch(entry.settings["weights"], pattern) for pattern in entry.source.files)


def test_the_closure_adds_components_of_components_once():
    assert closure(["ip_adapter_plus", "sd15", "alexnet"]) == (
        "alexnet",
        "ip_adapter",
        "ip_adapter_plus",
        "sd15",
    )
    assert closure(["tiny_unclip"]) == ("tiny_clip", "tiny_text", "tiny_unclip", "tiny_vae")
    assert closure([]) == ()


@pytest.mark.parametrize(
    ("name", "roles", "message"),
    [
        ("clip_vit_l41", (), "no backbone 'clip_vit_l41': the nearest is clip_vit_l14"),
        (
            "blip",
            ("captioner",),
            "nearest is .*blip.*those that serve as captioner are tiny_blip, blip_large",
        ),
        ("sd_vae", ("image", "text"), "'sd_vae' serves as autoencoder, not as image or text: .*clip_vit_l14"),
        ("zzz", (), "no backbone 'zzz': those that exist are tiny_clip"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(name, roles, message):
    with pytest.raises(PerceptError, match=message):
        named(name, *roles)


def test_a_clip_serves_both_of_its_roles():
    assert named("clip_vit_l14", "image") is named("clip_vit_l14", "text") is CATALOGUE["clip_vit_l14"]
