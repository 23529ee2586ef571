"""The systems of the field and which entries of a configuration belong to which: `systems.yml`, checked."""

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml
from pydantic import Field

from percept.config import Section

ANY = "any"  # of a setting that only has to be given


class Step(Section):
    """One step of how a system works."""

    title: str
    text: str


class System(Section):
    """A published system, explained, and what makes an entry of the configuration one of it."""

    title: str
    source: str = Field(description="Who made it, when, where to read about it.")
    idea: str
    steps: tuple[Step, ...]
    differs: tuple[str, ...] = Field(description="What is done otherwise here than in its public code.")
    reads: str = Field(description="How to read its page.")
    decoders: tuple[dict[str, str], ...] = Field((), description="Settings that make a decoder one of it.")
    generators: tuple[str, ...] = Field((), description="Kinds of generators that are its own.")
    figures: tuple[str, ...] = Field((), description="Figures of the report that are about it alone.")


class Members(NamedTuple):
    """Names of the decoders and the reconstructions of a system, in the order of the configuration."""

    decoders: tuple[str, ...]
    reconstructions: tuple[str, ...]


@cache
def load() -> dict[str, System]:
    """The systems that Percept knows, in the order in which the report lists them."""
    text = resources.files(__package__).joinpath("systems.yml").read_text(encoding="utf-8")
    return {name: System.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def members(
    decoders: Mapping[str, Mapping[str, Any]], reconstructions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Members]:
    """System -> its entries of a configuration, systems without one left out.

    A decoder belongs to the first system that claims its settings. A reconstruction belongs to the system
    whose own generator it uses, else to that of its first decoder that has one; some belong to none.

    Parameters
    ----------
    decoders, reconstructions : these sections of a configuration, as plain data
    """
    of_decoder = {name: _claims(settings) for name, settings in decoders.items()}
    of_images = {name: _origin(settings, of_decoder) for name, settings in reconstructions.items()}
    found = {
        system: Members(
            tuple(name for name, owner in of_decoder.items() if owner == system),
            tuple(name for name, owner in of_images.items() if owner == system),
        )
        for system in load()
    }
    return {system: own for system, own in found.items() if any(own)}


def _claims(settings: Mapping[str, Any]) -> str | None:
    """The system of a decoder with these settings."""
    return next(
        (name for name, one in load().items() if any(_fits(settings, wanted) for wanted in one.decoders)),
        None,
    )


def _fits(settings: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    given = {key: settings.get(key) for key in wanted}
    return all(
        given[key] == value or (value == ANY and given[key] is not None) for key, value in wanted.items()
    )


def _origin(settings: Mapping[str, Any], of_decoder: Mapping[str, str | None]) -> str | None:
    """The system of a reconstruction: by its generator, else by its decoders."""
    kind = settings["generator"]["kind"]
    own = next((name for name, one in load().items() if kind in one.generators), None)
    named = (settings.get(role) for role in ("semantic", "text", "lowlevel"))
    return own or next((of_decoder[name] for name in named if name and of_decoder.get(name)), None)
