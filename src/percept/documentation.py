"""The files about the configuration that are generated from it: `python -m percept.documentation`."""

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from percept import config
from percept.files import write_text

WIDTH = 100
HEADER = """\
# Every setting, its default and what it means. Generated from src/percept/config.py by
# `python -m percept.documentation`; not read by anything. A value of <required> has no default.
"""


def schema_json() -> str:
    """JSON schema of the configuration, for editors."""
    return json.dumps(config.schema(), indent=2, sort_keys=True) + "\n"


def defaults_yaml() -> str:
    """Every section and kind with its defaults, the descriptions as comments."""
    lines = list(_fields(config.model(), ""))
    return HEADER + "\n".join(lines) + "\n"


def _fields(section: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield from _comment(field.description, indent)
        nested = [kind for kind in _sections(field.annotation) if kind is not section]
        if not nested:
            yield f"{indent}{name}: {_value(name, field)}"
            continue
        yield f"{indent}{name}:"
        for kind in nested:
            yield from _nested(kind, field, indent + "  ", one_of_many=len(nested) > 1)


def _nested(kind: type[BaseModel], field: FieldInfo, indent: str, *, one_of_many: bool) -> Iterator[str]:
    yield from _comment(kind.__doc__, indent)
    named = getattr(field.annotation, "__origin__", None) is dict
    if named:
        yield f"{indent}<name>:"
        indent += "  "
    yield from _fields(kind, indent)
    if one_of_many:
        yield ""


def _sections(annotation: Any) -> list[type[BaseModel]]:  # noqa: ANN401 (any typing construct)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _value(name: str, field: FieldInfo) -> str:
    if field.is_required():
        options = get_args(field.annotation)
        return str(options[0]) if name == "kind" and options else "<required>"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "<required>"
    plain = json.loads(json.dumps(default, default=str))
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _comment(text: str | None, indent: str) -> list[str]:
    paragraph = " ".join((text or "").split("\n\n")[0].split())
    return textwrap.wrap(paragraph, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def generated() -> dict[str, str]:
    """Content of each generated file by its path in the repository."""
    return {"config/schema.json": schema_json(), "config/defaults.yaml": defaults_yaml()}


def main() -> None:
    """Write the generated files below the working directory."""
    for path, text in generated().items():
        write_text(text, Path(path))


if __name__ == "__main__":
    main()
