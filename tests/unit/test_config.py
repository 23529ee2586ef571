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
        (("reconstructions", "linear"), "decoder", "ridge_pixel", r"names 'ridge_pixel'.*'ridge_pixels'"),
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
    sources = [
        path.read_text()
        for folder in ("src", "rules", "workflow/scripts")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in {".py", ".smk"} and path.name not in {"config.py", "arrays_config.py"}
    ]
    unread = {n for n in names if not any(f".{n}" in s or f'"{n}"' in s or f"{n}=" in s for s in sources)}
    assert unread == set()
