"""The challenge's tables of region names, `mapping_{class}.npy`, read without unpickling.

The release saves each table, a dict {number: name}, as an object array of no dimensions: a short npy header,
then a pickle. Unpickling runs whatever the file says. Here the pickle is only taken apart (`pickletools` does
not execute) by a machine with a stack that knows the few operations such a table needs. It builds numbers,
texts, tuples, lists and dicts; names of functions stay names, and what the file wants called is noted and
not called. Any other operation, or any other name, is refused.

A few bytes can share one value so often that its hash, or its text, takes for ever: what stands in a table is
known to be a number or a name before either is asked for.
"""

import io
import json
import pickletools
import tokenize
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from percept.files import PerceptError
from percept.shortage import damage

LONGEST = 1 << 16  # bytes; the released tables have a few hundred
NAMED = {  # functions by which numpy's own pickles rebuild an array; none of them is ever called here
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
}
TWICE = "it gives one number two names"
UNREADABLE = (  # operands that do not fit, and headers that Python's own parser gives up on
    ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError, MemoryError,
    tokenize.TokenError,
)  # fmt: skip
SUFFIXES = (".json", ".csv", ".npy")  # plain text first: who wrote it beside the release means it


class _Mark:
    """Where a group of operands begins."""


@dataclass
class _Noted:
    """What the pickle wanted to be made: the function's name, its operands, and the state put into it."""

    name: str
    operands: Any = None
    state: Any = None


