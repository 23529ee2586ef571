"""A preset fills what is left open, and nothing else."""

import pytest

from percept.decoders.compat import filled
from percept.decoders.networks.settings import MindEyeLosses

PRESET = {"code": {"repeats": "cycled", "losses": {"a": 1, "b": 2}, "prior": {"c": 3}}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"repeats": "cycled", "losses": {"a": 1, "b": 2}, "prior": {"c": 3}}),
        ({"repeats": "sampled"}, {"repeats": "sampled", "losses": {"a": 1, "b": 2}, "prior": {"c": 3}}),
        ({"losses": {"b": 5}}, {"repeats": "cycled", "losses": {"a": 1, "b": 5}, "prior": {"c": 3}}),
        ({"losses": {"z": 9}}, {"repeats": "cycled", "losses": {"a": 1, "b": 2, "z": 9}, "prior": {"c": 3}}),
        ({"prior": None}, {"repeats": "cycled", "losses": {"a": 1, "b": 2}, "prior": None}),
    ],
)
def test_what_is_given_wins_key_by_key(given, expected):
    assert filled({"compat": "code", **given}, PRESET) == {"compat": "code", **expected}


def test_a_preset_may_be_named_by_another_setting():
    given = {"variant": "code", "losses": {"b": 5}}
    assert filled(given, PRESET, "variant")["losses"] == {"a": 1, "b": 5}
    assert filled(given, PRESET) == given


@pytest.mark.parametrize(
    "given", [{}, {"compat": None}, {"compat": "other"}, {"losses": {"b": 5}}, "no section"]
)
def test_without_its_name_a_preset_changes_nothing(given):
    assert filled(given, PRESET) == given


def test_of_a_section_in_python_only_what_was_set_wins():
    preset = {"code": {"losses": {"fixed_points": "assigned", "switch": 0.5}}}
    found = filled({"compat": "code", "losses": MindEyeLosses(switch=0.1)}, preset)
    assert found["losses"] == {"fixed_points": "assigned", "switch": 0.1}
