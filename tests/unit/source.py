"""What the tests about the source code itself read: files, syntax trees, functions, imports."""

import ast
import functools
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
LIBRARY = sorted((REPOSITORY / "src").rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
SCRIPTS = sorted((REPOSITORY / "workflow/scripts").glob("*.py"))
# What one package brings and imports itself, so that its user need not name it.
BROUGHT_BY = {
    "botocore": "boto3",
    "urllib3": "boto3",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
    "huggingface_hub": "open-clip-torch",
}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def tracked() -> list[Path]:
    """Files under version control; none outside a checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return [REPOSITORY / name for name in listed.stdout.split("\0") if name]


class Function(NamedTuple):
    path: Path
    node: ast.FunctionDef | ast.AsyncFunctionDef

    def __str__(self) -> str:
        return f"{self.path}:{self.node.lineno} {self.node.name}"


def functions(paths: list[Path]) -> Iterator[Function]:
    for path in paths:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield Function(path, node)


def statements(node: Definition | ast.Module) -> list[ast.stmt]:
    """Body without its docstring."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def code_lines(path: Path, nodes: list[ast.stmt]) -> int:
    """Lines of code of some statements: neither blank, nor comment."""
    text = path.read_text(encoding="utf-8").splitlines()
    lines = {number for node in nodes for number in range(node.lineno, (node.end_lineno or 0) + 1)}
    return sum(
        bool(text[number - 1].strip()) and not text[number - 1].lstrip().startswith("#") for number in lines
    )


def body_lines(function: Function) -> int:
    """Lines of code of a function, its signature included."""
    body = statements(function.node)
    signature = function.node.body[0].lineno - function.node.lineno
    return max(signature, 1) + code_lines(function.path, body)


@functools.cache
def distributions() -> dict[str, str]:
    """Name of the package on PyPI, normalised, by the name that is imported."""
    found = importlib.metadata.packages_distributions()
    return {module: normal(names[0]) for module, names in found.items()}


def normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def third_party(path: Path) -> set[str]:
    """Packages, as PyPI names them, that a file imports anywhere, in functions too."""
    modules = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module.split(".")[0])
    foreign = modules - set(sys.stdlib_module_names) - {"percept"}
    return {BROUGHT_BY.get(module) or distributions().get(module, normal(module)) for module in foreign}