@dataclass
class _Machine:
    """Operands and remembered values of a pickle that is taken apart."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def group(self) -> list[Any]:
        """Operands since the last mark, which goes too."""
        at = next((at for at in reversed(range(len(self.stack))) if isinstance(self.stack[at], _Mark)), None)
        if at is None:
            raise ValueError("it ends a group that it never began")
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def last(self, n: int) -> list[Any]:
        """The last `n` operands, taken off."""
        taken = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return taken


def _push(machine: _Machine, value: Any) -> None:  # noqa: ANN401
    machine.stack.append(value)


def _name(machine: _Machine, name: str) -> None:
    if name not in NAMED:
        raise ValueError(f"it names {name.replace(' ', '.')}, which no table of names needs")
    machine.stack.append(_Noted(name))


def _stack_name(machine: _Machine, _: Any) -> None:  # noqa: ANN401
    parts = machine.last(2)
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("it names a function by something other than text")
    _name(machine, " ".join(parts))


def _call(machine: _Machine, _: Any) -> None:  # noqa: ANN401
    function, operands = machine.last(2)
    machine.stack.append(_Noted(function.name, operands))


def _state(machine: _Machine, _: Any) -> None:  # noqa: ANN401
    (state,) = machine.last(1)
    machine.stack[-1].state = state


def _set_items(machine: _Machine, values: list[Any]) -> None:
    keys, names, table = values[::2], values[1::2], machine.stack[-1]
    numbered = all(type(key) is int for key in keys) and all(isinstance(name, str) for name in names)
    if not numbered or not isinstance(table, dict):
        raise ValueError("it holds something other than numbers and names of regions")
    if len(set(keys)) != len(keys) or set(keys) & set(table):
        raise ValueError(TWICE)
    table.update(zip(keys, names, strict=True))


def _append(machine: _Machine, values: list[Any]) -> None:
    machine.stack[-1].extend(values)


Operation = Callable[[_Machine, Any], None]
OPERATIONS: dict[str, Operation] = {
    **dict.fromkeys(
        (
            "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES",
            "SHORT_BINBYTES",
        ),
        _push,
    ),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    "MARK": lambda machine, _: _push(machine, _Mark()),
    "EMPTY_TUPLE": lambda machine, _: _push(machine, ()),
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.group())),
    "TUPLE1": lambda machine, _: _push(machine, tuple(machine.last(1))),
    "TUPLE2": lambda machine, _: _push(machine, tuple(machine.last(2))),
    "TUPLE3": lambda machine, _: _push(machine, tuple(machine.last(3))),
    "SETITEM": lambda machine, _: _set_items(machine, machine.last(2)),
    "SETITEMS": lambda machine, _: _set_items(machine, machine.group()),
    "APPEND": lambda machine, _: _append(machine, machine.last(1)),
    "APPENDS": lambda machine, _: _append(machine, machine.group()),
    "GLOBAL": _name,
    "STACK_GLOBAL": _stack_name,
    "REDUCE": _call,
    "BUILD": _state,
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, at: _push(machine, machine.memo[at])),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"), lambda machine, at: machine.memo.__setitem__(at, machine.stack[-1])
    ),
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
}  # fmt: skip


def read(folder: Path, atlas: str) -> dict[int, str]:
    """Number -> name of the regions of a class of the challenge, 0 ("Unknown") left out.

    Read from `mapping_{class}.json` or `.csv` (number, name) where one lies in the folder, else from the
    released `mapping_{class}.npy`.

    Raises
    ------
    PerceptError : no table is there, or what is there is no table {number: name}
    """
    paths = [folder / f"mapping_{atlas}{suffix}" for suffix in SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise PerceptError(
            f"{paths[-1]} is not there, so the numbers in the masks of {atlas} have no names. Put the "
            f'released file there, or a {paths[0].name} such as {{"1": "V1v"}}.'
        )
    readers = {".json": _from_json, ".csv": _from_csv, ".npy": _from_npy}
    try:
        return _checked(readers[path.suffix](path))
    except damage(path, *UNREADABLE) as error:
        raise PerceptError(
            f"{path} is no table of region names ({error}). Such a file can run foreign code when it is "
            f"loaded, so nothing but a dict of numbers and names is read from it: write the names into "
            f'{paths[0].name} instead, such as {{"1": "V1v"}}.'
        ) from error


def _from_json(path: Path) -> dict[int, Any]:
    return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_numbered)


def _numbered(pairs: Iterable[tuple[str, Any]]) -> dict[int, Any]:
    """A table from pairs of texts, of which none may mean the number of another (1 and 01)."""
    pairs = list(pairs)
    table = {int(number): name for number, name in pairs}
    if len(table) != len(pairs):
        raise ValueError(TWICE)
    return table


def _from_csv(path: Path) -> dict[int, Any]:
    rows = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [(number.strip(), name.strip()) for number, name in rows]
    rows = rows[1:] if rows and not rows[0][0].isdigit() else rows  # a header line
    return _numbered(rows)


def _from_npy(path: Path) -> dict[int, Any]:
    data = path.read_bytes()
    if len(data) > LONGEST:
        raise ValueError(f"it has {len(data)} bytes, and a table of names a few hundred")
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, _, dtype = header[version](file)
    if shape != () or not dtype.hasobject:
        raise ValueError(f"it is an array of {dtype} with the shape {shape}")
    return taken_apart(file.read())


def taken_apart(pickled: bytes) -> dict[int, Any]:
    """The one dict in numpy's pickle of an object array without dimensions; nothing of it is executed.

    Raises
    ------
    ValueError : an operation or a name that such a table does not need, or no such array
    IndexError, KeyError, AttributeError, TypeError : operands that do not fit
    """
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name not in OPERATIONS:
            raise ValueError(f"it uses the operation {opcode.name}, which no table of names needs")
        OPERATIONS[opcode.name](machine, argument)
    (made,) = machine.stack
    if not isinstance(made, _Noted) or not made.name.endswith("_reconstruct"):
        raise ValueError("it holds no array")
    *_, content = made.state
    (table,) = content
    return table


def _checked(table: dict[int, Any]) -> dict[int, str]:
    if not isinstance(table, dict):
        raise ValueError(f"it holds a {type(table).__name__} and no dict")
    for number, name in table.items():
        if isinstance(number, bool) or not (isinstance(number, int) and isinstance(name, str)):
            raise ValueError(f"it says {number!r}: {name!r}, which is no number and name of a region")
        if number < 0 or not name:
            raise ValueError(f"it says {number!r}: {name!r}, which is no number and name of a region")
    regions = {number: name for number, name in table.items() if number > 0}
    twice = sorted(name for name, n in Counter(regions.values()).items() if n > 1)
    if twice or not regions:
        raise ValueError(f"it gives two numbers the name {twice[0]!r}" if twice else "it names no region")
    return regions
