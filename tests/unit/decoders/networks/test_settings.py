"""Settings of the networks: complete, described, and refused where they contradict themselves."""

import subprocess
import sys

import pytest

from percept.decoders.networks import settings
from percept.sections import Section

SECTIONS = [one for one in vars(settings).values() if isinstance(one, type) and issubclass(one, Section)]
SECTIONS.remove(Section)


def test_the_sections_are_those_known():
    assert {one.__name__ for one in SECTIONS} == {
        "MindEyeNetwork",
        "MindEyeLosses",
        "PriorSettings",
        "LowLevelNetwork",
        "LowLevelLosses",
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_is_described_and_has_a_default(section):
    assert section.model_fields
    for field in section.model_fields.values():
        assert field.description and not field.is_required()


def test_reading_the_settings_needs_no_torch():
    code = "import sys, percept.decoders.networks.settings; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"sampling_steps": 20}, "visits all 100 noise levels"),
        ({"timesteps": 50}, "set `sampling_steps` to 50"),
        ({"sampler": "ddim", "sampling_steps": 101}, "2 or more, up to 100"),
        ({"sampler": "ddim", "sampling_steps": 1}, "2 or more, up to 100"),
        ({"guidance": 2.0, "condition_dropout": 0.0}, "set `condition_dropout` above 0"),
    ],
)
def test_a_prior_that_could_not_be_sampled_is_refused(given, match):
    with pytest.raises(ValueError, match=match):
        settings.PriorSettings(**given)


@pytest.mark.parametrize("given", [{"sampler": "ddim", "sampling_steps": 20}, {"guidance": 2.0}])
def test_a_prior_that_can_be_sampled_is_accepted(given):
    assert settings.PriorSettings(**given).timesteps == 100


@pytest.mark.parametrize("repeats", settings.Repeats.__args__)
def test_every_policy_of_repeats_is_explained(repeats):
    assert f"`{repeats}`" in settings.REPEATS
