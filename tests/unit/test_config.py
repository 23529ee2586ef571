"""A mistake in the configuration is found before any job runs, and the message says what was meant."""

from pathlib import Path

import pytest
import yaml

from percept import config, documentation
from percept.config import ConfigError

REPOSITORY = Path(__file__).parents[2]
CONFIGS = sorted(REPOSITORY.glob("config/*.yaml")) + sorted(REPOSITORY.glob("config/experiments/*.yaml"))
RUNNABLE = [path for path in CONFIGS if path.name != "defaults.yaml"]


@pytest.fixture
def settings():
    return yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())


def test_there_are_configurations_to_check():
    assert {"config.yaml", "nsd.yaml"} <= {path.name for path in RUNNABLE}


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    loaded = config.load(path)
    assert loaded.decoders and config.load(config.plain(loaded)) == loaded  # what it prints can be read back


@pytest.mark.parametrize(
    ("path", "key", "value", "message"),
    [
        ((), "decoder", {}, r"`decoder` is no setting \(did you mean 'decoders'\?"),
        (("split",), "protocoll", "x", r"`split\.protocoll` is no setting \(did you mean 'protocol'\?"),
        (("dataset",), "subject", [], r"`dataset\.twin\.subject` is no setting \(did you mean 'subjects'\?"),
        (
            ("decoders", "ridge_pixels"), "alpha", [1],
            r"`decoders\.ridge_pixels\.ridge\.alpha` is no setting \(did you mean 'alphas'\?",
        ),
        (("evaluation", "retrieval"), "pool", [2], r"did you mean 'pools'\?"),
        (("decoders", "ridge_pixels"), "target", "pixel", r"names 'pixel'.*did you mean 'pixels'\?"),
        (("decoders", "ridge_pixels"), "kind", "rigde", r"decoders\.ridge_pixels.*'ridge'"),
        (("reconstructions", "linear"), "lowlevel", "ridge_pixel", r"names 'ridge_pixel'.*'ridge_pixels'"),
        (("reconstructions", "linear"), "semantic", "ridge_pixels", r"reads lowlevel.*does not use semantic"),
        (("reconstructions", "linear"), "lowlevel", None, r"`pixels` reads lowlevel.*lacks lowlevel"),
        (("reconstructions", "mindeye"), "training_seed", 7, r"training_seed` is 7, .* seeds 0: name one"),
        (("reconstructions", "mindeye"), "rescale", {"semantic": "transductive"}, "makes 2 samples of each"),
        (("reconstructions", "mindeye"), "rescale", {"lowlevel": "cross_validated"}, "does not predict"),
        (("decoders", "mindeye_lowlevel"), "teacher", "clipp", r"lowlevel\.teacher` names 'clipp'.*'clip'"),
        (("reconstructions", "unclip"), "rescale", {"text": "transductive"}, r"`rescale` names text"),
        (("reconstructions", "nearest"), "lowlevel", "ridge_pixels", r"from one decoder.*lowlevel, semantic"),
        (("evaluation", "images"), "networks", ["../x"], r"evaluation\.images\.networks"),
        (("evaluation",), "latents", {"decoders": ["voxelclp"]}, r"names 'voxelclp'.*'voxelclip'"),
        (("split",), "protocol", "shared100", r"split\.protocol.*'shared1000'"),
        (("dataset",), "kind", "nds", r"dataset.*'nsd'"),
        (("dataset",), "name", "../elsewhere", r"dataset\.twin\.name"),
        (("split",), "validation_fraction", 1.5, r"validation_fraction"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_the_nearest_valid_name(settings, path, key, value, message):
    here = settings
    for part in path:
        here = here[part]
    here[key] = value
    with pytest.raises(ConfigError, match=message):
        config.load(settings)


MISTAKES = {  # a target of the right shape and the wrong space: name, kind, where it is named, what is said
    "takagi with tokens of Versatile Diffusion": (
        ("decoders", "ridge_captions_ventral", "target"), "captions",
        r"`reconstructions\.takagi\.text`: the generator \{kind: text_diffusion, backbone: sd14, .*"
        r"\{kind: clip_text, backbone: sd14, output: tokens\} or \{kind: clip_text, backbone: sd15, .*"
        r"'ridge_captions_ventral' predicts the target 'captions', "
        r"\{kind: clip_text, backbone: versatile_diffusion, output: tokens\}.*add such a target",
    ),
    "latents of another autoencoder": (
        ("reconstructions", "autoencoder"),
        {"lowlevel": "ridge_latents", "generator": {"kind": "vae", "backbone": "sd_image_variations_vae"}},
        r"`reconstructions\.autoencoder\.lowlevel`: .*\{kind: vae_latent, backbone: sd_image_variations_vae\}"
        r", but .*'latents', \{kind: vae_latent, backbone: sd_vae\}",
    ),
    "ViT-H/14's generator on ViT-L/14": (
        ("reconstructions", "unclip", "generator", "backbone"), "stable_unclip",
        r"`reconstructions\.unclip\.semantic`: .*\{kind: clip_image, backbone: openclip_vit_h14, "
        r"output: pooled\}, but .*\{kind: clip_image, backbone: clip_vit_l14, output: pooled\}",
    ),
    "text of a CLIP for Versatile Diffusion": (
        ("targets", "captions", "backbone"), "clip_vit_l14",
        r"`reconstructions\.brain_diffuser\.text`: .*backbone: versatile_diffusion, output: tokens\}, but "
        r".*\{kind: clip_text, backbone: clip_vit_l14, output: tokens\}",
    ),
    "one vector where tokens are read": (
        ("reconstructions", "brain_diffuser", "semantic"), "ridge_clip",
        r"`reconstructions\.brain_diffuser\.semantic`: .*output: tokens\}, but 'ridge_clip' .*output: pooled"
        r".*name a decoder of such a target \(ridge_tokens, mindeye\)",
    ),
    "pixels where latents are read": (
        ("reconstructions", "captioned", "lowlevel"), "ridge_pixels",
        r"`reconstructions\.captioned\.lowlevel`: .*lowlevel_backbone: sd_vae\} .*, but "
        r".*\{kind: pixels, colour: rgb\}",
    ),
    "latents where pixels are read": (
        ("reconstructions", "captioned", "generator", "lowlevel_backbone"), None,
        r"`reconstructions\.captioned\.lowlevel`: .*a target \{kind: pixels, colour: rgb\}, but "
        r".*\{kind: vae_latent",
    ),
    "grey pixels": (
        ("targets", "pixels", "colour"), "grey",
        r"`reconstructions\.linear\.lowlevel`: .*a target \{kind: pixels, colour: rgb\}, but "
        r".*colour: grey\}",
    ),
    "a released CLIP that is no backbone": (
        ("targets", "clip"), {"kind": "open_clip", "architecture": "ViT-L-14", "weights": "openai"},
        r"`reconstructions\.unclip\.semantic`: .*clip_image, backbone: clip_vit_l14, output: pooled\}, but "
        r".*\{kind: open_clip, architecture: ViT-L-14, weights: openai\}",
    ),
}  # fmt: skip


def changed(path, value):
    """The configuration of NSD with one setting changed."""
    whole = yaml.safe_load((REPOSITORY / "config/nsd.yaml").read_text())
    here = whole
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    return whole


@pytest.mark.parametrize(("path", "value", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_target_of_another_space_is_refused_before_anything_runs(path, value, message):
    with pytest.raises(ConfigError, match=message):
        config.load(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("targets", "captions_sd", "backbone"), "sd15"),  # the text encoder of 1.4 and 1.5 is one network
        (("reconstructions", "takagi", "generator", "backbone"), "sd15"),
        (("targets", "latents", "size"), 320),
        (("targets", "clip", "augmentation"), "crops"),
        (("reconstructions", "nearest"), {"text": "ridge_captions", "generator": {"kind": "nearest"}}),
    ],
)
def test_a_target_of_the_same_space_is_accepted(path, value):
    assert config.load(changed(path, value)).reconstructions


LEARNABLE = [{"kind": kind} for kind in ("clip_image", "clip_text", "open_clip", "truth")]
UNLEARNABLE = {  # what is named as a target of a decoder of NSD's that makes no sense there, and what is said
    "an embedding as the low level": (
        ("decoders", "mindeye_lowlevel", "target"), "clip",
        r"`decoders\.mindeye_lowlevel\.target`: .*`lowlevel` takes a target \{kind: vae_latent\} here, but "
        r"'clip' is \{kind: clip_image, .*name such a target \(latents, ",
    ),
    "pixels as the low level": (("decoders", "mindeye_lowlevel", "target"), "pixels", r"\{kind: pixels"),
    "latents as the high level": (
        ("decoders", "mindeye", "target"), "latents",
        r"`decoders\.mindeye\.target`: .*\{kind: clip_image\} or .*\{kind: truth\} here, but 'latents' is",
    ),
    "pixels as the high level": (("decoders", "mindeye", "target"), "pixels", r"'pixels' is \{kind: pixels"),
    "one vector as a teacher": (
        ("decoders", "mindeye_lowlevel", "teacher"), "clip",
        r"`decoders\.mindeye_lowlevel\.teacher`: .*output: tokens\} here, but .*output: pooled\}",
    ),
    "captions as a teacher": (
        ("decoders", "mindeye_lowlevel", "teacher"), "captions", r"\.teacher`: .*but .*kind: clip_text",
    ),
    "one vector as a teacher's other view": (
        ("decoders", "taught"),
        {"kind": "lowlevel", "target": "latents", "teacher": "clip_tokens", "teacher_view": "clip"},
        r"`decoders\.taught\.teacher_view`: .*output: pooled\}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), UNLEARNABLE.values(), ids=UNLEARNABLE)
def test_a_target_that_a_decoder_cannot_learn_is_refused_before_anything_runs(path, value, message):
    with pytest.raises(ConfigError, match=message):
        config.load(changed(path, value))


@pytest.mark.parametrize("section", LEARNABLE, ids=lambda section: section["kind"])
def test_an_embedding_of_any_kind_is_learned_by_mindeye(section):
    whole = changed(("targets", "further"), section)
    whole["decoders"]["further"] = {"kind": "mindeye", "target": "further"}
    assert config.load(whole).decoders["further"].target == "further"


def test_all_mistakes_are_reported_at_once(settings):
    settings["decoder"] = {}
    settings["split"]["protocoll"] = "x"
    with pytest.raises(ConfigError, match=r"(?s)split\.protocoll.*`decoder`|`decoder`.*split\.protocoll"):
        config.load(settings)


def test_the_settings_cannot_be_changed_later(settings):
    loaded = config.load(settings)
    with pytest.raises(ValueError, match="frozen"):
        loaded.split.protocol = "random"


@pytest.mark.parametrize("path", ["config/schema.json", "config/defaults.yaml"])
def test_the_generated_files_are_in_sync(path):
    expected = documentation.generated()[path]
    assert (REPOSITORY / path).read_text() == expected, "run `python -m percept.documentation`"


def test_every_setting_is_described():
    undescribed = [
        f"{name}.{field}"
        for name, section in config.schema()["$defs"].items()
        for field, body in section.get("properties", {}).items()
        if not body.get("description") and "$ref" not in body and "const" not in body
        and not {"$ref"} & {key for option in body.get("anyOf", body.get("oneOf", [])) for key in option}
    ]  # fmt: skip
    assert undescribed == []


def test_every_setting_has_a_reader():
    """A setting that nobody reads is a promise that nobody keeps."""
    names = {
        field
        for section in [*config.schema()["$defs"].values(), config.schema()]
        for field in section.get("properties", {})
    }
    folders = [REPOSITORY / folder for folder in ("src", "rules", "workflow/scripts")]
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".smk"}]
    paths = [path for path in paths if path.name not in {"config.py", "arrays_config.py"}]
    sources = [path.read_text() for path in (*paths, REPOSITORY / "Snakefile")]
    unread = {n for n in names if not any(f".{n}" in s or f'"{n}"' in s or f"{n}=" in s for s in sources)}
    assert unread == set()
