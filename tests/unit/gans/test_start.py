"""From plain data, as the rule passes it on, to a folder that holds a network."""

from percept.backbones.gan import loading
from percept.gans.start import start
from tests.unit.gans import pools


def test_a_training_starts_from_what_its_rule_is_given(tmp_path):
    given, place, *_ = pools.write(tmp_path)
    settings = pools.section(training={"steps": 2}).model_dump(mode="json")
    start(settings, given, place, [pools.TARGET], tmp_path / "own", "code")
    assert loading.load(tmp_path / "own").size.side == pools.SIDE
