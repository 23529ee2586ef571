"""MindEye's high level as a decoder: its settings, the files that a training leaves, and what it learns."""

import pytest

from percept import config
from percept.config import DecoderConfig, kinds
from percept.decoders.mindeye import MindEyeConfig

SWITCHES = {  # of `compat: mindeye1`: setting -> (default, as the public code does)
    "repeats": ("sampled", "cycled"),
    "losses.fixed_points": ("added", "assigned"),
    "losses.mixed_prior": ("dropped", "kept"),
    "prior.relative_bias": ("symmetric", "causal"),
    "training.decayed": ("matrices", "all_but_biases"),
    "training.select": ("validation", "last"),
}


def nested(place, value):
    """{'a': {'b': value}} of 'a.b'."""
    for key in reversed(place.split(".")):
        value = {key: value}
    return value


def at(section, place):
    for key in place.split("."):
        section = section[key]
    return section


def settings(**given):
    return config.plain(MindEyeConfig(target="tokens", **given))


def leaves(section, path=""):
    for key, value in section.items():
        yield from leaves(value, f"{path}{key}.") if isinstance(value, dict) else [(path + key, value)]


def test_mindeye_is_registered():
    assert kinds("percept.decoders", DecoderConfig)["mindeye"] is MindEyeConfig


@pytest.mark.parametrize(("place", "value"), [(place, new) for place, (_, new) in SWITCHES.items()])
def test_each_switch_is_right_by_default_and_set_by_the_preset(place, value):
    default, _ = SWITCHES[place]
    assert at(settings(), place) == default
    assert at(settings(compat="mindeye1"), place) == value


def test_the_preset_changes_nothing_but_these_switches():
    plain, preset = dict(leaves(settings())), dict(leaves(settings(compat="mindeye1")))
    assert {place for place in plain if plain[place] != preset[place]} == {*SWITCHES, "compat"}


@pytest.mark.parametrize("place", SWITCHES)
def test_a_switch_that_is_given_keeps_its_value_while_the_others_follow_the_preset(place):
    found = settings(compat="mindeye1", **nested(place, SWITCHES[place][0]))
    for other, (default, new) in SWITCHES.items():
        assert at(found, other) == (default if other == place else new)


@pytest.mark.parametrize("given", [{}, {"compat": "mindeye1"}, {"compat": "mindeye1", "prior": None}])
def test_checked_settings_survive_being_written_and_read(given):
    found = settings(**given)
    assert config.plain(config.plugin("decoders", found)) == found


def test_every_switch_is_named_where_the_preset_is_described():
    text = MindEyeConfig.model_fields["compat"].description
    for place, (_, value) in SWITCHES.items():
        assert f"{place}: {value}" in text


@pytest.mark.parametrize(
    "losses",
    [
        {"first": "none", "second": "none"},
        {"first": "none"},
        {"second": "none"},
        {"first": "none", "switch": 1},
        {"second": "none", "switch": 0},
    ],
)
@pytest.mark.parametrize("untrained", [{"prior": None}, {"losses": {"prior": 0}}])
def test_epochs_without_any_loss_are_refused(losses, untrained):
    given = untrained | {"losses": {**losses, **untrained.get("losses", {})}}
    with pytest.raises(ValueError, match=r"epochs with nothing to learn: `losses.first` or"):
        MindEyeConfig(target="tokens", **given)


@pytest.mark.parametrize(
    "given",
    [
        {"losses": {"first": "none"}},
        {"losses": {"first": "none", "second": "none"}},
        {"losses": {"first": "none", "second": "none", "mse": 1}, "prior": None},
        {"losses": {"first": "none", "switch": 0}, "prior": None},
        {"losses": {"second": "none", "switch": 1}, "prior": None},
        {"prior": None},
        {"losses": {"prior": 0}},
    ],
)
def test_ablations_that_leave_something_to_learn_are_accepted(given):
    assert MindEyeConfig(target="tokens", **given).kind == "mindeye"


@pytest.mark.parametrize(
    ("given", "n"),
    [
        ({}, 1),
        ({"prior": {"samples": 16}}, 16),
        ({"prior": None}, 0),
        ({"prior": {"samples": 16}, "losses": {"prior": 0}}, 0),
    ],
)
def test_as_many_samples_are_kept_as_a_trained_prior_draws(given, n):
    assert MindEyeConfig(target="tokens", **given).samples == n


@pytest.mark.parametrize(("device", "devices", "n"), [("auto", 1, 1), ("cpu", 2, 0), ("cuda", 4, 4)])
def test_a_cluster_is_asked_for_the_devices_of_training(device, devices, n):
    training = {"device": device, "devices": devices, "batch_size": 32}
    assert MindEyeConfig(target="tokens", training=training).n_gpus == n
