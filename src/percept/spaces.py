"""Which targets something can work with: a space is told by settings of the target, not by its shape."""

from collections.abc import Iterable, Mapping
from typing import Any

from percept.sections import Section

Space = Mapping[str, str]  # the settings that make a target one of this space


def fits(section: Section, wanted: Iterable[Space]) -> bool:
    """Whether a target is of one of these spaces."""
    return any(
        all(getattr(section, key, None) == value for key, value in settings.items()) for settings in wanted
    )


def require_learnable(name: str, decoder: Any, field: str, targets: Mapping[str, Section]) -> None:  # noqa: ANN401
    """Refuse a target that the decoder `name` cannot learn, or learn from, as what its setting `field` names.

    Raises
    ------
    ValueError : the target is of another space than `decoder.demands`; what would fit is named
    """
    wanted = decoder.demands.get(field)
    named = getattr(decoder, field)
    if wanted is None or fits(targets[named], wanted):
        return
    fitting = [other for other, one in targets.items() if fits(one, wanted)]
    hint = f"name such a target ({', '.join(fitting)})" if fitting else "add such a target, and name it"
    raise ValueError(
        f"`decoders.{name}.{field}`: a decoder of kind `{decoder.kind}` takes a target {listed(wanted)} "
        f"here, but {named!r} is {target(targets[named])}. It would be trained for hours towards numbers "
        f"that it is not made for, or fail once they are loaded: {hint}"
    )


def generator(section: Section) -> str:
    """A generator with the settings that decide what it reads."""
    names = ("kind", "backbone", "lowlevel_backbone", "ranking_backbone")
    return f"the generator {_braced({key: getattr(section, key, None) for key in names})}"


def target(section: Section) -> str:
    """A target with the settings that decide what its numbers mean."""
    names = ("kind", "backbone", "output", "colour", "architecture", "weights")
    return _braced({key: getattr(section, key, None) for key in names})


def listed(spaces: Iterable[Space]) -> str:
    """Spaces of which any will do."""
    return " or ".join(map(_braced, spaces))


def _braced(settings: Mapping[str, Any]) -> str:
    """Settings as a configuration writes them, those that are not set left out."""
    given = {key: value for key, value in settings.items() if value is not None}
    return "{" + ", ".join(f"{key}: {value}" for key, value in given.items()) + "}"
