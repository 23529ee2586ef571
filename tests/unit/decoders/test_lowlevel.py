"""MindEye's low level as a decoder: its settings, the files that a training leaves, and what it learns."""

import pytest

from percept import config
from percept.config import ConfigError, DecoderConfig, kinds
from percept.decoders.lowlevel import LowLevelConfig

SWITCHES = {  # of `compat: mindeye1`: setting -> (default, as the public code does)
    "decayed": ("matrices", "all_but_biases"),
    "select": ("validation", "last"),
}


def settings(**given):
    return LowLevelConfig(target="latents", **given)


def test_lowlevel_is_registered():
    assert kinds("percept.decoders", DecoderConfig)["lowlevel"] is LowLevelConfig


def test_the_defaults_are_those_of_the_paper():
    found = settings()
    assert (found.training.epochs, found.training.batch_size, found.training.learning_rate) == (120, 8, 5e-4)
    assert found.repeats == "mixed" and found.losses.auxiliary == 0.1
    assert found.losses.l1 == pytest.approx(1 / 0.18215)


def test_setting_one_thing_of_the_training_leaves_the_rest_as_it_is_for_the_low_level():
    found = settings(training={"epochs": 3}).training
    assert (found.epochs, found.batch_size, found.learning_rate) == (3, 8, 5e-4)


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_is_right_by_default_and_set_by_the_preset_unless_given(name):
    default, new = SWITCHES[name]
    assert getattr(settings().training, name) == default
    assert getattr(settings(compat="mindeye1").training, name) == new
    given = settings(compat="mindeye1", training={name: default})
    assert getattr(given.training, name) == default
    assert f"training.{name}: {new}" in LowLevelConfig.model_fields["compat"].description


def test_the_preset_changes_nothing_but_these_switches():
    plain, preset = config.plain(settings()), config.plain(settings(compat="mindeye1"))
    differing = {key for key in plain["training"] if plain["training"][key] != preset["training"][key]}
    assert differing == set(SWITCHES)
    assert {key for key in plain if plain[key] != preset[key]} == {"training", "compat"}


@pytest.mark.parametrize("given", [{}, {"compat": "mindeye1"}, {"teacher": "a", "teacher_view": "b"}])
def test_checked_settings_survive_being_written_and_read(given):
    found = config.plain(settings(**given))
    assert config.plain(config.plugin("decoders", found)) == found


@pytest.mark.parametrize(
    ("given", "further"),
    [
        ({}, ()),
        ({"teacher": "dense"}, ("dense",)),
        ({"teacher": "dense", "teacher_view": "view"}, ("dense", "view")),
        ({"teacher": "dense", "teacher_view": "dense"}, ("dense",)),
        ({"teacher": "dense", "teacher_view": "view", "losses": {"auxiliary": 0}}, ()),
    ],
)
def test_a_teacher_is_read_where_its_loss_has_a_weight(given, further):
    assert settings(**given).further == further


def test_a_view_without_its_teacher_is_refused():
    with pytest.raises(ValueError, match=r"`teacher_view` names 'view'.* there is no `teacher`"):
        settings(teacher_view="view")


def test_a_teacher_that_is_no_target_is_refused_before_any_job():
    source = {
        "dataset": {"kind": "twin"},
        "targets": {"latents": {"kind": "vae_latent"}},
        "decoders": {"low": {"kind": "lowlevel", "target": "latents", "teacher": "dense"}},
    }
    with pytest.raises(ConfigError, match="'dense', which is no entry of `targets`"):
        config.load(source)
