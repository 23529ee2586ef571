"""Presets: named sets of settings, such as those that restore what public code does."""

from collections.abc import Mapping
from typing import Any

from percept.sections import Section

Preset = Mapping[str, Any]


def filled(given: Any, presets: Mapping[str, Preset], switch: str = "compat") -> Any:  # noqa: ANN401 (whatever a config file holds)
    """The settings given, and the preset that their `switch` names in every place that they leave open.

    Sections are filled key by key; a section that is switched off (null) stays off.
    """
    preset = presets.get(given.get(switch)) if isinstance(given, Mapping) else None
    return given if preset is None else _under(given, preset)


def _under(given: Preset, preset: Preset) -> dict[str, Any]:
    """`given` over `preset`, sections within sections likewise."""
    joined = {**preset, **given}
    for key in preset.keys() & given.keys():
        own = given[key].model_dump(exclude_unset=True) if isinstance(given[key], Section) else given[key]
        if isinstance(own, Mapping) and isinstance(preset[key], Mapping):
            joined[key] = _under(own, preset[key])
    return joined
