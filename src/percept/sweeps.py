"""Sweeps: a decoder trained once for every combination of values of some of its settings.

    sweeps:
      roi-by-batch: {decoder: lowlevel, mask: [set1, set2, set3, all], training.batch_size: [16, 32, 64]}

Any setting of the decoder can be swept, `section.setting` where it lies in a section of its own; a name
without its section will do where only one setting has it. Every combination is a decoder of its own, trained
and scored by the rules of all others, with a name that says what it is.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import product
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from percept.sections import Identifier, Section, nearest

OWN = ("decoder", "fields", "members")  # settings of a sweep; every other key is a setting that it sweeps
LONGEST = 150  # characters of a decoder's name: it names folders


class SweepConfig(Section):
    """A decoder trained with every combination of values: each further key is a setting, with its values.

    Settings that lie in a section are written with a dot (training.batch_size).
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"additionalProperties": {"type": "array", "minItems": 1}},
    )

    decoder: Identifier = Field(description="Entry of `decoders` whose other settings all of them have.")
    fields: dict[str, tuple[Any, ...]] = Field(
        {}, min_length=1, description="Setting -> its values; the same as writing settings beside `decoder`."
    )

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a config file holds)
        return _gather(given)

    def grid(self, name: str) -> dict[str, dict[str, Any]]:
        """Name of each decoder of the sweep `name` -> its values, by setting."""
        return {member_name(name, values): values for values in combinations(self.fields)}


def _gather(given: Any) -> Any:  # noqa: ANN401
    """The settings of a sweep with every key that is none of its own moved to `fields`."""
    if not isinstance(given, Mapping):
        return given
    fields = {**given.get("fields", {}), **{key: value for key, value in given.items() if key not in OWN}}
    return {key: given[key] for key in OWN if key in given} | {"fields": fields}


def combinations(fields: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """Every combination of values, the first setting varying slowest."""
    for values in product(*fields.values()):
        yield dict(zip(fields, values, strict=True))


def member_name(sweep: str, values: Mapping[str, Any]) -> str:
    """Name of a decoder of a sweep: `roi-by-batch_mask-set1_batch_size-16`."""
    return "_".join([sweep, *(f"{path.rpartition('.')[2]}-{_word(value)}" for path, value in values.items())])


def _word(value: Any) -> str:  # noqa: ANN401
    """A value as part of a name: what a file name does not take becomes a hyphen."""
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def expanded(given: Any, kinds: Mapping[str, type[Section]]) -> Any:  # noqa: ANN401
    """The configuration with the decoders of its sweeps filled in.

    A sweep whose decoder does not exist or has no valid kind stays as it is: the checks that follow say so.

    Parameters
    ----------
    given : what a config file holds
    kinds : kind of decoder -> its section

    Raises
    ------
    ValueError : no such setting, no list of values, combinations of one name, or members of another grid
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("sweeps"), Mapping):
        return given
    decoders = given.get("decoders") or {}
    sweeps = {}
    for name, settings in given["sweeps"].items():
        sweep = _gather(settings)
        base = decoders.get(sweep.get("decoder")) if isinstance(sweep, Mapping) else None
        kind = kinds.get(base.get("kind")) if isinstance(base, Mapping) else None
        sweeps[name] = sweep if kind is None else _filled(name, sweep, base, kind)
        if kind is not None and sweep.get("members"):  # a configuration that was printed and is read again
            sweeps[name]["members"] = _of_grid(name, sweep["members"], sweeps[name]["fields"], kind)
    return {**given, "sweeps": sweeps}


def _filled(name: str, sweep: dict[str, Any], base: Mapping[str, Any], kind: type[Section]) -> dict[str, Any]:
    known = paths(kind)
    fields = {
        resolve(path, known, name): _values(name, path, sweep["fields"][path]) for path in sweep["fields"]
    }
    members: dict[str, dict[str, Any]] = {}
    for values in combinations(fields):
        member = member_name(name, values)
        if member in members or len(member) > LONGEST:
            raise ValueError(
                f"`sweeps.{name}`: the decoder of the values {values} would be called {member!r}, "
                + ("as another one of this sweep" if member in members else "which is too long for a folder")
                + ": shorten the name of the sweep, or its values, so that names differ"
            )
        members[member] = with_values(base, values)
    return {**sweep, "fields": fields, "members": members}


def _of_grid(
    name: str, members: Mapping[str, Any], fields: Mapping[str, Any], kind: type[Section]
) -> Mapping[str, Any]:
    """Members that were given, if they are those of the grid, each with its values."""
    grid = {member_name(name, values): values for values in combinations(fields)}
    foreign = sorted(grid.keys() ^ members.keys()) or [
        member for member, values in grid.items() if not _has(kind, members[member], values)
    ]
    if foreign:
        raise ValueError(
            f"`sweeps.{name}.members` is made from the other settings, and what is given for "
            f"{', '.join(foreign)} is not what they say, so the table would show values that nothing was "
            "trained with: remove `members`"
        )
    return members


def _has(kind: type[Section], settings: Any, values: Mapping[str, Any]) -> bool:  # noqa: ANN401
    """Whether a decoder of this kind has these values, whatever way they are written."""
    try:
        given = kind.model_validate(settings)
        return given == kind.model_validate(with_values(settings, values))
    except ValidationError:
        return False


def _values(name: str, path: str, values: Any) -> list[Any]:  # noqa: ANN401
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(
            f"`sweeps.{name}.{path}` is {values!r}, but a sweep needs a list of values of each setting: "
            "write them in brackets, or move the setting to the decoder if it has one value"
        )
    return list(values)


def paths(section: type[BaseModel], before: str = "") -> list[str]:
    """Settings that can be swept, those of sections within the section with a dot; all but the kind."""
    found = []
    for name, field in section.model_fields.items():
        inner = next((one for one in _types(field.annotation) if issubclass(one, BaseModel)), None)
        found += [] if name == "kind" else [before + name]
        found += paths(inner, f"{before}{name}.") if inner is not None else []
    return found


def _types(annotation: Any) -> Iterator[type]:  # noqa: ANN401 (any typing construct)
    """Classes in an annotation such as `PriorSettings | None`, not those of what a container holds."""
    if isinstance(annotation, type):
        yield annotation
    elif getattr(annotation, "__origin__", None) not in (dict, tuple, list):
        for argument in get_args(annotation):
            yield from _types(argument)


def resolve(path: str, known: list[str], sweep: str) -> str:
    """The setting that a key of a sweep means: itself, or the only one of that name in some section.

    Raises
    ------
    ValueError : no setting, or several, of that name; the nearest is named
    """
    ends = [one for one in known if one.endswith(f".{path}")]
    if path in known or len(ends) == 1:
        return path if path in known else ends[0]
    several = f", which several sections have ({', '.join(ends)})" if ends else ""
    raise ValueError(
        f"`sweeps.{sweep}.{path}` is no setting of its decoder{several}{nearest(path, ends or known)}"
    )


def with_values(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a decoder with some of them replaced, sections within it made where there are none."""
    made = deepcopy(dict(base))
    for path, value in values.items():
        here, (*parents, last) = made, path.split(".")
        for parent in parents:
            here[parent] = dict(here.get(parent) or {})
            here = here[parent]
        here[last] = deepcopy(value)
    return made


def settings_of(config: Mapping[str, Any], decoder: str) -> dict[str, Any]:
    """The settings of a decoder, of the config itself or of one of its sweeps, from checked plain data."""
    members = (sweep["members"] for sweep in config.get("sweeps", {}).values())
    return next(each[decoder] for each in (config["decoders"], *members) if decoder in each)
