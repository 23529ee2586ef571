"""What made a result: the code that a script reaches, and the record of a run."""

import ast
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from percept.files import hash_text, sha256

PACKAGE = Path(__file__).parent
STATEMENTS = ("body", "orelse", "finalbody", "handlers", "cases")  # fields of statements that hold statements
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
# What a setting means is written where it is used, and its value is tracked as a parameter of the rule; how a
# log looks, or what is said where memory lacks, changes no result. Counting these would retrain every network
# for a new option elsewhere.
NOT_COUNTED = tuple(
    PACKAGE / f"{name}.py"
    for name in ("config", "references", "sections", "gan_settings", "sweeps", "log", "shortage")
)
# How bytes arrive does not change them: they are verified. Counting this would fetch NSD's betas again.
NOT_COUNTED += tuple(
    PACKAGE / "datasets" / "download" / f"{name}.py"
    for name in ("__init__", "bucket", "checksum", "plan", "progress", "transfer")
)
# Nor does how weights arrive, or how the catalogue writes a network down: another revision is fetched anew,
# which shows in the manifest that a job reads and in the fingerprint of its features. A new entry, or an
# address that moved, must not encode every stimulus again.
NOT_COUNTED += tuple(
    PACKAGE / "backbones" / f"{name}.py" for name in ("catalogue", "convert", "entry", "fetch", "transfer")
)
PACKAGES_NAMED = (
    "percept", "snakemake", "numpy", "scipy", "pandas", "pyarrow", "h5py", "nibabel", "nilearn", "himalaya",
    "scikit-learn", "scikit-image", "torch", "open_clip_torch", "isal", "boto3", "pydantic", "matplotlib",
)  # fmt: skip


def prefer_source(repository: str | Path) -> None:
    """Make jobs that this process starts import the library of a checkout, not an installed one.

    `code_version` hashes the checkout, so that is what has to run.
    """
    os.environ["PYTHONPATH"] = str(Path(repository, "src"))


def code_version(*names: str, without: Container[Path] | None = None) -> str:
    """Twelve hex digits over the source of modules and of all of `percept` that they import.

    Put into the `params` of a rule, it makes Snakemake rerun the rule when code that its script may reach was
    edited, and only then: comments, docstrings and formatting do not count, nor does touching a file, nor do
    the definitions of settings (their values are parameters already). `names` are modules
    (`percept.voxels.extract`) or paths of scripts. A module's whole source counts, whichever of its functions
    is used; imports inside functions count as well. `without` is that of `closure`.

    Raises
    ------
    ValueError : a name is no module of percept and no file
    """
    digests = [f"{path.name} {_source(path).meaning}" for path in sorted(closure(names, without))]
    return hash_text("\n".join(digests))


def closure(names: Iterable[str], without: Container[Path] | None = None) -> set[Path]:
    """Source files of the modules or scripts `names` and of every module of percept they import.

    What is in `without`, by default `NOT_COUNTED`, is left out, with what only it imports.
    """
    without = NOT_COUNTED if without is None else without
    waiting = [_path_of(name) for name in names]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found and path not in without:
            found.add(path)
            waiting += _source(path).imports
    return found


def _path_of(name: str) -> Path:
    path = Path(name) if name.endswith(".py") else _module_path(name)
    if path is None or not path.is_file():
        raise ValueError(f"{name!r} is neither a module of percept nor the path of a script")
    return path.resolve()


def _module_path(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return None
    base = PACKAGE.joinpath(*parts[1:])
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@dataclass(frozen=True)
class Source:
    """A file read once: the hash of what it does (its syntax tree without docstrings), and what it imports.

    Attributes
    ----------
    imports : modules of percept, with the packages they live in
    """

    meaning: str
    imports: tuple[Path, ...]


def _source(path: Path) -> Source:
    return _source_at(path, path.stat().st_mtime_ns)


@cache
def _source_at(path: Path, modified_ns: int) -> Source:
    """Every rule asks about much the same files; `modified_ns` keeps the cache honest in a long process."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, Documented) and _has_docstring(node):
            node.body[0] = ast.Pass()
    names |= {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    found = (_module_path(name) for name in sorted(names))
    return Source(hash_text(ast.dump(tree)), tuple(each.resolve() for each in found if each))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """A tree and every statement in it: expressions, most of a tree, hold neither imports nor docstrings."""
    yield tree
    for part in STATEMENTS:
        for inner in getattr(tree, part, ()):
            yield from _statements(inner)


def _has_docstring(node: Documented) -> bool:
    first = node.body[0] if node.body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def manifest(config: dict[str, Any], inputs: Iterable[str | Path], repository: Path) -> dict[str, Any]:
    """The record of a run: configuration, versions, git commit, machine, and hashes of its inputs.

    Parameters
    ----------
    config : the configuration with its defaults filled in
    inputs : files whose SHA-256 is recorded, by path
    repository : folder whose git commit is recorded; "unknown" outside a checkout
    """
    return {
        "config": config,
        "config_hash": hash_text(repr(sorted(config.items()))),
        "git": git_state(repository),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "inputs": {str(path): sha256(path) for path in sorted(map(str, inputs))},
    }


def _versions() -> dict[str, str]:
    known = {}
    for name in PACKAGES_NAMED:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            known[name] = "not installed"
    return known


def git_state(repository: Path) -> dict[str, Any]:
    """Commit of a checkout and whether tracked files differ from it."""
    commit = _git(repository, "rev-parse", "HEAD")
    changed = _git(repository, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit or "unknown", "modified": bool(changed)}


def _git(repository: Path, *arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except FileNotFoundError:  # no git on this machine: the record says so
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
